package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

func TestPushFetchRoundTrip(t *testing.T) {
	plain, x25519, hybrid := key{}, newKey(t), newHybridKey(t)
	for _, size := range []wal.SegmentSize{1 << 20, 16 << 20, 64 << 20} { // hard data of the last spills to a file
		for keyName, k := range map[string]key{"plain": plain, "x25519": x25519, "hybrid": hybrid} {
			if keyName == "hybrid" && size > small {
				continue // it differs from x25519 in the header alone
			}
			t.Run(fmt.Sprintf("%s/%s", size, keyName), func(t *testing.T) {
				t.Parallel()
				ctx, h := context.Background(), newHost(t)
				for name, content := range filesOf(t, size) {
					if isSegment(fileName(t, name)) && size > small && !strings.HasSuffix(name, ".partial") {
						continue // one large file is enough
					}
					path, dst := h.write(t, name, content), filepath.Join(h.pgWAL, "RECOVERYXLOG")
					opts := h.pushOptions()
					opts.SegmentSize, opts.Codec.Recipients = size, k.recipients
					res, err := Push(ctx, h.repo, path, opts)
					if err != nil {
						t.Fatal(err)
					}
					if res.Existed || res.Fingerprint.Name != name || res.Fingerprint.Size != int64(len(content)) {
						t.Errorf("result %+v", res)
					}
					if info, err := os.Stat(h.objectPath(t, name)); err != nil || info.Size() != res.StoredSize {
						t.Errorf("the object: %v, %v; the result says %d bytes", info, err, res.StoredSize)
					}
					if err := Fetch(ctx, h.repo, fileName(t, name), dst, FetchOptions{SegmentSize: size, Identities: k.identities, Spool: h.spool}); err != nil {
						t.Fatal(err)
					}
					mustHold(t, dst, content)
					h.mustBeClean(t)
				}
			})
		}
	}
}

// filesOf is a file of each kind.
func filesOf(t testing.TB, size wal.SegmentSize) map[string][]byte {
	child := "000000020000000000000003" // begins with a page of its parent
	return map[string][]byte{
		"000000010000000000000001":         segmentOf(t, "000000010000000000000001", size, 1),
		"000000010000000700000002.partial": segmentOf(t, "000000010000000700000002", size, 2),
		child:                              withHeader(segmentOf(t, child, size, 3), 1, fileName(t, child).Segment.Start(size), testSystemID, size),
		"00000002.history":                 []byte(historyText),
		"000000010000000000000005.00000028.backup": []byte(backupText),
	}
}

func TestPushRefuses(t *testing.T) {
	const name = "000000010000000000000003"
	good := func() []byte { return segmentOf(t, name, small, 1) }
	start := fileName(t, name).Segment.Start(small)
	for what, c := range map[string]struct {
		name    string
		content []byte
		says    string
	}{
		"empty segment":              {name, nil, "0 bytes"},
		"short segment":              {name, good()[:small-1], "1048575 bytes"},
		"long segment":               {name, append(good(), 0), "1048577 bytes"},
		"segment of a few bytes":     {name, good()[:20], "20 bytes"},
		"foreign system identifier":  {name, withHeader(good(), 1, start, testSystemID+1, small), "7312345678901234568"},
		"renamed segment":            {"000000010000000000000004", good(), "0/300000"},
		"segment of a newer page":    {name, withHeader(good(), 2, start, testSystemID, small), "timeline 2"},
		"another segment size":       {name, withHeader(good(), 1, start, testSystemID, 16<<20), "16MB"},
		"zeros":                      {name, make([]byte, small), "zeros"},
		"noise":                      {name, hardData(int(small), 1), "magic"},
		"short partial":              {name + ".partial", good()[:small/2], "524288 bytes"},
		"partial of another cluster": {name + ".partial", withHeader(good(), 1, start, 5, small), "cluster with system identifier 5"},
		"name beyond the log":        {"000000010000000000001000", withHeader(good(), 1, 0, testSystemID, small), "can't be the name"},
		"history of nothing":         {"00000002.history", nil, "comes from"},
		"history of comments":        {"00000002.history", []byte("# nothing\n\n"), "comes from"},
		"history of noise":           {"00000002.history", []byte("hello\n"), "line 1"},
		"history of its own child":   {"00000002.history", []byte("2\t0/3000000\tx\n"), "ancestor"},
		"history that is huge":       {"00000002.history", bytes.Repeat([]byte("#\n"), maxText/2+1), "longer than"},
		"backup label of nothing":    {name + ".00000028.backup", nil, "START WAL LOCATION"},
		"backup label of another":    {name + ".00000028.backup", []byte(backupText), "000000010000000000000005"},
		"lower case":                 {"00000001000000000000000a", good(), "parse WAL file name"},
		"no WAL file":                {"README", good(), "parse WAL file name"},
		"archive status":             {name + ".ready", good(), "parse WAL file name"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			_, err := Push(context.Background(), h.repo, h.write(t, c.name, c.content), h.pushOptions())
			mustBe(t, err, ErrRefused)
			mustSay(t, err, c.says, c.name)
			if known, err := h.repo.Known(context.Background()); err != nil || known {
				t.Errorf("something was stored: %v, %v", known, err)
			}
		})
	}
}

