package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

// FetchOptions say how a file is fetched. SegmentSize and Spool are required.
type FetchOptions struct {
	SegmentSize wal.SegmentSize
	Identities  []codec.Identity
	Spool       *walspool.Spool

	// Window holds segments that were prefetched; nil where there are none.
	Window *Window

	// Patience is how long a hole is looked at again before it is concluded:
	// parallel pushes may land out of order. 0 means DefaultPatience.
	Patience time.Duration

	// Tail allows to hand over, in place of a segment at the end of the archive,
	// what wal-receive has stored of it so far, followed by zeros, and is told of
	// it. nil forbids it: a standby would take the segment for a whole one.
	Tail func(tail wal.FileName)
}

// DefaultPatience is the time in which a segment that a parallel push overtook
// arrives.
const DefaultPatience = 5 * time.Second

// lookAgain is the time between two looks at a hole.
const lookAgain = 500 * time.Millisecond

// Fetch puts the WAL file called name at dst. When it returns nil, dst is whole,
// verified and survives a power loss; when it fails, dst is as it was.
//
// ErrNotArchived is conclusive: the end of the archive. Any other error means
// that recovery must not end here: ErrHole, or that the file could not be had.
func Fetch(ctx context.Context, repo catalog.Cluster, name wal.FileName, dst string, opts FetchOptions) error {
	if opts.Patience == 0 {
		opts.Patience = DefaultPatience
	}
	if name.Kind == wal.KindTail {
		return fmt.Errorf("fetch %s: it is handed over for its segment only: %w", name, wal.ErrMismatch)
	}
	if isSegment(name) && !name.Segment.ValidFor(opts.SegmentSize) {
		return fmt.Errorf("fetch %s: no segment of %s has that name: %w", name, opts.SegmentSize, wal.ErrMismatch)
	}
	window := opts.Window
	if name.Kind != wal.KindSegment {
		window = nil
	}
	if window != nil && window.take(ctx, name.Segment, dst) {
		return nil
	}
	err := fetch(ctx, repo, name, dst, opts)
	if errors.Is(err, storage.ErrNotExist) {
		err = explainMissing(ctx, repo, name, dst, opts)
	}
	if window != nil && errors.Is(err, ErrNotArchived) {
		window.Ended(name.Segment)
	}
	if err != nil {
		return fmt.Errorf("fetch %s: %w", name, err)
	}
	return nil
}

// fetch is one attempt, by one request to the store.
func fetch(ctx context.Context, repo catalog.Cluster, name wal.FileName, dst string, opts FetchOptions) error {
	r, err := repo.Store.Get(ctx, repo.WALKey(name), 0, -1)
	if err != nil {
		return err
	}
	t, err := opts.Spool.Temp()
	if err != nil {
		return errors.Join(err, r.Close())
	}
	// Nothing may fail any more once dst is there.
	if err := errors.Join(receive(t, r, repo.SystemID, name, opts), r.Close()); err != nil {
		return errors.Join(err, t.Discard())
	}
	return t.Deliver(dst)
}

// receive writes a file to t and verifies all of it.
func receive(t *walspool.Temp, r io.Reader, systemID uint64, name wal.FileName, opts FetchOptions) error {
	or, err := codec.NewObjectReader(r, opts.Identities)
	if err != nil {
		return err
	}
	if err := checkFingerprint(or.Fingerprint(), name, systemID, opts.SegmentSize); err != nil {
		return err
	}
	n, err := io.Copy(t, or)
	if err != nil {
		return err
	}
	if isSegment(name) {
		head := make([]byte, wal.LongHeaderSize)
		if _, err := t.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		err = checkSegment(head, n, name.Segment, systemID, opts.SegmentSize)
	} else {
		err = checkText(io.NewSectionReader(t, 0, n), name)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", codec.ErrCorrupt, err)
	}
	return nil
}

// explainMissing finds out what it means that the store does not have a file:
// that the archive ends here, that there is a hole, or that this can't be the
// archive. It tries again while a hole may still close.
func explainMissing(ctx context.Context, repo catalog.Cluster, name wal.FileName, dst string, opts FetchOptions) error {
	if name.Kind != wal.KindSegment {
		return conclude(ctx, repo)
	}
	giveUp := time.Now().Add(opts.Patience)
	for {
		hole, err := findHole(ctx, repo, name.Segment, opts)
		if err != nil {
			return err
		}
		if hole == nil {
			return fetchEnd(ctx, repo, name.Segment, dst, opts)
		}
		err = fetch(ctx, repo, name, dst, opts)
		if !errors.Is(err, storage.ErrNotExist) {
			return err
		}
		if time.Now().After(giveUp) {
			return hole
		}
		if err := pause(ctx, lookAgain); err != nil {
			return fmt.Errorf("look again for a segment that later ones overtook: %w", err)
		}
	}
}

// conclude says that the archive does not have the file, provided that this is
// the cluster's archive at all.
func conclude(ctx context.Context, repo catalog.Cluster) error {
	known, err := repo.Known(ctx)
	if err != nil {
		return fmt.Errorf("see whether the repository knows the cluster: %w", err)
	}
	if !known {
		return fmt.Errorf("%w %d: is this its repository, and is the disk that holds it mounted?", ErrUnknownCluster, repo.SystemID)
	}
	return ErrNotArchived
}

// findHole looks for anything that shows that there was WAL behind a segment that
// the repository does not have. It returns ErrHole with the range that is missing,
// or nil if there is nothing: then the archive ends before the segment. The
// evidence is later WAL of the timeline; or, where a primary was lost before it had
// archived everything, a timeline that left it later.
func findHole(ctx context.Context, repo catalog.Cluster, s wal.Segment, opts FetchOptions) (hole, err error) {
	next, found, err := repo.LaterWAL(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("look for later WAL: %w", err)
	}
	if found {
		return describeHole(s, next, opts.SegmentSize, fmt.Sprintf("WAL of %s is there", next)), nil
	}
	child, at, found, err := repo.LeftBehind(ctx, s, opts.SegmentSize, opts.Identities)
	if err != nil {
		return nil, fmt.Errorf("look for timelines that come from this one: %w", err)
	}
	if found {
		next = wal.SegmentAt(s.Timeline, at, opts.SegmentSize)
		return describeHole(s, next, opts.SegmentSize, fmt.Sprintf("timeline %s went on from this one at %s", child, at)), nil
	}
	return nil, nil
}

// describeHole names the range that is missing before next.
func describeHole(first, next wal.Segment, size wal.SegmentSize, although string) error {
	last := wal.NumberedSegment(first.Timeline, next.Number(size)-1, size)
	what := fmt.Sprintf("segment %s is", first)
	if n := next.Number(size) - first.Number(size); n > 1 {
		what = fmt.Sprintf("%d segments from %s to %s are", n, first, last)
	}
	return fmt.Errorf("%w: %s missing although %s; "+
		"recovery cannot pass this point: find what is missing (pg_wal of the old primary or of a standby) and store it with wal-push, "+
		"or recover to a target before it", ErrHole, what, although)
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
