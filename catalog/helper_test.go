package catalog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

const testSystemID = 7312345678901234567

// directory opens a new directory as a store, and returns its path, too.
func directory(t testing.TB) (storage.Store, string) {
	t.Helper()
	dir := t.TempDir()
	return openStore(t, "file://"+dir, storage.Options{Timeout: time.Second}), dir
}

func openStore(t testing.TB, url string, opts storage.Options) storage.Store {
	t.Helper()
	loc, err := storage.ParseLocation(url)
	if err != nil {
		t.Fatal(err)
	}
	s, err := storage.Open(loc, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hooked asks before it does anything: an error of before is the store's answer.
// The operations are get, read (of what get returned), stat, list, create and
// delete.
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
		return failingBody{r, err}, nil
	}
	return r, nil
}

type failingBody struct {
	io.ReadCloser
	err error
}

func (f failingBody) Read([]byte) (int, error) { return 0, f.err }

func (h hooked) Stat(ctx context.Context, key string) (storage.Info, error) {
	if err := h.before("stat", key); err != nil {
		return storage.Info{}, err
	}
	return h.Store.Stat(ctx, key)
}

func (h hooked) List(ctx context.Context, prefix, after string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := h.before("list", prefix); err != nil {
			yield(storage.Info{}, err)
			return
		}
		for info, err := range h.Store.List(ctx, prefix, after) {
			if !yield(info, err) {
				return
			}
			if err := h.before("list", prefix); err != nil { // in the middle
				yield(storage.Info{}, err)
				return
			}
		}
	}
}

func (h hooked) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (storage.Info, error) {
	if err := h.before("create", key); err != nil {
		return storage.Info{}, err
	}
	return h.Store.Create(ctx, key, body, size)
}

// put writes a file of the directory behind a store, without the store's syncs.
func put(t testing.TB, dir, key string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func take(t testing.TB, dir, key string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, key))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func fileName(t testing.TB, name string) wal.FileName {
	t.Helper()
	f, err := wal.ParseFileName(name)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func segment(t testing.TB, name string) wal.Segment {
	t.Helper()
	return fileName(t, name).Segment
}

func lsn(t testing.TB, s string) wal.LSN {
	t.Helper()
	l, err := wal.ParseLSN(s)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// object encodes a WAL file as it is stored.
func object(t testing.TB, name string, systemID uint64, content string, opts codec.ObjectOptions) []byte {
	t.Helper()
	sum, err := codec.SumReader(strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := codec.EncodeObject(&b, name, systemID, sum, strings.NewReader(content), opts); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// putHistory stores a history file: the parents by lines such as "1\t0/3000000".
func putHistory(t testing.TB, dir string, c Cluster, id wal.Timeline, lines ...string) {
	t.Helper()
	name := wal.FileName{Kind: wal.KindHistory, Timeline: id}
	content := strings.Join(lines, "\tno recovery target specified\n") + "\tno recovery target specified\n"
	put(t, dir, c.WALKey(name), object(t, name.String(), c.SystemID, content, codec.ObjectOptions{}))
}

func putSegments(t testing.TB, dir string, c Cluster, names ...string) {
	t.Helper()
	for _, name := range names {
		put(t, dir, c.WALKey(fileName(t, name)), []byte(name))
	}
}

// storeBackup stores a backup by the package's own functions: start record, two
// slices, manifest, commit record. It needs segments 2 and 3 of its timeline.
func storeBackup(t testing.TB, c Cluster, id string, timeline wal.Timeline) Commit {
	t.Helper()
	ctx := context.Background()
	began := time.Date(2026, 11, 21, 8, 15, 30, 0, time.UTC)
	start := Start{ID: id, Type: "full", StartedAt: began, Host: "db1", DataDirectory: "/pg", PostgresVersion: 150018,
		Timeline: timeline, StartLSN: lsn(t, "0/2000028"), Walden: "test"}
	if err := c.CreateStart(ctx, start); err != nil {
		t.Fatal(err)
	}
	b := Commit{ID: id, Type: "full", StartedAt: began, StoppedAt: began.Add(time.Minute), PostgresVersion: 150018,
		SegmentSize: wal.DefaultSegmentSize, NextXID: 740, DataDirectoryMode: 0o700,
		WAL: WALNeed{Timeline: timeline, StartLSN: lsn(t, "0/2000028"), StopLSN: lsn(t, "0/3000100"),
			First: wal.Segment{Timeline: timeline, Seg: 2}, Last: wal.Segment{Timeline: timeline, Seg: 3}}}
	for i, data := range []string{"first slice", "second"} {
		if _, err := c.Store.Create(ctx, c.SliceKey(id, 2*i), strings.NewReader(data), int64(len(data))); err != nil {
			t.Fatal(err)
		}
		b.Slices++
		b.StoredBytes += int64(len(data))
	}
	body := manifestOf(t, ManifestHeader{Backup: id, SystemID: c.SystemID, Sources: []string{id}}, sampleEntries()...)
	if err := c.CreateManifest(ctx, id, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	b.ManifestSize, b.ManifestSHA256 = int64(len(body)), hexSHA256(body)
	if err := c.CreateCommit(ctx, b); err != nil {
		t.Fatal(err)
	}
	b.Format, b.SystemID = Format, c.SystemID
	return b
}

// mustBe fails unless err is of all these.
func mustBe(t testing.TB, err error, targets ...error) {
	t.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			t.Fatalf("got error %v, want %v", err, target)
		}
	}
}

func mustSay(t testing.TB, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q does not say %q", text, part)
		}
	}
}

// check fails a test unless got is want, by their printed form.
func check(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s:\n got %s\nwant %s", what, g, w)
	}
}
