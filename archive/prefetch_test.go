package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/internal/testkit"
	"walden/postgres/wal"
	"walden/storage"
)

// numbered is the name of a segment of the first timeline.
func numbered(n int) string { return fmt.Sprintf("0000000100000000%08X", n) }

// archiveOf returns a host whose repository holds the segments first to last, and
// nothing of which lies in pg_wal, and a window of it.
func archiveOf(t testing.TB, first, last, ahead int) (*host, *Window) {
	t.Helper()
	h := newHost(t)
	for n := first; n <= last; n++ {
		h.push(t, numbered(n), segmentOf(t, numbered(n), small, uint64(n)))
		if err := os.Remove(filepath.Join(h.pgWAL, numbered(n))); err != nil {
			t.Fatal(err)
		}
	}
	return h, h.window(t, ahead)
}

func (h *host) window(t testing.TB, ahead int) *Window {
	t.Helper()
	w, err := OpenWindow(h.spool.Dir(), WindowOptions{Repository: h.dir, SystemID: testSystemID, SegmentSize: small, Ahead: ahead})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// mustHandOver fetches a segment as wal-fetch does.
func (h *host) mustHandOver(t testing.TB, repo catalog.Cluster, w *Window, n int) {
	t.Helper()
	dst, opts := filepath.Join(h.pgWAL, "RECOVERYXLOG"), h.fetchOptions()
	opts.Window = w
	if err := Fetch(context.Background(), repo, fileName(t, numbered(n)), dst, opts); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dst, segmentOf(t, numbered(n), small, uint64(n)))
}

func (w *Window) mustContain(t testing.TB, want ...int) {
	t.Helper()
	var names []string
	for _, n := range want {
		names = append(names, numbered(n))
	}
	got, err := w.spool.Whole()
	if err != nil || strings.Join(got, " ") != strings.Join(names, " ") {
		t.Errorf("the window holds %v, %v; want %v", got, err, names)
	}
	if temps, err := filepath.Glob(filepath.Join(w.spool.Dir(), "tmp-*")); err != nil || len(temps) > 0 {
		t.Errorf("left over: %v, %v", temps, err)
	}
}

func segment(t testing.TB, n int) wal.Segment { return fileName(t, numbered(n)).Segment }

// TestPrefetch fills the window by one listing and a request for each segment, and
// what is in it is handed over without any.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := archiveOf(t, 1, 9, 4)
		var seen requests
		repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
		h.mustHandOver(t, repo, w, 1)
		seen.take()
		if err := Prefetch(context.Background(), repo, segment(t, 1), PrefetchOptions{Window: w}); err != nil {
			t.Fatal(err)
		}
		w.mustContain(t, 2, 3, 4, 5)
		if made := seen.take(); strings.Count(made, "get") != 4 || strings.Count(made, "list") != 1 {
			t.Errorf("requests: %s", made)
		}
		for n := 2; n <= 5; n++ {
			due, err := w.WantsPrefetch(segment(t, n-1))
			if want := n == 5; due != want || err != nil {
				t.Errorf("prefetch after %d: %v, %v", n-1, due, err)
			}
			h.mustHandOver(t, repo, w, n)
		}
		if made := seen.take(); made != "" {
			t.Errorf("requests: %s", made)
		}
		w.mustContain(t)
	})
}

