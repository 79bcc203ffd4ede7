package archive

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
	"walden/storage"
)

// AheadOptions say how a file is stored, and how many more at the same time. The
// zero value of what it adds to PushOptions stores that one file.
type AheadOptions struct {
	PushOptions

	// Ahead is how many files are stored at once, the requested one included.
	// Files that PostgreSQL has not asked for yet are recorded in Spool; without
	// one there is no looking ahead.
	Ahead int

	// Later is the repository as it is used for those others, by a store that
	// does not try again what fails. nil means the store of the requested file.
	Later storage.Store
}

// AheadResult says what PushAhead did.
type AheadResult struct {
	PushResult
	Recorded bool     // an earlier call had stored the file: there was no request, and PushResult is empty
	Ahead    []string // stored and recorded besides
}

// When the requested file is stored, others that are on their way get twice the
// time that it took, within these bounds: to cut off what is nearly there costs
// more than to wait for it.
const (
	minGrace = 500 * time.Millisecond
	maxGrace = 2 * time.Second
)

// PushAhead is Push for archive_command, which asks for one file after the other:
// it stores files that PostgreSQL will ask for next at the same time, and records
// each, when the store has confirmed it, for the call that asks for it. What
// becomes of them changes nothing about the result, and hardly delays it.
//
// A record counts only for the very file that was stored, and only for the
// repository and the cluster that it was stored for.
func PushAhead(ctx context.Context, repo catalog.Cluster, path string, opts AheadOptions) (AheadResult, error) {
	name, err := base(path)
	if err != nil {
		return AheadResult{}, err
	}
	if opts.Spool == nil {
		res, err := Push(ctx, repo, path, opts.PushOptions)
		return AheadResult{PushResult: res}, err
	}
	stored := records{spool: opts.Spool, repository: opts.Repository, systemID: repo.SystemID}
	if stored.covers(name.String(), path) {
		stored.remove(name.String())
		return AheadResult{Recorded: true}, nil
	}
	a := ahead{repo: repo, dir: filepath.Dir(path), opts: opts.PushOptions, stored: stored}
	if opts.Later != nil {
		a.repo = catalog.Open(opts.Later, repo.SystemID)
	}
	a.start(ctx, a.choose(name.String(), opts.Ahead-1))
	began := time.Now()
	res, err := Push(ctx, repo, path, opts.PushOptions)
	if err == nil {
		a.wait(ctx, max(minGrace, min(maxGrace, 2*time.Since(began))))
	}
	return AheadResult{PushResult: res, Ahead: a.stop()}, err
}

// ahead stores files that nobody has asked for yet.
type ahead struct {
	repo   catalog.Cluster
	dir    string // where the files lie
	opts   PushOptions
	stored records

	cancel context.CancelFunc
	ended  chan struct{}
	mu     sync.Mutex
	done   []string
}

// choose returns up to n files that follow the requested one.
func (a *ahead) choose(requested string, n int) []string {
	ready, err := withStatus(a.dir, statusReady)
	if err != nil {
		return nil
	}
	wanted := make(map[string]bool, len(ready))
	for _, name := range ready {
		wanted[name] = true
	}
	a.stored.sweep(wanted)
	if n <= 0 || a.opts.Spool.Probe() != nil { // without records all would be stored twice
		return nil
	}
	var chosen []string
	for _, name := range ready {
		if len(chosen) == n {
			break
		}
		if compareUrgency(requested, name) < 0 && a.maybe(name) {
			chosen = append(chosen, name)
		}
	}
	return chosen
}

// maybe reports whether a file may be stored before it is asked for. The first of
// a repository, or of a timeline, is not: what it takes to introduce them is
// better not done several times at once.
func (a *ahead) maybe(name string) bool {
	f, err := wal.ParseFileName(name)
	return err == nil && introduced(a.repo, f, a.dir, a.opts) && !a.stored.covers(name, filepath.Join(a.dir, name))
}

func (a *ahead) start(ctx context.Context, names []string) {
	ctx, a.cancel = context.WithCancel(ctx)
	a.ended = make(chan struct{})
	var all sync.WaitGroup
	for _, name := range names {
		all.Go(func() { a.push(ctx, name) })
	}
	go func() {
		all.Wait()
		close(a.ended)
	}()
}

// push stores one file. That it fails is no news: PostgreSQL will ask for it.
func (a *ahead) push(ctx context.Context, name string) {
	path := filepath.Join(a.dir, name)
	before, err := factsOf(path)
	if err != nil {
		return
	}
	res, err := Push(ctx, a.repo, path, a.opts)
	if err != nil {
		return
	}
	// What was stored is the file that these facts tell from others only if they
	// were true all the time.
	if after, err := factsOf(path); err != nil || after != before {
		return
	}
	if a.stored.add(name, res.Fingerprint, before) != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.done = append(a.done, name)
}

// wait returns when all are stored or d has passed.
func (a *ahead) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-a.ended:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// stop cancels what is still on its way, and returns what was stored.
func (a *ahead) stop() []string {
	a.cancel()
	<-a.ended
	return a.done
}