func TestPushRefusesWhatIsNoFile(t *testing.T) {
	h := newHost(t)
	path := filepath.Join(h.pgWAL, "000000010000000000000003")
	_, err := Push(context.Background(), h.repo, path, h.pushOptions())
	mustBe(t, err, os.ErrNotExist)
	mustNotBe(t, err, ErrRefused) // it may be there the next time
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Push(context.Background(), h.repo, path, h.pushOptions())
	mustBe(t, err, ErrRefused)
}

// TestPushRequests counts: in the long run a segment costs one request.
func TestPushRequests(t *testing.T) {
	ctx, h := context.Background(), newHost(t)
	var seen requests
	h.repo = catalog.Open(seen.of(h.repo.Store), testSystemID)
	pushNext := func(n int, opts PushOptions) (string, error) {
		name := fmt.Sprintf("0000000100000000%08X", n)
		_, err := Push(ctx, h.repo, h.write(t, name, segmentOf(t, name, small, uint64(n))), opts)
		return seen.take(), err
	}
	expect := func(what string, n int, opts PushOptions, want string) {
		t.Helper()
		if got, err := pushNext(n, opts); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", what, got, err, want)
		}
	}
	opts := h.pushOptions()
	expect("the first push of a cluster", 1, opts, "create cluster.json, create 000000010000000000000001")
	expect("the second", 2, opts, "create 000000010000000000000002")
	expect("the same again", 2, opts, "create 000000010000000000000002, get 000000010000000000000002")

	forgetful := opts
	forgetful.Spool = nil
	expect("without a spool", 3, forgetful, "create cluster.json, get cluster.json, create 000000010000000000000003")

	elsewhere := opts
	elsewhere.Repository = "s3://elsewhere"
	expect("another repository", 4, elsewhere, "create cluster.json, get cluster.json, create 000000010000000000000004")

	h.repo.SystemID++
	if got, err := pushNext(5, opts); !errors.Is(err, ErrRefused) || got != "" {
		t.Errorf("another cluster: %s, %v", got, err)
	}
	h.repo.SystemID--

	grown := opts // pg_resetwal --wal-segsize
	grown.SegmentSize = 2 * small
	name := "000000010000000000000006"
	_, err := Push(ctx, h.repo, h.write(t, name, segmentOf(t, name, 2*small, 6)), grown)
	mustBe(t, err, catalog.ErrConflict)
	if got := seen.take(); got != "create cluster.json, get cluster.json" {
		t.Errorf("another segment size: %s", got)
	}

	ageMarks(t, h, markLife+time.Minute)
	expect("an old mark", 7, opts, "create cluster.json, get cluster.json, create 000000010000000000000007")
	expect("which is renewed", 8, opts, "create 000000010000000000000008")

	if err := os.RemoveAll(h.spool.Dir()); err != nil {
		t.Fatal(err)
	}
	expect("a spool that is gone", 9, opts, "create cluster.json, get cluster.json, create 000000010000000000000009")
}

