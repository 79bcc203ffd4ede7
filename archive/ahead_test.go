package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
	"walden/storage"
)

func fileNameOf(n int) wal.FileName {
	s := wal.NumberedSegment(1, uint64(n), small)
	return wal.FileName{Kind: wal.KindSegment, Timeline: 1, Segment: s}
}

// archiver does what PostgreSQL's does: it asks for one file after the other.
func (h *host) archiver(t *testing.T, repo catalog.Cluster, opts AheadOptions) (calls []AheadResult) {
	t.Helper()
	for {
		names, err := withStatus(h.pgWAL, statusReady)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			return calls
		}
		res, err := PushAhead(t.Context(), repo, filepath.Join(h.pgWAL, names[0]), opts)
		if err != nil {
			t.Fatal(err)
		}
		calls = append(calls, res)
		h.archived(t, names[0])
	}
}

// TestAheadRequests: N segments are N requests, each to create one, and nothing
// else.
func TestAheadRequests(t *testing.T) {
	for _, ahead := range []int{1, 3, 8} {
		t.Run(fmt.Sprint(ahead), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { countAheadRequests(t, ahead) })
		})
	}
}

func countAheadRequests(t *testing.T, ahead int) {
	h := newHost(t)
	h.introduce(t)
	var seen requests
	names := h.segments(t, 2, 17)
	calls := h.archiver(t, catalog.Open(seen.of(h.repo.Store), testSystemID), h.aheadOptions(ahead))
	made := strings.Split(seen.take(), ", ")
	slices.Sort(made)
	var want []string
	for _, name := range names {
		want = append(want, "create "+name)
	}
	if !slices.Equal(made, want) {
		t.Errorf("requests: %v", made)
	}
	recorded := 0
	for _, c := range calls {
		if c.Recorded {
			recorded++
		}
	}
	if len(calls) != len(names) || recorded != len(names)-(len(names)+ahead-1)/ahead {
		t.Errorf("%d calls, %d of them found a record", len(calls), recorded)
	}
	if left := h.recorded(t); len(left) != 0 {
		t.Errorf("records are left: %v", left)
	}
	h.mustBeClean(t)
	for n, name := range names {
		dst := filepath.Join(h.pgWAL, "dst")
		if err := Fetch(t.Context(), h.repo, fileName(t, name), dst, h.fetchOptions()); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, segmentOf(t, name, small, uint64(n+2)))
	}
}

// TestAheadOrder: histories first, then by name; only what follows the requested
// file, only what PostgreSQL wants, and no timeline that the repository may not
// know.
func TestAheadOrder(t *testing.T) { synctest.Test(t, orderAhead) }

func orderAhead(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 7)
	h.ready(t, "00000002.history", []byte(historyText))
	h.ready(t, segmentName(5)+".00000028.backup", []byte(backupText))
	h.ready(t, "000000020000000000000003", segmentOf(t, "000000020000000000000003", small, 3))
	h.write(t, segmentName(8), segmentOf(t, segmentName(8), small, 8)) // PostgreSQL still writes it
	h.status(t, "README.ready", segmentName(9)+".done", segmentName(4)+".0000000000400100.tail.ready")
	before := dirNames(t, statusDir(h.pgWAL))

	s := &spy{Store: h.repo.Store}
	push := func(name string, ahead int) string {
		res, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, name), h.aheadOptions(ahead))
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(res.Ahead)
		return strings.Join(res.Ahead, " ")
	}
	if got := push(segmentName(4), 3); got != segmentName(5)+" "+segmentName(5)+".00000028.backup" {
		t.Errorf("after the fourth segment: %s", got)
	}
	if got := push("00000002.history", 3); got != segmentName(2)+" "+segmentName(3) {
		t.Errorf("after a history: %s", got)
	}
	if got := push(segmentName(6), 8); got != segmentName(7) {
		t.Errorf("after the sixth: %s", got)
	}
	h.mustKeepStatus(t, before)
}

