package archive

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/age"
	"go.uber.org/goleak"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testSystemID = 7312345678901234567
	small        = wal.MinSegmentSize
)

// hooked asks before it does anything: an error of before is the store's answer.
// The operations are get, read (of what get returned), list and create.
type hooked struct {
	storage.Store
	before func(op, key string) error
}

func (h hooked) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := h.before("get", key); err != nil {
		return nil, err
	}
	r, err := h.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	if err := h.before("read", key); err != nil {
		return cutBody{io.MultiReader(io.LimitReader(r, 100), failing{err}), r}, nil
	}
	return r, nil
}

type cutBody struct {
	io.Reader
	io.Closer
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func (h hooked) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := h.before("list", prefix); err != nil {
			yield(storage.Info{}, err)
			return
		}
		h.Store.List(ctx, prefix, after)(yield)
	}
}

func (h hooked) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (storage.Info, error) {
	if err := h.before("create", key); err != nil {
		return storage.Info{}, err
	}
	return h.Store.Create(ctx, key, body, size)
}

// requests counts what reaches a store.
type requests struct {
	mu   sync.Mutex
	made []string
}

func (r *requests) of(store storage.Store) storage.Store {
	return hooked{store, func(op, key string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if op != "read" {
			r.made = append(r.made, op+" "+key[strings.LastIndexByte(key, '/')+1:])
		}
		return nil
	}}
}

// take returns the requests since the last take.
func (r *requests) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := strings.Join(r.made, ", ")
	r.made = nil
	return made
}

// host is one that archives into a directory.
type host struct {
	repo  catalog.Cluster
	dir   string // of the repository
	pgWAL string
	spool *walspool.Spool
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{dir: t.TempDir(), pgWAL: t.TempDir()}
	loc, err := storage.ParseLocation("file://" + h.dir)
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(loc, storage.Options{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	h.repo = catalog.Open(store, testSystemID)
	h.spool, err = walspool.Open(filepath.Join(h.pgWAL, walspool.Hidden))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// through returns the repository seen through another store.
func (h *host) through(before func(op, key string) error) catalog.Cluster {
	return catalog.Open(hooked{h.repo.Store, before}, h.repo.SystemID)
}

func (h *host) write(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(h.pgWAL, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (h *host) push(t testing.TB, name string, content []byte) PushResult {
	t.Helper()
	res, err := Push(context.Background(), h.repo, h.write(t, name, content), h.pushOptions())
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (h *host) pushOptions() PushOptions {
	return PushOptions{SegmentSize: small, Major: 15, Repository: h.dir, Spool: h.spool}
}

func (h *host) fetchOptions() FetchOptions { return FetchOptions{SegmentSize: small, Spool: h.spool} }

// holds reports whether the repository has an object of that name.
func (h *host) holds(t testing.TB, name string) bool {
	t.Helper()
	_, err := h.repo.Store.Stat(context.Background(), h.repo.WALKey(fileName(t, name)))
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// objectPath is where the directory keeps an object.
func (h *host) objectPath(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(h.dir, h.repo.WALKey(fileName(t, name)))
}

// put stores raw bytes under the key of a WAL file.
func (h *host) put(t testing.TB, name string, object []byte) {
	t.Helper()
	path := h.objectPath(t, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, object, 0o644); err != nil {
		t.Fatal(err)
	}
}

// mustBeClean fails when the spool holds a temporary file.
func (h *host) mustBeClean(t testing.TB) {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(h.spool.Dir(), "tmp-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the spool: %v, %v", left, err)
	}
}

func fileName(t testing.TB, name string) wal.FileName {
	t.Helper()
	f, err := wal.ParseFileName(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// segmentOf builds the segment of that name as PostgreSQL 15 would begin it. What
// follows the header is hard to compress and depends on seed; for seed 0 it is
// zeros, where only the name matters.
func segmentOf(t testing.TB, name string, size wal.SegmentSize, seed uint64) []byte {
	t.Helper()
	s, b := fileName(t, name).Segment, make([]byte, size)
	if seed != 0 {
		b = hardData(int(size), seed)
	}
	return withHeader(b, s.Timeline, s.Start(size), testSystemID, size)
}

func withHeader(b []byte, t wal.Timeline, start wal.LSN, systemID uint64, size wal.SegmentSize) []byte {
	le := binary.LittleEndian
	le.PutUint16(b[0:], 0xD110)
	le.PutUint16(b[2:], wal.InfoLongHeader)
	le.PutUint32(b[4:], uint32(t))
	le.PutUint64(b[8:], uint64(start))
	le.PutUint64(b[24:], systemID)
	le.PutUint32(b[32:], uint32(size))
	le.PutUint32(b[36:], 8192)
	return b
}

// hardData looks like WAL of random uuid and jsonb columns: a third compresses.
// It repeats itself, but further apart than compression looks back.
func hardData(n int, seed uint64) []byte {
	rnd := rand.New(rand.NewPCG(seed, 1))
	const period, words = 1 << 20, "customer order pending EUR "
	b := make([]byte, 0, period)
	for len(b) < min(n, period) {
		for range 6 {
			b = binary.LittleEndian.AppendUint64(b, rnd.Uint64())
		}
		b = append(b, words...)
	}
	return bytes.Repeat(b, n/len(b)+1)[:n]
}

const (
	historyText = "1\t0/3000000\tno recovery target specified\n"
	backupText  = "START WAL LOCATION: 0/500028 (file 000000010000000000000005)\nCHECKPOINT LOCATION: 0/500060\n" +
		"BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-11-21 08:15:30 UTC\nLABEL: walden\nSTART TIMELINE: 1\n" +
		"STOP WAL LOCATION: 0/500138 (file 000000010000000000000005)\nSTOP TIME: 2026-11-21 08:16:30 UTC\nSTOP TIMELINE: 1\n"
)

// encode makes an object as Push would.
func encode(t testing.TB, name string, systemID uint64, content []byte, opts codec.ObjectOptions) []byte {
	t.Helper()
	sum, err := codec.SumReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := codec.EncodeObject(&b, name, systemID, sum, bytes.NewReader(content), opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type key struct {
	recipients []codec.Recipient
	identities []codec.Identity
}

func newKey(t testing.TB) key {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key{[]codec.Recipient{id.Recipient()}, []codec.Identity{id}}
}

func newHybridKey(t testing.TB) key {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return key{[]codec.Recipient{id.Recipient()}, []codec.Identity{id}}
}

func mustBe(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("got error %v, want %v", err, target)
		}
	}
}

func mustNotBe(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if errors.Is(err, target) {
			t.Errorf("%v says %q", err, target)
		}
	}
}

func mustSay(t testing.TB, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func mustHold(t testing.TB, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s holds other content: %d bytes, want %d", path, len(got), len(want))
	}
}

// failAt lets the nth request fail and reports whether there were as many.
func failAt(t *testing.T, h *host, at int, fault error, do func(catalog.Cluster) error) (reached bool, err error) {
	t.Helper()
	n := 0
	failed := ""
	err = do(h.through(func(op, key string) error {
		if n++; n == at {
			failed = op + " " + key
			return fault
		}
		return nil
	}))
	if failed != "" && !errors.Is(err, fault) {
		t.Errorf("%s fails with %q, and the result is %v", failed, fault, err)
	}
	return failed != "", err
}

// faults are the ways in which a store says nothing about an object.
var faults = []error{storage.ErrUnavailable, storage.ErrDenied, storage.ErrConfig, context.Canceled}
