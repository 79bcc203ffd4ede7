package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/wal"
	"walden/walspool"
)

const (
	prefetcherRole = "prefetcher"

	// atOnce is how many segments are downloaded in parallel.
	atOnce = 4

	// maxRun bounds how much of the archive is known from one listing.
	maxRun = 1000

	// look is how often a prefetcher looks where recovery is.
	look = 20 * time.Millisecond

	// linger is how long a prefetcher with a full window waits for recovery to go
	// on, because the next one would have to connect anew.
	linger = time.Second
)

// PrefetchOptions say how a window is filled. Window is required.
type PrefetchOptions struct {
	Window     *Window
	Identities []codec.Identity

	// Alive reports whether the server still is that recovers. nil means that it is.
	Alive func() bool
}

// Prefetch fills the window with the segments that follow the one that was handed
// over, verified as Fetch does, and goes on as long as recovery does. It ends
// when the window is full and recovery takes nothing from it for a second, at the
// end of the archive or at a hole, when the server is gone, and at the first error.
// It returns at once where another process is at it. It makes one listing, and no
// request for what is not there.
func Prefetch(ctx context.Context, repo catalog.Cluster, handed wal.Segment, opts PrefetchOptions) (err error) {
	role, ok, err := opts.Window.spool.Hold(prefetcherRole)
	if err != nil || !ok {
		return err
	}
	defer func() { err = errors.Join(err, role.Close()) }()
	run, err := repo.RunAfter(ctx, handed, opts.Window.size, maxRun)
	if err != nil {
		return fmt.Errorf("look for what follows %s: %w", handed, err)
	}
	p := &prefetcher{PrefetchOptions: opts, repo: repo, handed: handed, run: run, busy: map[wal.Segment]bool{}}
	return p.work(ctx)
}

type prefetcher struct {
	PrefetchOptions
	repo   catalog.Cluster
	handed wal.Segment   // when it began
	run    []wal.Segment // what follows, and the archive has
	busy   map[wal.Segment]bool
}

// fetched tells how a download ended.
type fetched struct {
	segment wal.Segment
	err     error
}

// work is the loop. All downloads have ended when it returns.
func (p *prefetcher) work(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var downloads sync.WaitGroup
	defer downloads.Wait()
	defer cancel()
	done := make(chan fetched, atOnce)
	tick := time.NewTicker(look)
	defer tick.Stop()
	lastMove, lastAsked := time.Now(), wal.Segment{}
	for {
		if p.Alive != nil && !p.Alive() {
			return nil
		}
		next, asked, more, err := p.next()
		if err != nil {
			return err
		}
		if asked != lastAsked || len(p.busy) > 0 {
			lastMove, lastAsked = time.Now(), asked
		}
		for _, s := range next {
			p.busy[s] = true
			downloads.Go(func() { done <- fetched{s, p.download(ctx, s)} })
		}
		if len(p.busy) == 0 && (!more || time.Since(lastMove) >= linger) {
			return nil
		}
		select {
		case f := <-done:
			delete(p.busy, f.segment)
			if f.err != nil {
				return f.err
			}
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next tidies the window up and returns what to download now, and for which segment
// recovery has asked last. more is false when this prefetcher has nothing to do any
// more: the archive ends, or recovery has begun anew from further back.
func (p *prefetcher) next() (list []wal.Segment, asked wal.Segment, more bool, err error) {
	// In this order: what was taken out of the window was asked for before.
	present, err := p.Window.present()
	if err != nil {
		return nil, asked, false, err
	}
	if asked = p.Window.hinted(askedHint(p.handed.Timeline)); asked.IsZero() {
		asked = p.handed
	}
	if asked.Less(p.handed) {
		return nil, asked, false, nil
	}
	plan := planWindow(asked, present, p.Window.ahead, p.Window.size)
	for _, s := range plan.remove {
		if err := p.Window.spool.RemoveFile(s.String()); err != nil {
			return nil, asked, false, err
		}
	}
	for _, s := range plan.want {
		if !slices.Contains(p.run, s) {
			if len(p.run) < maxRun {
				p.Window.Ended(s)
			}
			return list, asked, false, nil
		}
		if len(p.busy)+len(list) < atOnce && !p.busy[s] {
			list = append(list, s)
		}
	}
	return list, asked, true, nil
}

// download puts one segment into the window.
func (p *prefetcher) download(ctx context.Context, s wal.Segment) error {
	name := wal.FileName{Kind: wal.KindSegment, Timeline: s.Timeline, Segment: s}
	if err := p.Window.checkRoom(); err != nil {
		return err
	}
	t, err := p.Window.spool.TempFor(s.String()) // from now on, others wait for it
	if err != nil {
		return err
	}
	if err := p.receive(ctx, t, name); err != nil {
		return errors.Join(fmt.Errorf("prefetch %s: %w", s, err), t.Discard())
	}
	return p.Window.spool.Keep(t, s.String())
}

func (p *prefetcher) receive(ctx context.Context, t *walspool.Temp, name wal.FileName) error {
	r, err := p.repo.Store.Get(ctx, p.repo.WALKey(name), 0, -1)
	if err != nil {
		return err
	}
	fetch := FetchOptions{SegmentSize: p.Window.size, Identities: p.Identities}
	return errors.Join(receive(t, r, p.repo.SystemID, name, fetch), r.Close())
}
