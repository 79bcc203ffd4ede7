package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walden/catalog"
	"walden/codec"
	"walden/internal/testkit"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

var oldContent = []byte("what was there before")

// victim is where Fetch shall not put anything bad.
func (h *host) victim(t testing.TB) string {
	t.Helper()
	return h.write(t, "RECOVERYXLOG", oldContent)
}

// mustLeaveAlone fails unless a failed fetch has left everything as it was.
func (h *host) mustLeaveAlone(t testing.TB, dst string, err error) {
	t.Helper()
	if err == nil {
		t.Error("no error")
	}
	mustHold(t, dst, oldContent)
	h.mustBeClean(t)
}

// damage changes an object in a random way.
func damage(rnd *rand.Rand, object []byte) (what string, bad []byte) {
	bad = bytes.Clone(object)
	at := rnd.IntN(len(bad))
	if rnd.IntN(2) == 0 {
		at = rnd.IntN(min(len(bad), 600)) // where heads are
	}
	switch rnd.IntN(7) {
	case 0, 1, 2:
		bit := rnd.IntN(8)
		bad[at] ^= 1 << bit
		return fmt.Sprintf("bit %d of byte %d flipped", bit, at), bad
	case 3:
		return fmt.Sprintf("cut to %d bytes", at), bad[:at]
	case 4:
		n := min(len(bad)-at, 1+rnd.IntN(4096))
		clear(bad[at : at+n])
		bad[at] = ^object[at]
		return fmt.Sprintf("%d bytes from %d on wiped", n, at), bad
	case 5:
		n := 1 + rnd.IntN(min(len(bad), 4096))
		return fmt.Sprintf("%d bytes behind", n), append(bad, object[:n]...)
	default:
		n := 1 + rnd.IntN(len(bad)-at)
		return fmt.Sprintf("%d bytes from %d on left out", n, at), append(bad[:at], object[at+n:]...)
	}
}

// TestFetchDamaged damages objects in many ways: what is damaged never appears
// at dst. Bits without a meaning, of which zstd has some, may change nothing.
func TestFetchDamaged(t *testing.T) {
	k := newKey(t)
	for keyName, opts := range map[string]codec.ObjectOptions{"plain": {}, "encrypted": {Recipients: k.recipients}, "uncompressed": {Level: codec.LevelNone}} {
		for name, content := range filesOf(t, small) {
			t.Run(keyName+"/"+name, func(t *testing.T) {
				t.Parallel()
				h := newHost(t)
				object := encode(t, name, testSystemID, content, opts)
				rnd := rand.New(rand.NewPCG(uint64(len(name)), uint64(len(keyName))))
				harmless := 0
				for range 60 {
					what, bad := damage(rnd, object)
					h.put(t, name, bad)
					dst := h.victim(t)
					fetch := h.fetchOptions()
					fetch.Identities = k.identities
					err := Fetch(context.Background(), h.repo, fileName(t, name), dst, fetch)
					if err == nil {
						harmless++
						mustHold(t, dst, content)
						continue
					}
					h.mustLeaveAlone(t, dst, err)
					if errors.Is(err, ErrNotArchived) || !conclusive(err) {
						t.Errorf("%s: %v", what, err)
					}
				}
				if harmless > 12 {
					t.Errorf("%d of 60 damages went unnoticed", harmless)
				}
			})
		}
	}
}

// conclusive reports whether an error is about the object.
func conclusive(err error) bool {
	return errors.Is(err, codec.ErrCorrupt) || errors.Is(err, codec.ErrWrongIdentity) || errors.Is(err, codec.ErrNewer)
}

