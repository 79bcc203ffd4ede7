package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"walden/storage"
)

func testRanges(t *testing.T, s storage.Store) {
	const size = 100_000
	data := Content(size, 1)
	MustCreate(t, s, "object", data)
	MustCreate(t, s, "empty", nil)
	ranges := []struct{ off, n int64 }{
		{0, -1}, {0, size}, {0, size + 1}, {0, 1}, {0, 0},
		{1, -1}, {1, 1}, {1, 0}, {4096, 8192}, {size - 1, -1}, {size - 1, 1}, {size - 1, 5}, {size - 10, 100},
		{size, -1}, {size, 0}, {size, 1}, {size + 1, -1}, {size + 1, 10}, {1 << 40, -1}, {0, 1 << 40},
	}
	for _, r := range ranges {
		for key, content := range map[string][]byte{"object": data, "empty": nil} {
			got, err := Read(t.Context(), s, key, r.off, r.n)
			if err != nil {
				t.Errorf("Get of %s from %d, %d bytes: %v", key, r.off, r.n, err)
				continue
			}
			if want := cut(content, r.off, r.n); !bytes.Equal(got, want) {
				t.Errorf("Get of %s from %d, %d bytes: got %s, want %s", key, r.off, r.n, sketch(got), sketch(want))
			}
		}
		if _, err := Read(t.Context(), s, "absent", r.off, r.n); !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("Get of an absent key from %d, %d bytes: got %v, want ErrNotExist", r.off, r.n, err)
		}
	}
}

// cut is what Get promises of a range.
func cut(data []byte, off, n int64) []byte {
	data = data[min(off, int64(len(data))):]
	if n >= 0 {
		data = data[:min(n, int64(len(data)))]
	}
	return data
}