// TestAheadWithoutPlace: without a spool, or one that takes nothing, or where
// there is no archive_status, files are stored one by one.
func TestAheadWithoutPlace(t *testing.T) {
	for what, prepare := range map[string]func(h *host, opts *AheadOptions) error{
		"no spool":          func(_ *host, opts *AheadOptions) error { opts.Spool = nil; return nil },
		"the spool is gone": func(h *host, _ *AheadOptions) error { return os.RemoveAll(h.spool.Dir()) },
		"no archive_status": func(h *host, _ *AheadOptions) error { return os.RemoveAll(statusDir(h.pgWAL)) },
		"one at a time":     func(_ *host, opts *AheadOptions) error { opts.Ahead = 1; return nil },
		"nobody said":       func(_ *host, opts *AheadOptions) error { opts.Ahead = 0; return nil },
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			h.introduce(t)
			h.segments(t, 2, 5)
			opts := h.aheadOptions(8)
			if err := prepare(h, &opts); err != nil {
				t.Fatal(err)
			}
			res, err := PushAhead(t.Context(), h.repo, filepath.Join(h.pgWAL, segmentName(2)), opts)
			if err != nil || len(res.Ahead) != 0 || res.Recorded || !h.holds(t, segmentName(2)) || h.holds(t, segmentName(3)) {
				t.Errorf("%+v, %v", res, err)
			}
		})
	}
}

// TestAheadRecordsWhatIsStored: there is never a record before the store has
// confirmed the object.
func TestAheadRecordsWhatIsStored(t *testing.T) { synctest.Test(t, recordAhead) }

func recordAhead(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	names := h.segments(t, 2, 9)
	s := &spy{Store: h.repo.Store}
	look := func() {
		for _, name := range h.recorded(t) {
			if !s.has(name) && !h.holds(t, name) {
				t.Errorf("%s is on record and not in the repository", name)
			}
		}
	}
	s.before = func(_ context.Context, name string) error { look(); return nil }
	s.after = func(name string) {
		look()
		if slices.Contains(h.recorded(t), name) {
			t.Errorf("%s was on record before its store had confirmed it", name)
		}
	}
	h.archiver(t, catalog.Open(s, testSystemID), h.aheadOptions(4))
	if len(s.stored) != len(names) {
		t.Errorf("stored %v", s.stored)
	}
}

// TestAheadFailures: what becomes of later files changes nothing for the
// requested one, and what failed is not on record.
func TestAheadFailures(t *testing.T) { synctest.Test(t, failAhead) }

func failAhead(t *testing.T) {
	for _, fault := range append([]error{storage.ErrExist, storage.ErrCorrupt, errors.New("other")}, faults...) {
		h := newHost(t)
		h.introduce(t)
		h.segments(t, 2, 5)
		s := &spy{Store: h.repo.Store}
		s.before = func(_ context.Context, name string) error {
			if name != segmentName(2) && name != segmentName(4) {
				return fault
			}
			return nil
		}
		opts := h.aheadOptions(4)
		opts.Later = s
		res, err := PushAhead(t.Context(), h.repo, filepath.Join(h.pgWAL, segmentName(2)), opts)
		if err != nil || !slices.Equal(res.Ahead, []string{segmentName(4)}) || !slices.Equal(h.recorded(t), res.Ahead) {
			t.Errorf("with %v: %+v, %v; on record: %v", fault, res, err, h.recorded(t))
		}
	}
}

// TestAheadFailureOfTheRequested is the result, and ends the others.
func TestAheadFailureOfTheRequested(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.introduce(t)
		h.segments(t, 2, 5)
		s := &spy{Store: h.repo.Store}
		var cut atomic.Int32
		s.before = func(ctx context.Context, name string) error {
			if name == segmentName(2) {
				return storage.ErrUnavailable
			}
			<-ctx.Done()
			cut.Add(1)
			return ctx.Err()
		}
		began := time.Now()
		_, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, segmentName(2)), h.aheadOptions(4))
		mustBe(t, err, storage.ErrUnavailable)
		if took := time.Since(began); took != 0 || cut.Load() > 3 {
			t.Errorf("it took %s longer, %d others were cut", took, cut.Load())
		}
		if left := h.recorded(t); len(left) != 0 {
			t.Errorf("on record: %v", left)
		}
	})
}