// TestPushStoresHistoryFirst: the history file of a timeline is in the repository
// before its first segment, also when PostgreSQL never archives it.
func TestPushStoresHistoryFirst(t *testing.T) {
	ctx, h := context.Background(), newHost(t)
	var seen requests
	h.repo = catalog.Open(seen.of(h.repo.Store), testSystemID)
	name := func(n int) string { return fmt.Sprintf("0000000200000000%08X", n) }
	push := func(n int) (string, error) {
		_, err := Push(ctx, h.repo, h.write(t, name(n), segmentOf(t, name(n), small, uint64(n))), h.pushOptions())
		return seen.take(), err
	}
	h.write(t, "00000002.history", []byte("1\t0/300000\tno recovery target specified\n"))
	for n, want := range []string{3: "create cluster.json, create 00000002.history, create " + name(3), 4: "create " + name(4)} {
		if want == "" {
			continue
		}
		if got, err := push(n); err != nil || got != want {
			t.Errorf("segment %d: %s, %v; want %s", n, got, err, want)
		}
	}

	copied := newHost(t) // another copy of the same source that came to a timeline 2 of its own
	copied.repo = h.repo
	copied.write(t, "00000002.history", []byte("1\t0/500000\tbefore 2026-11-21 08:15:30+00\n"))
	_, err := Push(ctx, copied.repo, copied.write(t, name(5), segmentOf(t, name(5), small, 5)), copied.pushOptions())
	mustBe(t, err, catalog.ErrConflict)
	if h.holds(t, name(5)) {
		t.Error("a segment of the other timeline 2 was stored")
	}
}

