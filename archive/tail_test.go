package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

// tailOf is the name of the first n bytes of a segment.
func tailOf(t testing.TB, segment string, n int) wal.FileName {
	t.Helper()
	s := fileName(t, segment).Segment
	return wal.FileName{Kind: wal.KindTail, Timeline: s.Timeline, Segment: s, End: s.Start(small) + wal.LSN(n)}
}

// pushTailOf stores the first n bytes of a segment whose whole content is given.
func (h *host) pushTailOf(t testing.TB, segment string, content []byte, n int, k key) (PushResult, error) {
	t.Helper()
	f, err := os.Open(h.write(t, segment+".received", content))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	opts := h.pushOptions()
	opts.Codec.Recipients = k.recipients
	return pushTail(context.Background(), h.repo, tailOf(t, segment, n), f, opts)
}

// fetchWithTail fetches a segment, and tells which tail was taken for it.
func (h *host) fetchWithTail(t testing.TB, segment string, k key) (path, tail string, err error) {
	t.Helper()
	path = filepath.Join(h.pgWAL, "RECOVERYXLOG")
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	opts := h.fetchOptions()
	opts.Identities, opts.Patience = k.identities, 1
	opts.Tail = func(name wal.FileName) { tail = name.String() }
	err = Fetch(context.Background(), h.repo, fileName(t, segment), path, opts)
	h.mustBeClean(t)
	return path, tail, err
}

const tailed, before = "000000010000000000000005", "000000010000000000000004"

// TestTail stores longer and longer tails of a segment. The longest is handed
// over, with zeros behind it, until the segment itself is there.
func TestTail(t *testing.T) {
	for name, k := range map[string]key{"plain": {}, "encrypted": newKey(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			content := segmentOf(t, tailed, small, 5)
			h.push(t, before, segmentOf(t, before, small, 4))
			for _, n := range []int{wal.LongHeaderSize, 5000, 70000, int(small) - 1, int(small)} {
				for _, again := range []bool{false, true} {
					if res, err := h.pushTailOf(t, tailed, content, n, k); err != nil || res.Existed != again {
						t.Fatalf("%d bytes: %+v, %v", n, res, err)
					}
				}
				if _, err := h.pushTailOf(t, tailed, content, 4000, k); err != nil { // from another host that lags
					t.Fatal(err)
				}
				path, tail, err := h.fetchWithTail(t, tailed, k)
				want := tailOf(t, tailed, max(n, 4000)).String()
				if err != nil || tail != want {
					t.Fatalf("took %s, %v; want %s", tail, err, want)
				}
				padded := make([]byte, small)
				copy(padded, content[:max(n, 4000)])
				mustHold(t, path, padded)
			}
			h.push(t, tailed, content)
			path, tail, err := h.fetchWithTail(t, tailed, k)
			if err != nil || tail != "" {
				t.Errorf("%v; took %s instead of the segment", err, tail)
			}
			mustHold(t, path, content)
		})
	}
}

// TestTailIsNoSegment: nothing takes a tail for a segment, and only the end of an
// archive may be a tail.
func TestTailIsNoSegment(t *testing.T) {
	ctx, h := context.Background(), newHost(t)
	content := segmentOf(t, tailed, small, 5)
	h.push(t, before, segmentOf(t, before, small, 4))
	if _, err := h.pushTailOf(t, tailed, content, 9000, key{}); err != nil {
		t.Fatal(err)
	}
	s, first := fileName(t, tailed).Segment, fileName(t, before).Segment
	if next, found, err := h.repo.NextSegment(ctx, first); err != nil || found {
		t.Errorf("the next segment is %s, %v", next, err)
	}
	timelines, err := h.repo.Timelines(ctx, small, nil)
	if err != nil || len(timelines) != 1 || timelines[0].EndOf(first) != first || timelines[0].Ranges[0].Segments != 1 {
		t.Errorf("timelines %+v, %v", timelines, err)
	}
	dst := filepath.Join(h.pgWAL, "RECOVERYXLOG")
	mustBe(t, Fetch(ctx, h.repo, fileName(t, tailed), dst, h.fetchOptions()), ErrNotArchived) // on a standby
	for _, name := range []string{before + ".partial", "000000010000000000000006", "000000020000000000000005"} {
		_, tail, err := h.fetchWithTail(t, name, key{})
		if mustBe(t, err, ErrNotArchived); tail != "" {
			t.Errorf("%s: took %s", name, tail)
		}
	}
	mustBe(t, Fetch(ctx, h.repo, tailOf(t, tailed, 9000), dst, h.fetchOptions()), wal.ErrMismatch)
	_, err = Push(ctx, h.repo, h.write(t, tailOf(t, tailed, 9000).String(), content[:9000]), h.pushOptions())
	mustBe(t, err, ErrRefused)

	later := s.Next(small).String() // now it is a hole
	h.push(t, later, segmentOf(t, later, small, 6))
	_, tail, err := h.fetchWithTail(t, tailed, key{})
	if mustBe(t, err, ErrHole); tail != "" {
		t.Errorf("took %s in a hole", tail)
	}
}