// TestAheadNeverWaits: later files that hang delay the requested one by a grace
// that its own time bounds, and by two seconds at most.
func TestAheadNeverWaits(t *testing.T) {
	for took, grace := range map[time.Duration]time.Duration{
		0: 500 * time.Millisecond, 300 * time.Millisecond: 600 * time.Millisecond, time.Second: 2 * time.Second, time.Minute: 2 * time.Second,
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.introduce(t)
			h.segments(t, 2, 5)
			s := &spy{Store: h.repo.Store}
			s.before = func(ctx context.Context, name string) error {
				if name == segmentName(2) {
					time.Sleep(took)
					return nil
				}
				if name == segmentName(4) {
					return nil
				}
				<-ctx.Done()
				return ctx.Err()
			}
			began := time.Now()
			res, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, segmentName(2)), h.aheadOptions(4))
			if err != nil || len(res.Ahead) > 1 || took > 0 && !slices.Equal(res.Ahead, []string{segmentName(4)}) {
				t.Errorf("%+v, %v", res, err)
			}
			if spent := time.Since(began); spent != took+grace {
				t.Errorf("the store took %s, the call %s", took, spent)
			}
		})
	}
}

// TestAheadUsesTheGrace for what is nearly there.
func TestAheadUsesTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.introduce(t)
		h.segments(t, 2, 3)
		s := &spy{Store: h.repo.Store}
		s.before = func(_ context.Context, name string) error {
			if name == segmentName(2) {
				time.Sleep(time.Second)
			} else {
				time.Sleep(2 * time.Second)
			}
			return nil
		}
		began := time.Now()
		res, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, segmentName(2)), h.aheadOptions(2))
		if err != nil || len(res.Ahead) != 1 || time.Since(began) != 2*time.Second {
			t.Errorf("%+v, %v, after %s", res, err, time.Since(began))
		}
	})
}

// TestAheadLandsAfterAll: a later file that was cut off had arrived. The next
// call finds it there, and compares.
func TestAheadLandsAfterAll(t *testing.T) { synctest.Test(t, landAhead) }

func landAhead(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 3)
	s := &spy{Store: h.repo.Store}
	s.before = func(ctx context.Context, name string) error {
		if name != segmentName(3) {
			return nil
		}
		content := segmentOf(t, name, small, 3)
		if _, err := Push(t.Context(), h.repo, h.write(t, name, content), h.pushOptions()); err != nil {
			t.Error(err)
		}
		return context.Canceled
	}
	if res, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, segmentName(2)), h.aheadOptions(2)); err != nil || len(res.Ahead) != 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	res, err := PushAhead(t.Context(), h.repo, filepath.Join(h.pgWAL, segmentName(3)), h.aheadOptions(2))
	if err != nil || !res.Existed || res.Recorded {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestAheadBesideAnother: PostgreSQL killed its archiver, and the wal-push that it
// had started still runs.
func TestAheadBesideAnother(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	names := h.segments(t, 2, 9)
	atFirst := make(chan struct{})
	proceed := make(chan struct{})
	s := &spy{Store: h.repo.Store}
	s.before = func(_ context.Context, name string) error {
		if name == names[0] {
			close(atFirst)
			<-proceed
		}
		return nil
	}
	old := make(chan error, 1)
	go func() {
		_, err := PushAhead(context.Background(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, names[0]), h.aheadOptions(4))
		old <- err
	}()
	<-atFirst
	h.archiver(t, h.repo, h.aheadOptions(4))
	close(proceed)
	if err := <-old; err != nil {
		t.Error(err)
	}
	for _, name := range names {
		if !h.holds(t, name) {
			t.Errorf("%s is lacking", name)
		}
	}
	h.segments(t, 10, 10)
	h.archiver(t, h.repo, h.aheadOptions(4))
	if left := h.recorded(t); len(left) != 0 {
		t.Errorf("records are left of what was archived: %v", left)
	}
}

// TestAheadOfReusedSegment: PostgreSQL reuses a later file while it is on its way.
func TestAheadOfReusedSegment(t *testing.T) { synctest.Test(t, reuseAhead) }

func reuseAhead(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 3)
	path := filepath.Join(h.pgWAL, segmentName(3))
	s := &spy{Store: h.repo.Store}
	s.before = func(_ context.Context, name string) error {
		if name == segmentName(3) {
			h.write(t, name, segmentOf(t, segmentName(7), small, 7))
		}
		return nil
	}
	if _, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, segmentName(2)), h.aheadOptions(2)); err != nil {
		t.Fatal(err)
	}
	if left := h.recorded(t); len(left) != 0 {
		t.Errorf("on record: %v", left)
	}
	if _, err := PushAhead(t.Context(), h.repo, path, h.aheadOptions(2)); !errors.Is(err, ErrRefused) {
		t.Errorf("asked for it: %v", err)
	}
}
