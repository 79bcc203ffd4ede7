package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"walden/catalog"
	"walden/postgres/wal"
	"walden/storage"
)

// BackfillResult says what Backfill did.
type BackfillResult struct {
	Looked    int      // files in pg_wal that ought to be in the repository
	Stored    []string // those that it lacked, in PostgreSQL's order
	Gaps      []catalog.Gap
	GapsError error // as in DropResult
}

// Backfill stores what is complete in pg_wal and lacking in the repository,
// whatever PostgreSQL believes about it: after a failover the new primary takes
// segments for archived that the old one never stored. parallel files are on
// their way at once; 0 means one.
//
// It returns nil only when the repository lacks none of them any more. One file
// that can't be stored does not keep it from storing others, unless the store
// fails.
func Backfill(ctx context.Context, repo catalog.Cluster, walDir string, parallel int, opts PushOptions) (BackfillResult, error) {
	names, err := finished(walDir)
	if err != nil {
		return BackfillResult{}, fmt.Errorf("backfill: %w", err)
	}
	res := BackfillResult{Looked: len(names)}
	missing, err := lacking(ctx, repo, names, opts.SegmentSize)
	if err != nil {
		return res, fmt.Errorf("backfill: %w", err)
	}
	if res.Stored, err = pushAll(ctx, repo, walDir, missing, max(1, parallel), opts); err != nil {
		return res, fmt.Errorf("backfill: %w", err)
	}
	if opts.Spool != nil {
		n := notes{spool: opts.Spool, repository: opts.Repository, systemID: repo.SystemID}
		res.Gaps, res.GapsError = n.publish(ctx, repo, opts.SegmentSize)
	}
	return res, nil
}

// finished returns the WAL files in a directory that PostgreSQL does not write to
// any more, in the order in which it archives them: those that it wants archived
// or takes for archived, and timeline histories, which are whole when they are
// there.
func finished(walDir string) ([]wal.FileName, error) {
	marked, err := withStatus(walDir, statusReady, statusDone)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(walDir)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, e := range entries {
		there[e.Name()] = true
		if isHistory(e.Name()) && isWAL(e.Name()) {
			marked = append(marked, e.Name())
		}
	}
	slices.SortFunc(marked, compareUrgency)
	var names []wal.FileName
	for _, name := range slices.Compact(marked) {
		if !there[name] { // archived, removed, and the mark not yet
			continue
		}
		f, err := wal.ParseFileName(name)
		if err != nil {
			return nil, err
		}
		names = append(names, f)
	}
	return names, nil
}

// lacking returns those of the files that the repository does not hold. It lists
// each timeline once, from the oldest segment on.
func lacking(ctx context.Context, repo catalog.Cluster, names []wal.FileName, size wal.SegmentSize) ([]wal.FileName, error) {
	missing := map[wal.Segment]bool{}
	for _, span := range spans(names, size) {
		segments, err := repo.MissingWAL(ctx, span, size)
		if err != nil {
			return nil, err
		}
		for _, s := range segments {
			missing[s] = true
		}
	}
	var lacking []wal.FileName
	for _, name := range names {
		switch name.Kind {
		case wal.KindSegment:
			if missing[name.Segment] {
				lacking = append(lacking, name)
			}
		default:
			_, err := repo.Store.Stat(ctx, repo.WALKey(name))
			if errors.Is(err, storage.ErrNotExist) {
				lacking = append(lacking, name)
			} else if err != nil {
				return nil, err
			}
		}
	}
	return lacking, nil
}

// spans returns, for each timeline, the range that the segments among the files
// lie in.
func spans(names []wal.FileName, size wal.SegmentSize) []catalog.WALNeed {
	var all []catalog.WALNeed
	for _, name := range names { // segments are ascending
		if name.Kind != wal.KindSegment || !name.Segment.ValidFor(size) {
			continue
		}
		if n := len(all); n > 0 && all[n-1].Timeline == name.Timeline {
			all[n-1].Last = name.Segment
			continue
		}
		all = append(all, catalog.WALNeed{Timeline: name.Timeline, First: name.Segment, Last: name.Segment})
	}
	return all
}

// pushAll stores files, several at once. It goes on after a file that can't be
// stored, but not when the store fails.
func pushAll(ctx context.Context, repo catalog.Cluster, walDir string, names []wal.FileName, parallel int, opts PushOptions) ([]string, error) {
	var (
		mu     sync.Mutex
		failed []error
		stored = make([]bool, len(names))
	)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, name := range names {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			_, err := Push(ctx, repo, filepath.Join(walDir, name.String()), opts)
			if err == nil {
				stored[i] = true
				return nil
			}
			if unavailable(err) || ctx.Err() != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			failed = append(failed, err)
			return nil
		})
	}
	err := g.Wait()
	var done []string
	for i, name := range names {
		if stored[i] {
			done = append(done, name.String())
		}
	}
	return done, errors.Join(append(failed, err)...)
}
