package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"walden/storage"
)

func testRoundTrip(t *testing.T, s storage.Store) {
	// 17 MiB is beyond where S3 clients like to switch to multipart uploads.
	for i, size := range []int{0, 1, 4095, 1 << 20, 17 << 20} {
		key := fmt.Sprintf("sizes/%010d", size)
		want := Content(size, uint64(i))
		before := time.Now()
		info := MustCreate(t, s, key, want)
		if info.Key != key || info.Size != int64(size) {
			t.Errorf("Create returned %+v for key %s of %d bytes", info, key, size)
		}
		MustHold(t, s, key, want)
		info, err := s.Stat(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if info.Key != key || info.Size != int64(size) {
			t.Errorf("Stat returned %+v for key %s of %d bytes", info, key, size)
		}
		// Stores keep whole seconds, and clocks of file systems lag a little.
		if d := info.ModTime.Sub(before); d < -2*time.Second || d > time.Minute {
			t.Errorf("Stat returned time %s for an object made at %s", info.ModTime, before)
		}
	}
}

func testAbsent(t *testing.T, s storage.Store) {
	MustBeAbsent(t, s, "nothing")
	MustBeAbsent(t, s, "no/such/directory/either")
	MustCreate(t, s, "some/object", nil)
	MustBeAbsent(t, s, "some")
	MustBeAbsent(t, s, "some/object/below")
	MustBeAbsent(t, s, "some/obj")
}

func testCreateTwice(t *testing.T, s storage.Store) {
	first := Content(1000, 1)
	MustCreate(t, s, "once", first)
	for _, again := range [][]byte{first, Content(1000, 2), nil} {
		_, err := s.Create(t.Context(), "once", bytes.NewReader(again), int64(len(again)))
		if !errors.Is(err, storage.ErrExist) {
			t.Fatalf("Create of a key that is taken: got %v, want ErrExist", err)
		}
		MustHold(t, s, "once", first)
	}
}

func testCreateFromOffsetZero(t *testing.T, s storage.Store) {
	want := Content(5000, 1)
	body := bytes.NewReader(want)
	if _, err := body.Seek(1234, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(t.Context(), "rewound", body, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	MustHold(t, s, "rewound", want)
}

func testWrongSize(t *testing.T, s storage.Store) {
	data := Content(5000, 1)
	for _, size := range []int64{0, 4999, 5001, 1 << 30} {
		key := fmt.Sprintf("dir/promised-%d", size)
		if _, err := s.Create(t.Context(), key, bytes.NewReader(data), size); err == nil {
			t.Errorf("Create took a body of %d bytes for one of %d", len(data), size)
		}
		MustBeAbsent(t, s, key)
	}
}

var errBody = errors.New("the body's own disk is broken")

// brokenBody fails in the middle of the readings-th reading.
type brokenBody struct {
	*bytes.Reader
	readings int
}

func (b *brokenBody) Seek(offset int64, whence int) (int64, error) {
	b.readings--
	return b.Reader.Seek(offset, whence)
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.readings <= 0 && b.Len() < 500_000 {
		return 0, errBody
	}
	return b.Reader.Read(p[:min(len(p), 10_000)])
}

// A store may read the body more than once, so that it may fail each time.
func testFailingBody(t *testing.T, s storage.Store) {
	for readings := range 3 {
		key := fmt.Sprintf("fails-at-%d", readings)
		body := &brokenBody{bytes.NewReader(Content(1<<20, 1)), readings}
		_, err := s.Create(t.Context(), key, body, 1<<20)
		if err == nil && readings > 1 {
			continue // it has not been read that often
		}
		if !errors.Is(err, errBody) || errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("Create from a body that fails: got %v, want the body's error", err)
		}
		MustBeAbsent(t, s, key)
	}
}

func testInvalidKeys(t *testing.T, s storage.Store) {
	for _, key := range []string{"", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "./a", ".hidden", "a/.hidden/b",
		"a\x00b", "a\nb", "a\xff", strings.Repeat("a", 1025)} {
		if _, err := s.Create(t.Context(), key, bytes.NewReader(nil), 0); err == nil {
			t.Errorf("Create took the key %q", key)
		}
		if _, err := s.Stat(t.Context(), key); err == nil || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("Stat of key %q: got %v, want a refusal", key, err)
		}
		if _, err := s.Get(t.Context(), key, 0, -1); err == nil || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("Get of key %q: got %v, want a refusal", key, err)
		}
		if err := s.Delete(t.Context(), key); err == nil {
			t.Errorf("Delete took the key %q", key)
		}
	}
	if _, err := s.Get(t.Context(), "a", -1, 1); err == nil || errors.Is(err, storage.ErrNotExist) {
		t.Errorf("Get from a negative offset: got %v, want a refusal", err)
	}
}

func testUnusualKeys(t *testing.T, s storage.Store) {
	keys := []string{"!", "%2F", "%20", "a b", "a#b?c&d=e", "a+b", "a:b", "a;b", "a\\b", "'\"", "<&>", "ä/ß/日本", "~", strings.Repeat("k", 255)}
	for i, key := range keys {
		MustCreate(t, s, key, Content(100, uint64(i)))
	}
	for i, key := range keys {
		MustHold(t, s, key, Content(100, uint64(i)))
	}
	mustEqual(t, MustList(t, s, "", ""), sorted(keys))
	if err := s.Delete(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, MustList(t, s, "", ""), nil)
}

func testRace(t *testing.T, s storage.Store) {
	const rounds, creators = 5, 16
	for round := range rounds {
		key := fmt.Sprintf("race/%d", round)
		var (
			wg      sync.WaitGroup
			start   = make(chan struct{})
			winners atomic.Int64
			winner  atomic.Uint64
		)
		for i := range uint64(creators) {
			wg.Go(func() {
				<-start
				data := Content(100_000, i)
				_, err := s.Create(t.Context(), key, bytes.NewReader(data), int64(len(data)))
				switch {
				case err == nil:
					winners.Add(1)
					winner.Store(i)
				case !errors.Is(err, storage.ErrExist):
					t.Errorf("a racing Create: got %v, want ErrExist", err)
				}
			})
		}
		close(start)
		wg.Wait()
		if n := winners.Load(); n != 1 {
			t.Fatalf("%d of %d racing creators succeeded, want 1", n, creators)
		}
		MustHold(t, s, key, Content(100_000, winner.Load()))
	}
}