// TestFetchRefusesOtherContent: objects that are sound in themselves, and not
// what was asked for.
func TestFetchRefusesOtherContent(t *testing.T) {
	const name = "000000010000000000000003"
	start := fileName(t, name).Segment.Start(small)
	segment := func(id wal.Timeline, at wal.LSN, systemID uint64, size wal.SegmentSize) []byte {
		return withHeader(hardData(int(small), 1), id, at, systemID, size)
	}
	good := segment(1, start, testSystemID, small)
	plain := codec.ObjectOptions{}
	for what, c := range map[string]struct{ name, says, object string }{
		"another segment":          {name, "000000010000000000000004", string(encode(t, "000000010000000000000004", testSystemID, good, plain))},
		"another cluster":          {name, "7312345678901234568", string(encode(t, name, testSystemID+1, good, plain))},
		"page of another cluster":  {name, "system identifier 5", string(encode(t, name, testSystemID, segment(1, start, 5, small), plain))},
		"page of another address":  {name, "0/300000", string(encode(t, name, testSystemID, segment(1, start+1<<20, testSystemID, small), plain))},
		"page of a newer timeline": {name, "timeline 2", string(encode(t, name, testSystemID, segment(2, start, testSystemID, small), plain))},
		"another segment size":     {name, "16MB", string(encode(t, name, testSystemID, segment(1, start, testSystemID, 16<<20), plain))},
		"short":                    {name, "1048575 bytes", string(encode(t, name, testSystemID, good[:small-1], plain))},
		"a few bytes":              {name, "20 bytes", string(encode(t, name, testSystemID, good[:20], plain))},
		"nothing":                  {name, "0 bytes", string(encode(t, name, testSystemID, nil, plain))},
		"long":                     {name, "can have 1048576", string(encode(t, name, testSystemID, append(good, 0), plain))},
		"a bomb":                   {name, "can have 1048576", string(encode(t, name, testSystemID, make([]byte, 64<<20), plain))},
		"a long history":           {"00000002.history", "can have", string(encode(t, "00000002.history", testSystemID, make([]byte, maxText+1), plain))},
		"no history":               {"00000002.history", "line 1", string(encode(t, "00000002.history", testSystemID, []byte("hello\n"), plain))},
		"no backup label":          {name + ".00000028.backup", "START", string(encode(t, name+".00000028.backup", testSystemID, []byte("x"), plain))},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			h.put(t, c.name, []byte(c.object))
			dst := h.victim(t)
			err := Fetch(context.Background(), h.repo, fileName(t, c.name), dst, h.fetchOptions())
			h.mustLeaveAlone(t, dst, err)
			mustBe(t, err, codec.ErrCorrupt)
			mustSay(t, err, c.says, "fetch "+c.name)
			mustNotBe(t, err, ErrNotArchived)
		})
	}
}

func TestFetchWithoutKey(t *testing.T) {
	const name = "000000010000000000000003"
	h, k := newHost(t), newKey(t)
	h.put(t, name, encode(t, name, testSystemID, segmentOf(t, name, small, 1), codec.ObjectOptions{Recipients: k.recipients}))
	for _, c := range []struct {
		ids  []codec.Identity
		want error
	}{{nil, codec.ErrNoIdentity}, {newKey(t).identities, codec.ErrWrongIdentity}} {
		dst, opts := h.victim(t), h.fetchOptions()
		opts.Identities = c.ids
		err := Fetch(context.Background(), h.repo, fileName(t, name), dst, opts)
		h.mustLeaveAlone(t, dst, err)
		mustBe(t, err, c.want)
		mustNotBe(t, err, ErrNotArchived, codec.ErrCorrupt)
	}
}

// TestFetchIsOneRequest.
func TestFetchIsOneRequest(t *testing.T) {
	const name = "000000010000000000000003"
	h := newHost(t)
	h.push(t, name, segmentOf(t, name, small, 1))
	var seen requests
	repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
	if err := Fetch(context.Background(), repo, fileName(t, name), h.victim(t), h.fetchOptions()); err != nil {
		t.Fatal(err)
	}
	if got := seen.take(); got != "get "+name {
		t.Error(got)
	}
}

// TestFetchStoreErrors lets every request fail in turn, for a file that is there,
// one at the end, one in a hole, and a history: never is that the end of the
// archive, and dst stays as it is.
func TestFetchStoreErrors(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{"000000010000000000000001", "000000010000000000000003"} {
		h.push(t, name, segmentOf(t, name, small, 1))
	}
	for _, name := range []string{"000000010000000000000001", "000000010000000000000002", "000000010000000000000004", "00000002.history"} {
		for _, fault := range faults {
			for at := 1; ; at++ {
				dst, opts := h.victim(t), h.fetchOptions()
				opts.Patience = 1
				reached, err := failAt(t, h, at, fault, func(repo catalog.Cluster) error {
					return Fetch(context.Background(), repo, fileName(t, name), dst, opts)
				})
				if !reached {
					break
				}
				h.mustLeaveAlone(t, dst, err)
				mustNotBe(t, err, ErrNotArchived, ErrHole, ErrUnknownCluster, codec.ErrCorrupt)
			}
		}
	}
}

