package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walden/postgres/wal"
	"walden/walspool"
)

// ErrNoRoom means that the disk of the spool is too full for prefetching.
var ErrNoRoom = errors.New("too little room")

// windowBudget bounds what a window may take of the disk; one segment may always
// be there.
const windowBudget = 256 << 20

// Window is the part of a spool that holds the segments for which recovery will
// ask next: whole and verified, under their names. It belongs to one cluster, one
// segment size and one repository. Nothing in it is ever needed: what is missing or
// unfit comes from the repository.
type Window struct {
	spool    *walspool.Spool
	systemID uint64
	size     wal.SegmentSize
	ahead    int
	ready    bool
}

// WindowOptions say which window is meant. All but Ahead are required.
type WindowOptions struct {
	Repository  string // its identity, storage.Location.ID
	SystemID    uint64
	SegmentSize wal.SegmentSize
	Ahead       int // how many segments it holds at most; as many of them as 256 MiB hold, and one at least
}

// OpenWindow opens the window in the spool in dir, and makes both when needed.
func OpenWindow(dir string, opts WindowOptions) (*Window, error) {
	if _, err := walspool.Open(dir); err != nil { // its owner passes on to what lies in it
		return nil, err
	}
	own := fmt.Sprintf("%s-%d-%d", walspool.RepositoryKey(opts.Repository), opts.SystemID, int64(opts.SegmentSize))
	if _, err := walspool.Open(filepath.Join(dir, fetchDir)); err != nil {
		return nil, err
	}
	spool, err := walspool.Open(filepath.Join(dir, fetchDir, own))
	if err != nil {
		return nil, err
	}
	return &Window{
		spool:    spool,
		systemID: opts.SystemID,
		size:     opts.SegmentSize,
		ahead:    max(1, min(opts.Ahead, windowBudget/int(opts.SegmentSize))),
	}, nil
}

// fetchDir is where windows lie in a spool.
const fetchDir = "fetch"

// DropWindows removes what is left in the spool in dir of a cluster's windows, of
// any repository. It is for a server that recovers no more.
func DropWindows(dir string, systemID uint64) error {
	entries, err := os.ReadDir(filepath.Join(dir, fetchDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.Contains(e.Name(), fmt.Sprintf("-%d-", systemID)) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, fetchDir, e.Name())))
		}
	}
	return err
}

// stallLimit is how long Fetch looks at a download of the prefetcher that does not
// get on before it fetches the segment itself.
const stallLimit = 500 * time.Millisecond

// take puts the segment at dst if it is in the window, or will be in a moment. Of
// what keeps it from that nothing is lost: the repository has the segment.
func (w *Window) take(ctx context.Context, s wal.Segment, dst string) bool {
	w.hint(askedHint(s.Timeline), s)
	check := func(r io.ReaderAt, length int64) error {
		head := make([]byte, wal.LongHeaderSize)
		if n, err := r.ReadAt(head, 0); err != nil && n < len(head) {
			return err
		}
		return checkSegment(head, length, s, w.systemID, w.size)
	}
	taken := func() bool { return w.spool.Take(s.String(), dst, check) == nil }
	w.ready = taken()
	return w.ready || w.spool.Await(ctx, s.String(), stallLimit) && taken()
}

// Ready reports whether the segment for which Fetch looked last was in the window,
// so that nothing had to be waited for.
func (w *Window) Ready() bool { return w.ready }

// Hints tell a prefetcher where recovery is, and calls of wal-fetch where the
// archive was seen to end. They never answer for the archive.

func askedHint(t wal.Timeline) string { return "asked-" + t.String() }
func endHint(t wal.Timeline) string   { return "end-" + t.String() }

// hint notes a segment. One that can't be noted is not known.
func (w *Window) hint(name string, s wal.Segment) {
	if w.spool.ReadHint(name) != s.String() {
		_ = w.spool.Hint(name, s.String())
	}
}

// hinted returns the segment that a hint names, or zero.
func (w *Window) hinted(name string) wal.Segment {
	s, err := wal.ParseSegment(w.spool.ReadHint(name))
	if err != nil || !s.ValidFor(w.size) {
		return wal.Segment{}
	}
	return s
}

// Ended notes that the archive does not have the segment at this moment, so that
// nobody goes looking for what follows as long as recovery waits for it.
func (w *Window) Ended(s wal.Segment) { w.hint(endHint(s.Timeline), s) }

// WantsPrefetch reports whether it is time to call Prefetch, now that the segment
// was handed over: less than half of the window lies ahead, nobody is prefetching,
// and the archive was not seen to end right behind what there is. It is
// ErrNoRoom where the disk is too full.
func (w *Window) WantsPrefetch(handed wal.Segment) (bool, error) {
	if w.spool.Held(prefetcherRole) {
		return false, nil
	}
	present, err := w.present()
	if err != nil {
		return false, err
	}
	if !dueAfter(handed, w.hinted(endHint(handed.Timeline)), present, w.ahead, w.size) {
		return false, nil
	}
	return true, w.checkRoom()
}

// checkRoom makes sure that a full window leaves as much room as it takes: the
// server may have its own files on that disk.
func (w *Window) checkRoom() error {
	free, err := w.spool.Free()
	if err != nil {
		return err
	}
	if need := 2 * int64(w.ahead) * int64(w.size); free < need {
		return fmt.Errorf("%w in %s: %d bytes are free, and %d should be", ErrNoRoom, w.spool.Dir(), free, need)
	}
	return nil
}

// present returns the segments in the window and removes what can't be one.
func (w *Window) present() ([]wal.Segment, error) {
	names, err := w.spool.Whole()
	if err != nil {
		return nil, err
	}
	var all []wal.Segment
	for _, name := range names {
		s, err := wal.ParseSegment(name)
		if err != nil || !s.ValidFor(w.size) {
			_ = w.spool.RemoveFile(name) // a directory would stay, and do no harm
			continue
		}
		all = append(all, s)
	}
	return all, nil
}