// TestTailRefuses what is not the beginning of that segment.
func TestTailRefuses(t *testing.T) {
	h := newHost(t)
	content := segmentOf(t, tailed, small, 5)
	start := fileName(t, tailed).Segment.Start(small)
	for what, c := range map[string]struct {
		content []byte
		n       int
	}{
		"less than a header":    {content, wal.LongHeaderSize - 1},
		"nothing":               {content, 0},
		"more than a segment":   {append(bytes.Clone(content), 0), int(small) + 1},
		"a file that is short":  {content[:8999], 9000},
		"zeros":                 {make([]byte, small), 9000},
		"another segment":       {segmentOf(t, before, small, 4), 9000},
		"another cluster":       {withHeader(bytes.Clone(content), 1, start, testSystemID+1, small), 9000},
		"another segment size":  {withHeader(bytes.Clone(content), 1, start, testSystemID, 2*small), 9000},
		"a later timeline page": {withHeader(bytes.Clone(content), 2, start, testSystemID, small), 9000},
	} {
		_, err := h.pushTailOf(t, tailed, c.content, c.n, key{})
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if known, err := h.repo.Known(context.Background()); err != nil || known {
		t.Errorf("something was stored: %v, %v", known, err)
	}
}

// TestTailDamaged: an object that isn't what its name says is no end of an
// archive.
func TestTailDamaged(t *testing.T) {
	content := segmentOf(t, tailed, small, 5)
	name := tailOf(t, tailed, 9000).String()
	whole := encode(t, name, testSystemID, content[:9000], codec.ObjectOptions{})
	for what, object := range map[string][]byte{
		"empty":           {},
		"cut":             whole[:len(whole)-1],
		"longer":          encode(t, name, testSystemID, content[:9001], codec.ObjectOptions{}),
		"shorter":         encode(t, name, testSystemID, content[:8999], codec.ObjectOptions{}),
		"another tail":    encode(t, tailOf(t, tailed, 8000).String(), testSystemID, content[:9000], codec.ObjectOptions{}),
		"another cluster": encode(t, name, testSystemID+1, content[:9000], codec.ObjectOptions{}),
		"another content": encode(t, name, testSystemID, segmentOf(t, before, small, 4)[:9000], codec.ObjectOptions{}),
	} {
		h := newHost(t)
		h.push(t, before, segmentOf(t, before, small, 4))
		h.put(t, name, object)
		path, tail, err := h.fetchWithTail(t, tailed, key{})
		if mustBe(t, err, codec.ErrCorrupt); tail != "" {
			t.Errorf("%s: took it", what)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: handed over (%v)", what, err)
		}
	}
	h := newHost(t) // names that no tail of a segment can have
	h.push(t, before, segmentOf(t, before, small, 4))
	h.put(t, tailed+".0000000000100000.tail", whole)
	_, _, err := h.fetchWithTail(t, tailed, key{})
	mustBe(t, err, codec.ErrCorrupt)
	mustNotBe(t, err, ErrNotArchived)
}

// TestTailStoreErrors lets every request fail in turn: that never ends a recovery.
func TestTailStoreErrors(t *testing.T) {
	h := newHost(t)
	h.push(t, before, segmentOf(t, before, small, 4))
	if _, err := h.pushTailOf(t, tailed, segmentOf(t, tailed, small, 5), 9000, key{}); err != nil {
		t.Fatal(err)
	}
	good := h.repo
	for _, fault := range faults {
		for at := 1; ; at++ {
			n, failed := 0, false
			h.repo = h.through(func(op, key string) error {
				if n++; n == at {
					failed = true
					return fault
				}
				return nil
			})
			_, tail, err := h.fetchWithTail(t, tailed, key{})
			h.repo = good
			if !failed {
				if err != nil || tail == "" {
					t.Errorf("without a failure: %s, %v", tail, err)
				}
				break
			}
			if !errors.Is(err, fault) || tail != "" {
				t.Errorf("request %d fails with %q, and the result is %v, %s", at, fault, err, tail)
			}
			mustNotBe(t, err, ErrNotArchived, ErrHole, storage.ErrNotExist)
		}
	}
}

// TestTailRequests: a tail costs two requests more at the end of an archive, and
// nothing elsewhere.
func TestTailRequests(t *testing.T) {
	h := newHost(t)
	h.push(t, before, segmentOf(t, before, small, 4))
	if _, err := h.pushTailOf(t, tailed, segmentOf(t, tailed, small, 5), 9000, key{}); err != nil {
		t.Fatal(err)
	}
	var seen requests
	h.repo.Store = seen.of(h.repo.Store)
	for _, c := range []struct{ segment, want string }{
		{before, "get " + before},
		{tailed, fmt.Sprintf("get %s, list , list , list %s., get %s", tailed, tailed, tailOf(t, tailed, 9000))},
	} {
		if _, _, err := h.fetchWithTail(t, c.segment, key{}); err != nil {
			t.Fatal(err)
		}
		if got := seen.take(); got != c.want {
			t.Errorf("%s: %s; want %s", c.segment, got, c.want)
		}
	}
}