// TestPrefetchFollows: while recovery goes on, one prefetcher serves it, and nothing
// is downloaded twice but what both began at the same moment.
func TestPrefetchFollows(t *testing.T) {
	h, w := archiveOf(t, 1, 40, 8)
	var seen requests
	repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
	h.mustHandOver(t, repo, w, 1)
	done := make(chan error, 1)
	go func() { done <- Prefetch(context.Background(), repo, segment(t, 1), PrefetchOptions{Window: w}) }()
	for n := 2; n <= 40; n++ {
		h.mustHandOver(t, repo, w, n)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	made := seen.take()
	if lists := strings.Count(made, "list"); lists != 1 {
		t.Errorf("%d listings", lists)
	}
	if gets := strings.Count(made, "get"); gets > 60 {
		t.Errorf("%d downloads of 40 segments: %s", gets, made)
	}
}

// TestPrefetchAtTheEnd: a server that waits for the next segment asks the store for
// what it wants to know, and makes nobody look for more.
func TestPrefetchAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := archiveOf(t, 1, 3, 8)
		var seen requests
		repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
		h.mustHandOver(t, repo, w, 1)
		if due, err := w.WantsPrefetch(segment(t, 1)); !due || err != nil {
			t.Fatal(due, err)
		}
		if err := Prefetch(context.Background(), repo, segment(t, 1), PrefetchOptions{Window: w}); err != nil {
			t.Fatal(err)
		}
		w.mustContain(t, 2, 3)
		if made := seen.take(); strings.Contains(made, "get "+numbered(4)) {
			t.Errorf("requests: %s", made)
		}
		asks := func(n int) {
			t.Helper()
			opts := h.fetchOptions()
			opts.Window = w
			dst := h.victim(t)
			err := Fetch(context.Background(), repo, fileName(t, numbered(n)), dst, opts)
			mustBe(t, err, ErrNotArchived)
			h.mustLeaveAlone(t, dst, err)
		}
		for n := 2; n <= 8; n++ {
			if n > 3 {
				for range 3 { // it waits for it, and then it is there
					asks(n)
				}
				h.push(t, numbered(n), segmentOf(t, numbered(n), small, uint64(n)))
			}
			h.mustHandOver(t, repo, w, n)
			if due, err := w.WantsPrefetch(segment(t, n)); due || err != nil {
				t.Errorf("prefetch after %d: %v, %v", n, due, err)
			}
		}
		// Two more at once: the second is not at the end.
		asks(9)
		for n := 9; n <= 10; n++ {
			h.push(t, numbered(n), segmentOf(t, numbered(n), small, uint64(n)))
		}
		for n := 9; n <= 10; n++ {
			h.mustHandOver(t, repo, w, n)
			if due, err := w.WantsPrefetch(segment(t, n)); due != (n == 10) || err != nil {
				t.Errorf("prefetch after %d: %v, %v", n, due, err)
			}
		}
	})
}

// TestPrefetchStopsAtHole: what lies behind a hole is of no use.
func TestPrefetchStopsAtHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, w := archiveOf(t, 1, 8, 8)
		if err := os.Remove(h.objectPath(t, numbered(4))); err != nil {
			t.Fatal(err)
		}
		if err := Prefetch(context.Background(), h.repo, segment(t, 1), PrefetchOptions{Window: w}); err != nil {
			t.Fatal(err)
		}
		w.mustContain(t, 2, 3)
		opts := h.fetchOptions()
		opts.Window = w
		dst := h.victim(t)
		err := Fetch(context.Background(), h.repo, fileName(t, numbered(4)), dst, opts)
		mustBe(t, err, ErrHole)
		h.mustLeaveAlone(t, dst, err)
	})
}