// TestFetchOfNothing: who holds nothing of the cluster can't say where its
// archive ends.
func TestFetchOfNothing(t *testing.T) {
	for _, name := range []string{"000000010000000000000001", "00000002.history", "000000010000000000000001.partial"} {
		h := newHost(t)
		other := catalog.Open(h.repo.Store, 42)
		if err := other.EnsureIdentity(context.Background(), catalog.Identity{SegmentSize: small}); err != nil {
			t.Fatal(err)
		}
		dst := h.victim(t)
		err := Fetch(context.Background(), h.repo, fileName(t, name), dst, h.fetchOptions())
		h.mustLeaveAlone(t, dst, err)
		mustBe(t, err, ErrUnknownCluster)
		mustSay(t, err, "7312345678901234567")
		mustNotBe(t, err, ErrNotArchived)

		if err := os.RemoveAll(h.dir); err != nil { // the disk is not mounted
			t.Fatal(err)
		}
		err = Fetch(context.Background(), h.repo, fileName(t, name), dst, h.fetchOptions())
		mustBe(t, err, storage.ErrConfig)
		mustNotBe(t, err, ErrNotArchived, ErrUnknownCluster)
	}
}

// TestFetchOfImpossibleNames: no answer about the archive, and no request.
func TestFetchOfImpossibleNames(t *testing.T) {
	h := newHost(t)
	h.push(t, "000000010000000100000000", segmentOf(t, "000000010000000100000000", small, 1))
	var seen requests
	repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
	for _, name := range []string{"000000010000000000001000", "0000000100000000FFFFFFFF.partial"} {
		dst := h.victim(t)
		err := Fetch(context.Background(), repo, fileName(t, name), dst, h.fetchOptions())
		h.mustLeaveAlone(t, dst, err)
		mustNotBe(t, err, ErrNotArchived, ErrHole)
	}
	if got := seen.take(); got != "" {
		t.Error(got)
	}
}

func TestFetchCancelled(t *testing.T) {
	const name = "000000010000000000000003"
	h := newHost(t)
	h.push(t, name, segmentOf(t, name, small, 1))
	for _, when := range []string{"before", "get", "read"} {
		ctx, cancel := context.WithCancel(context.Background())
		repo := h.through(func(op, _ string) error {
			if op == when {
				cancel()
			}
			return nil
		})
		if when == "before" {
			cancel()
		}
		dst := h.victim(t)
		err := Fetch(ctx, repo, fileName(t, name), dst, h.fetchOptions())
		cancel()
		if when == "read" && err == nil {
			t.Error("a fetch that was cancelled while it read has succeeded")
		}
		h.mustLeaveAlone(t, dst, err)
		mustBe(t, err, context.Canceled)
	}
}

// TestFetchToAFullDisk.
func TestFetchToAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a tmpfs")
	}
	const name = "000000010000000000000003"
	h := newHost(t)
	h.push(t, name, segmentOf(t, name, small, 1))
	h.pgWAL = t.TempDir()
	if err := syscall.Mount("walden-test", h.pgWAL, "tmpfs", 0, "size=512k"); err != nil {
		testkit.SkipUnlessCI(t, fmt.Sprintf("cannot mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(h.pgWAL, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dst := h.victim(t)
	for _, dir := range []string{filepath.Join(h.pgWAL, walspool.Hidden), filepath.Join(t.TempDir(), "spool")} {
		spool, err := walspool.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		h.spool = spool
		err = Fetch(context.Background(), h.repo, fileName(t, name), dst, h.fetchOptions())
		h.mustLeaveAlone(t, dst, err)
		mustBe(t, err, syscall.ENOSPC)
		mustNotBe(t, err, ErrNotArchived)
	}
}

// TestFetchWithBrokenSpool.
func TestFetchWithBrokenSpool(t *testing.T) {
	const name = "000000010000000000000003"
	h := newHost(t)
	h.push(t, name, segmentOf(t, name, small, 1))
	dst := h.victim(t)
	if err := os.RemoveAll(h.spool.Dir()); err != nil {
		t.Fatal(err)
	}
	err := Fetch(context.Background(), h.repo, fileName(t, name), dst, h.fetchOptions())
	h.mustLeaveAlone(t, dst, err)
	mustNotBe(t, err, ErrNotArchived, storage.ErrNotExist)
	if !strings.Contains(err.Error(), h.spool.Dir()) {
		t.Errorf("%v does not name the spool", err)
	}
}

// BenchmarkFetch hands over 16 MiB segments of hard data from a directory.
func BenchmarkFetch(b *testing.B) {
	h := newHost(b)
	const name, size = "000000010000000000000001", wal.DefaultSegmentSize
	h.put(b, name, encode(b, name, testSystemID, segmentOf(b, name, size, 1), codec.ObjectOptions{}))
	dst := filepath.Join(h.pgWAL, "RECOVERYXLOG")
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if err := Fetch(context.Background(), h.repo, fileName(b, name), dst, FetchOptions{SegmentSize: size, Spool: h.spool}); err != nil {
			b.Fatal(err)
		}
	}
}