func ageMarks(t *testing.T, h *host, by time.Duration) {
	t.Helper()
	marks, err := filepath.Glob(filepath.Join(h.spool.Dir(), "mark-*"))
	if err != nil || len(marks) == 0 {
		t.Fatalf("no marks: %v", err)
	}
	for _, m := range marks {
		at := time.Now().Add(-by)
		if err := os.Chtimes(m, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPushIntoEmptiedRepository: an operator began anew; the identity comes back
// when the mark is old.
func TestPushIntoEmptiedRepository(t *testing.T) {
	h := newHost(t)
	h.push(t, "000000010000000000000001", segmentOf(t, "000000010000000000000001", small, 1))
	if err := os.RemoveAll(filepath.Join(h.dir, fmt.Sprint(uint64(testSystemID)))); err != nil {
		t.Fatal(err)
	}
	ageMarks(t, h, markLife+time.Minute)
	h.push(t, "000000010000000000000002", segmentOf(t, "000000010000000000000002", small, 2))
	if _, err := h.repo.Identity(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestPushStoreErrors lets every request fail in turn, with and without an
// object of that name there: never is that a refusal, a conflict or a success.
func TestPushStoreErrors(t *testing.T) {
	const name = "000000010000000000000001"
	content := segmentOf(t, name, small, 0)
	for _, there := range []bool{false, true} {
		for _, fault := range faults {
			for at := 1; ; at++ {
				h := newHost(t)
				if there {
					h.push(t, name, content)
				}
				path, opts := h.write(t, name, content), h.pushOptions()
				opts.Spool = nil
				reached, err := failAt(t, h, at, fault, func(repo catalog.Cluster) error {
					_, err := Push(context.Background(), repo, path, opts)
					return err
				})
				if !reached {
					break
				}
				mustNotBe(t, err, ErrRefused, catalog.ErrConflict, storage.ErrNotExist)
			}
		}
	}
}

// TestPushOfReusedSegment: PostgreSQL reuses the file while the push that nobody
// waits for any more is still talking to a slow store. The new content must not
// be stored under the old name.
func TestPushOfReusedSegment(t *testing.T) {
	const name, next = "000000010000000000000001", "000000010000000000000009"
	h := newHost(t)
	path := h.write(t, name, segmentOf(t, name, small, 1))
	repo := h.through(func(op, key string) error {
		if op == "create" && strings.HasSuffix(key, "/cluster.json") {
			h.write(t, name, segmentOf(t, next, small, 9))
		}
		return nil
	})
	_, err := Push(context.Background(), repo, path, h.pushOptions())
	mustBe(t, err, codec.ErrChanged)
	if h.holds(t, name) {
		t.Error("it was stored")
	}
}

// TestPushCancelled, before and while it stores.
func TestPushCancelled(t *testing.T) {
	const name = "000000010000000000000001"
	h := newHost(t)
	path := h.write(t, name, segmentOf(t, name, small, 1))
	ctx, cancel := context.WithCancel(context.Background())
	repo := h.through(func(op, key string) error {
		if op == "create" && strings.HasSuffix(key, name) {
			cancel()
		}
		return nil
	})
	for range 2 {
		_, err := Push(ctx, repo, path, h.pushOptions())
		mustBe(t, err, context.Canceled)
		mustNotBe(t, err, ErrRefused, catalog.ErrConflict)
	}
	if h.holds(t, name) {
		t.Error("it was stored")
	}
	h.push(t, name, segmentOf(t, name, small, 1))
}

// TestPushOntoForeignObjects: what is there and is not the same file.
func TestPushOntoForeignObjects(t *testing.T) {
	const name = "000000010000000000000001"
	content := segmentOf(t, name, small, 1)
	for what, object := range map[string][]byte{
		"empty":                    {},
		"noise":                    hardData(5000, 1),
		"the plain file":           content,
		"the file under its child": encode(t, "000000020000000000000001", testSystemID, content, codec.ObjectOptions{}),
		"of another cluster":       encode(t, name, testSystemID+1, content, codec.ObjectOptions{}),
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			h.put(t, name, object)
			_, err := Push(context.Background(), h.repo, h.write(t, name, content), h.pushOptions())
			mustBe(t, err, catalog.ErrConflict)
			mustHold(t, h.objectPath(t, name), object)
		})
	}
	t.Run("of a newer walden", func(t *testing.T) {
		h := newHost(t)
		h.put(t, name, newerObject(t, name, content))
		_, err := Push(context.Background(), h.repo, h.write(t, name, content), h.pushOptions())
		mustBe(t, err, codec.ErrNewer)
		mustNotBe(t, err, catalog.ErrConflict)
	})
}

// newerObject is an object whose fingerprint has the next version.
func newerObject(t *testing.T, name string, content []byte) []byte {
	object := encode(t, name, testSystemID, content, codec.ObjectOptions{})
	fp := object[8 : 8+binary.LittleEndian.Uint32(object[4:])]
	binary.LittleEndian.PutUint16(fp[8:], codec.FingerprintVersion+1)
	sum := crc32.Checksum(fp[:len(fp)-4], crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(fp[len(fp)-4:], sum)
	return object
}

// BenchmarkPush stores 16 MiB segments of hard data in a directory.
func BenchmarkPush(b *testing.B) {
	h, opts := newHost(b), PushOptions{SegmentSize: 16 << 20, Major: 15}
	opts.Spool, opts.Repository = h.spool, h.dir
	const name = "000000010000000000000001"
	path := h.write(b, name, segmentOf(b, name, opts.SegmentSize, 1))
	b.SetBytes(int64(opts.SegmentSize))
	b.ReportAllocs()
	for b.Loop() {
		if res, err := Push(context.Background(), h.repo, path, opts); err != nil || res.Existed {
			b.Fatalf("%+v, %v", res, err)
		}
		b.StopTimer()
		if err := syscall.Unlink(h.objectPath(b, name)); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