// TestUnfitInWindow: whatever stands under a segment's name in the window, the
// segment is what is handed over.
func TestUnfitInWindow(t *testing.T) {
	name := numbered(3)
	good := segmentOf(t, name, small, 3)
	for what, content := range map[string][]byte{
		"nothing":           nil,
		"half":              good[:small/2],
		"zeros":             make([]byte, small),
		"longer":            append(bytes.Clone(good), 0),
		"another segment":   segmentOf(t, numbered(4), small, 4),
		"another timeline":  segmentOf(t, "000000020000000000000003", small, 4),
		"another cluster":   withHeader(bytes.Clone(good), 1, segment(t, 3).Start(small), 5, small),
		"another size":      withHeader(bytes.Clone(good), 1, segment(t, 3).Start(small), testSystemID, 16<<20),
		"no file but a dir": nil,
	} {
		t.Run(what, func(t *testing.T) {
			h, w := archiveOf(t, 3, 3, 4)
			path := filepath.Join(w.spool.Dir(), name)
			var err error
			if strings.HasPrefix(what, "no file") {
				err = os.Mkdir(path, 0o700)
			} else {
				err = os.WriteFile(path, content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			h.mustHandOver(t, h.repo, w, 3)
			w.mustContain(t)
		})
	}
}

// TestOtherNamesInWindow: only segments come from there.
func TestOtherNamesInWindow(t *testing.T) {
	h, w := archiveOf(t, 3, 3, 4)
	for _, name := range []string{"00000002.history", numbered(3) + ".partial", "rubbish"} {
		if err := os.WriteFile(filepath.Join(w.spool.Dir(), name), []byte(historyText), 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "rubbish" {
			continue
		}
		dst, opts := h.victim(t), h.fetchOptions()
		opts.Window = w
		err := Fetch(context.Background(), h.repo, fileName(t, name), dst, opts)
		mustBe(t, err, ErrNotArchived)
		h.mustLeaveAlone(t, dst, err)
	}
	h.push(t, "00000002.history", []byte(historyText))
	dst, opts := h.victim(t), h.fetchOptions()
	opts.Window = w
	if err := Fetch(context.Background(), h.repo, fileName(t, "00000002.history"), dst, opts); err != nil {
		t.Errorf("a history that came later: %v", err)
	}
	if _, err := w.WantsPrefetch(segment(t, 3)); err != nil {
		t.Error(err)
	}
	w.mustContain(t)
}

// TestWindowsDontMix: another cluster, segment size or repository has another one.
func TestWindowsDontMix(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]bool{}
	for _, o := range []WindowOptions{
		{Repository: "a", SystemID: 1, SegmentSize: 1 << 20},
		{Repository: "b", SystemID: 1, SegmentSize: 1 << 20},
		{Repository: "a", SystemID: 2, SegmentSize: 1 << 20},
		{Repository: "a", SystemID: 1, SegmentSize: 2 << 20},
	} {
		o.Ahead = 1000
		w, err := OpenWindow(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		seen[w.spool.Dir()] = true
		if want := windowBudget / int(o.SegmentSize); w.ahead != want {
			t.Errorf("%d segments of %s", w.ahead, o.SegmentSize)
		}
	}
	if len(seen) != 4 {
		t.Errorf("%v", seen)
	}
}

// TestDropWindows removes those of a cluster, and nobody else's.
func TestDropWindows(t *testing.T) {
	dir := t.TempDir()
	if err := DropWindows(dir, 1); err != nil {
		t.Errorf("there are none: %v", err)
	}
	for _, o := range []WindowOptions{
		{Repository: "a", SystemID: 1, SegmentSize: 1 << 20},
		{Repository: "b", SystemID: 1, SegmentSize: 1 << 20},
		{Repository: "a", SystemID: 21, SegmentSize: 1 << 20},
	} {
		w, err := OpenWindow(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.spool.Dir(), numbered(1)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := DropWindows(dir, 1); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(dir, fetchDir, "*", numbered(1)))
	if err != nil || len(left) != 1 || !strings.Contains(left[0], "-21-") {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestPrefetchDamaged: a damaged object never gets into the window.
func TestPrefetchDamaged(t *testing.T) {
	h, w := archiveOf(t, 1, 3, 4)
	h.put(t, numbered(3), []byte("half of a segm"))
	err := Prefetch(context.Background(), h.repo, segment(t, 1), PrefetchOptions{Window: w})
	mustBe(t, err, codec.ErrCorrupt)
	if names, err := w.spool.Whole(); err != nil || len(names) > 1 {
		t.Errorf("the window holds %v, %v", names, err)
	}
}

// TestPrefetchFails at each request and each fault: nothing is left over, nobody hangs.
func TestPrefetchFails(t *testing.T) {
	for _, fault := range faults {
		for at := 1; at <= 7; at++ {
			h, w := archiveOf(t, 1, 4, 4)
			n := 0
			var mu sync.Mutex
			repo := h.through(func(op, key string) error {
				mu.Lock()
				defer mu.Unlock()
				if n++; n == at {
					return fault
				}
				return nil
			})
			err := Prefetch(context.Background(), repo, segment(t, 1), PrefetchOptions{Window: w})
			mustBe(t, err, fault)
			if temps, err := filepath.Glob(filepath.Join(w.spool.Dir(), "tmp-*")); err != nil || len(temps) > 0 {
				t.Errorf("left over: %v, %v", temps, err)
			}
		}
	}
}

// TestPrefetchEndsWithTheServer, and when it is told to.
func TestPrefetchEndsWithTheServer(t *testing.T) {
	h, w := archiveOf(t, 1, 4, 4)
	var seen requests
	repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
	if err := Prefetch(context.Background(), repo, segment(t, 1), PrefetchOptions{Window: w, Alive: func() bool { return false }}); err != nil {
		t.Error(err)
	}
	if made := seen.take(); strings.Contains(made, "get") {
		t.Errorf("requests: %s", made)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	mustBe(t, Prefetch(ctx, repo, segment(t, 1), PrefetchOptions{Window: w}), context.Canceled)
}

// blocked is a store that doesn't answer before it is released.
func blocked(h *host) (repo catalog.Cluster, came, release chan struct{}) {
	came, release = make(chan struct{}, 100), make(chan struct{})
	return h.through(func(op, _ string) error {
		if op == "get" {
			came <- struct{}{}
			<-release
		}
		return nil
	}), came, release
}

// TestOnlyOnePrefetcher at a time.
func TestOnlyOnePrefetcher(t *testing.T) {
	h, w := archiveOf(t, 1, 2, 4)
	slow, came, release := blocked(h)
	first := make(chan error, 1)
	go func() { first <- Prefetch(context.Background(), slow, segment(t, 1), PrefetchOptions{Window: w}) }()
	<-came
	var seen requests
	if err := Prefetch(context.Background(), catalog.Open(seen.of(h.repo.Store), testSystemID), segment(t, 1), PrefetchOptions{Window: w}); err != nil {
		t.Error(err)
	}
	if made := seen.take(); made != "" {
		t.Errorf("the second makes requests: %s", made)
	}
	if due, err := w.WantsPrefetch(segment(t, 1)); due || err != nil {
		t.Errorf("prefetch while one runs: %v, %v", due, err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	w.mustContain(t, 2)
}

// TestFetchWaitsForDownload: what is on its way is not downloaded again, unless it
// gets stuck.
func TestFetchWaitsForDownload(t *testing.T) {
	for what, stuck := range map[string]bool{"on its way": false, "stuck": true} {
		t.Run(what, func(t *testing.T) {
			h, w := archiveOf(t, 1, 2, 4)
			slow, came, release := blocked(h)
			done := make(chan error, 1)
			go func() { done <- Prefetch(context.Background(), slow, segment(t, 1), PrefetchOptions{Window: w}) }()
			<-came
			var seen requests
			if !stuck {
				time.AfterFunc(50*time.Millisecond, func() { close(release) })
			}
			began := time.Now()
			h.mustHandOver(t, catalog.Open(seen.of(h.repo.Store), testSystemID), w, 2)
			took, made := time.Since(began), seen.take()
			if stuck {
				close(release)
			}
			if want := map[bool]string{true: "get " + numbered(2)}[stuck]; made != want {
				t.Errorf("requests: %q, want %q", made, want)
			}
			if stuck && took < stallLimit {
				t.Errorf("gave up after %s", took)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReadersOfWindow see whole segments of the right name, whatever comes and goes.
func TestReadersOfWindow(t *testing.T) {
	const last = 60
	h, w := archiveOf(t, 1, last, 4)
	want := map[string][]byte{}
	for n := 1; n <= last; n++ {
		want[numbered(n)] = segmentOf(t, numbered(n), small, uint64(n))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; n <= last; n++ {
			opts := h.fetchOptions()
			opts.Window = w
			dst := filepath.Join(h.pgWAL, "RECOVERYXLOG")
			if err := Fetch(context.Background(), h.repo, fileName(t, numbered(n)), dst, opts); err != nil {
				t.Error(err)
			}
			if n%9 == 1 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(5+n)*time.Millisecond) // killed, as it were
				_ = Prefetch(ctx, h.repo, segment(t, n), PrefetchOptions{Window: w})
				cancel()
			}
		}
	}()
	seen := 0
	for {
		names, err := w.spool.Whole()
		if err != nil {
			t.Error(err)
		}
		for _, path := range append(names, "../../../RECOVERYXLOG") {
			content, err := os.ReadFile(filepath.Join(w.spool.Dir(), path))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			seen++
			name := filepath.Base(path)
			if whole := want[name]; err != nil || whole != nil && !bytes.Equal(content, whole) || len(content) != int(small) {
				t.Errorf("%s: %d bytes, %v", name, len(content), err)
			}
		}
		select {
		case <-done:
			t.Logf("%d files seen", seen)
			return
		default:
		}
	}
}

// TestNoRoom: the server's disk is left to the server.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	w, err := OpenWindow(dir, WindowOptions{Repository: "r", SystemID: 1, SegmentSize: small, Ahead: 8})
	if err != nil {
		t.Fatal(err)
	}
	free, err := w.spool.Free()
	if err != nil || free < 64<<20 {
		testkit.SkipUnlessCI(t, fmt.Sprintf("%d bytes free, %v", free, err))
	}
	if due, err := w.WantsPrefetch(segment(t, 1)); !due || err != nil {
		t.Errorf("%v, %v", due, err)
	}
	w.ahead = int(free / int64(small)) // it would fill the disk
	_, err = w.WantsPrefetch(segment(t, 1))
	mustBe(t, err, ErrNoRoom)
	var seen requests
	h := newHost(t)
	h.push(t, numbered(1), segmentOf(t, numbered(1), small, 1))
	h.push(t, numbered(2), segmentOf(t, numbered(2), small, 2))
	err = Prefetch(context.Background(), catalog.Open(seen.of(h.repo.Store), testSystemID), segment(t, 1), PrefetchOptions{Window: w})
	mustBe(t, err, ErrNoRoom)
	mustNotBe(t, err, storage.ErrUnavailable)
	w.mustContain(t)
}