// createAll creates one-byte objects, several at a time.
func createAll(t *testing.T, s storage.Store, keys []string) {
	t.Helper()
	var wg sync.WaitGroup
	todo := make(chan string)
	for range 8 {
		wg.Go(func() {
			for key := range todo {
				if _, err := s.Create(t.Context(), key, strings.NewReader("x"), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, key := range keys {
		todo <- key
	}
	close(todo)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

func sorted(keys []string) []string {
	return slices.Sorted(slices.Values(keys))
}

func mustEqual(t *testing.T, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("got %d keys, want %d; they differ from number %d on: got %q, want %q",
				len(got), len(want), i, got[min(i, len(got)):min(i+5, len(got))], want[min(i, len(want)):min(i+5, len(want))])
		}
	}
}

func testListPages(t *testing.T, s storage.Store) {
	var keys []string
	for i := range 1500 {
		keys = append(keys, fmt.Sprintf("wal/00000001/%08X/%024X", i/256, i))
	}
	createAll(t, s, keys)
	mustEqual(t, MustList(t, s, "", ""), keys)
	mustEqual(t, MustList(t, s, "wal/", keys[0]), keys[1:])
	mustEqual(t, MustList(t, s, "wal/", keys[1200]), keys[1201:])
	mustEqual(t, MustList(t, s, "wal/", keys[1499]), nil)
	mustEqual(t, MustList(t, s, "wal/00000001/00000002/", ""), keys[512:768])
}

func testListOrder(t *testing.T, s storage.Store) {
	keys := sorted([]string{"a", "a-b", "a.b", "a0", "b-b", "b.b", "b/b", "b/b.c", "b/c/d", "b/c-", "b0", "ba", "c/", "c!/x", "c/a", "c/é", "B"})
	keys = slices.DeleteFunc(keys, func(key string) bool { return strings.HasSuffix(key, "/") })
	createAll(t, s, keys)
	mustEqual(t, MustList(t, s, "", ""), keys)
	afters := append([]string{"b", "b/", "b/b.", "b/zzz", "c", "zzz"}, keys...)
	for _, after := range afters {
		want := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return key <= after })
		mustEqual(t, MustList(t, s, "", after), want)
		want = slices.DeleteFunc(want, func(key string) bool { return !strings.HasPrefix(key, "b") })
		mustEqual(t, MustList(t, s, "b", after), want)
	}
}

func testListPrefix(t *testing.T, s storage.Store) {
	keys := []string{"backups/one/data/0000000001", "backups/one/manifest", "backups/one-more/manifest", "backups/two/manifest", "wal/one"}
	createAll(t, s, keys)
	for _, prefix := range []string{"", "b", "backups", "backups/", "backups/one", "backups/one/", "backups/one-", "backups/one/m",
		"backups/one/manifest", "backups/one/manifest/", "backups/one/manifest2", "nothing", "nothing/at/all"} {
		want := slices.DeleteFunc(sorted(keys), func(key string) bool { return !strings.HasPrefix(key, prefix) })
		mustEqual(t, MustList(t, s, prefix, ""), want)
	}
	for _, prefix := range []string{"/", "../", "a//", "backups/../", ".", "a\x00"} {
		for info, err := range s.List(t.Context(), prefix, "") {
			if err == nil {
				t.Errorf("List of prefix %q yields %+v, want a refusal", prefix, info)
			}
		}
	}
	for info, err := range s.List(t.Context(), "wal/", "") {
		if err != nil {
			t.Fatal(err)
		}
		stat, err := s.Stat(t.Context(), info.Key)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size != stat.Size || info.ModTime.Unix() != stat.ModTime.Unix() {
			t.Errorf("List yields %+v, Stat returns %+v", info, stat)
		}
	}
}

func testListStops(t *testing.T, s storage.Store) {
	createAll(t, s, []string{"a", "b", "c"})
	var keys []string
	for info, err := range s.List(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if keys = append(keys, info.Key); len(keys) == 2 {
			break
		}
	}
	mustEqual(t, keys, []string{"a", "b"})
}

func testDelete(t *testing.T, s storage.Store) {
	MustCreate(t, s, "dir/a", []byte("a"))
	MustCreate(t, s, "dir/b", []byte("b"))
	for range 2 {
		if err := s.Delete(t.Context(), "dir/a"); err != nil {
			t.Fatal(err)
		}
		MustBeAbsent(t, s, "dir/a")
	}
	MustHold(t, s, "dir/b", []byte("b"))
	if err := s.Delete(t.Context(), "dir", "never/was", "dir/b", "dir/b"); err != nil {
		t.Fatal(err)
	}
	MustBeAbsent(t, s, "dir/b")
	if err := s.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	MustCreate(t, s, "dir/a", []byte("new"))
	MustHold(t, s, "dir/a", []byte("new"))
}

func testDeleteMany(t *testing.T, s storage.Store) {
	var keys []string
	for i := range 1200 {
		keys = append(keys, fmt.Sprintf("backups/b/data/%010d", i))
	}
	createAll(t, s, append([]string{"backups/b/manifest"}, keys...))
	if err := s.Delete(t.Context(), append(keys, "backups/b/data/absent")...); err != nil {
		t.Fatal(err)
	}
	mustEqual(t, MustList(t, s, "", ""), []string{"backups/b/manifest"})
}

func testCancelledBefore(t *testing.T, s storage.Store) {
	MustCreate(t, s, "object", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, statErr := s.Stat(ctx, "object")
	_, getErr := s.Get(ctx, "object", 0, -1)
	_, createErr := s.Create(ctx, "other", strings.NewReader("x"), 1)
	_, listErr := firstOf(s, ctx)
	errs := map[string]error{"Stat": statErr, "Get": getErr, "Create": createErr, "List": listErr, "Delete": s.Delete(ctx, "object")}
	for op, err := range errs {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: got %v, want context.Canceled", op, err)
		}
	}
	MustHold(t, s, "object", []byte("x"))
	MustBeAbsent(t, s, "other")
}

func firstOf(s storage.Store, ctx context.Context) (storage.Info, error) {
	for info, err := range s.List(ctx, "", "") {
		return info, err
	}
	return storage.Info{}, nil
}

func testCancelledGet(t *testing.T, s storage.Store) {
	MustCreate(t, s, "object", Content(20<<20, 1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := s.Get(ctx, "object", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.CopyN(io.Discard, body, 1000); err != nil {
		t.Fatal(err)
	}
	cancel()
	if n, err := io.Copy(io.Discard, body); !errors.Is(err, context.Canceled) {
		t.Fatalf("the body after its context was cancelled: got %d bytes and %v, want context.Canceled", n, err)
	}
}

func testCancelledList(t *testing.T, s storage.Store) {
	createAll(t, s, []string{"a/1", "b/1", "c/1"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range s.List(ctx, "", "") {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Fatalf("a List whose context is cancelled ends with %v, want context.Canceled", last)
	}
}

// cancellingBody cancels in the middle of the readings-th reading.
type cancellingBody struct {
	*bytes.Reader
	readings int
	cancel   context.CancelFunc
}

func (b *cancellingBody) Seek(offset int64, whence int) (int64, error) {
	b.readings--
	return b.Reader.Seek(offset, whence)
}

func (b *cancellingBody) Read(p []byte) (int, error) {
	if b.readings <= 0 && b.Len() < 15<<20 {
		b.cancel()
	}
	return b.Reader.Read(p[:min(len(p), 100_000)])
}

func testCancelledCreate(t *testing.T, s storage.Store) {
	data := Content(20<<20, 1)
	for readings := range 3 {
		key := fmt.Sprintf("cancelled-at-%d", readings)
		ctx, cancel := context.WithCancel(t.Context())
		body := &cancellingBody{bytes.NewReader(data), readings, cancel}
		_, err := s.Create(ctx, key, body, int64(len(data)))
		cancel()
		switch {
		case err == nil && readings > 1: // it has not been read that often
			MustHold(t, s, key, data)
		case !errors.Is(err, context.Canceled):
			t.Errorf("a Create whose context is cancelled: got %v, want context.Canceled", err)
		default:
			MustBeAbsent(t, s, key)
		}
	}
}
