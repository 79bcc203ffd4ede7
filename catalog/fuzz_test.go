package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"testing"

	"walden/codec"
	"walden/storage"
)

// Further seeds of these targets are in testdata/fuzz.

// FuzzManifest reads stored bytes.
func FuzzManifest(f *testing.F) {
	f.Add(manifestOf(f, testHeader))
	f.Add(manifestOf(f, testHeader, sampleEntries()...))
	f.Add(zip(f, signed(headerLine, entryLine("", ""))))
	f.Fuzz(fuzzManifest)
}

// FuzzManifestText reads text behind the compression, where mutations of stored
// bytes don't get.
func FuzzManifestText(f *testing.F) {
	f.Add(unzip(f, manifestOf(f, testHeader, sampleEntries()...)))
	f.Add(signed(headerLine, entryLine("", "")))
	f.Add(signed(headerLine, entryLine("a/b", "../x")))
	f.Fuzz(func(t *testing.T, text string) { fuzzManifest(t, zip(t, text)) })
}

// FuzzManifestLines reads lines that are rightly signed, which is all that
// stands between an attacker and the checks of each entry.
func FuzzManifestLines(f *testing.F) {
	f.Add(headerLine, entryLine("", ""))
	f.Add(headerLine, entryLine(`[[0,0,0,700,0,1]]`, `[[0,0,0,700,1,9223372036854775807]]`))
	f.Add(headerLine, entryLine(`"file"`, `"symlink","target":"/x"`))
	f.Fuzz(func(t *testing.T, header, entry string) { fuzzManifest(t, zip(t, signed(header, entry))) })
}

// fuzzManifest checks what a restore relies on: errors with a meaning, and
// entries that stay below the directory and whose extents add up.
func fuzzManifest(t *testing.T, stored []byte) {
	h, entries, err := readManifest(io.LimitReader(bytes.NewReader(stored), 1<<20))
	if err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrConfig) {
		t.Fatalf("error without a meaning: %v", err)
	}
	for _, e := range entries {
		if !filepath.IsLocal(e.Path) || e.Path == "." {
			t.Fatalf("path %q", e.Path)
		}
		sum := int64(0)
		for _, x := range e.Extents {
			checkExtent(t, x)
			if x.Source >= len(h.Sources) {
				t.Fatalf("source %d of %d", x.Source, len(h.Sources))
			}
			sum += x.Size
		}
		if e.Type == TypeFile && sum != e.Size {
			t.Fatalf("extents of %d bytes, file of %d", sum, e.Size)
		}
	}
}

func checkExtent(t *testing.T, x Extent) {
	if x.Source < 0 || x.Slice < 0 || x.FrameOffset < 0 || x.FrameSize <= 0 || x.Offset < 0 || x.Size <= 0 ||
		x.Offset > codec.FrameSize || x.Size > codec.FrameSize || x.Offset+x.Size > codec.FrameSize ||
		x.FrameOffset > math.MaxInt64-x.FrameSize {
		t.Fatalf("impossible extent %+v", x)
	}
}

func FuzzExtent(f *testing.F) {
	for _, s := range []string{`[0,0,0,700,0,1]`, `[1,2,3,4,5,6]`, `[0,0,0,700,1,9223372036854775807]`, `[0,0,0,1e3,0,1]`, `[]`, `{}`, `null`, `[-1]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var x, again Extent
		if err := json.Unmarshal([]byte(s), &x); err != nil {
			return
		}
		checkExtent(t, x)
		b, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &again); err != nil || again != x {
			t.Fatalf("%+v is written as %s and read as %+v, %v", x, b, again, err)
		}
	})
}

// fuzzRecord reads a record, and what it was read as once more.
func fuzzRecord[R any](t *testing.T, body []byte, inspect func(R)) {
	var r, again R
	if err := decodeRecord(body, &r); err != nil {
		if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrConfig) {
			t.Fatalf("error without a meaning: %v", err)
		}
		return
	}
	b, err := json.Marshal(r)
	if err != nil {
		return // a time that RFC 3339 has no form for
	}
	if err := decodeRecord(b, &again); err != nil {
		t.Fatalf("%+v is written as %s, which is refused: %v", r, b, err)
	}
	if got, want := fmt.Sprintf("%+v", again), fmt.Sprintf("%+v", r); got != want {
		t.Fatalf("read again it is\n%s, first it was\n%s", got, want)
	}
	inspect(r)
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte(`{"format":1,"system_identifier":"7312345678901234567","wal_segment_size":16777216,"postgres_version":15}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzRecord(t, body, func(Identity) {}) })
}

func FuzzStart(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"20261121T081530Z-4be1","system_identifier":"7312345678901234567","type":"full",` +
		`"started_at":"2026-11-21T08:15:30Z","host":"db1","data_directory":"/pg","postgres_version":150018,"from_standby":false,` +
		`"timeline":"00000001","start_lsn":"0/2000028","walden":"1.0"}`))
	f.Fuzz(func(t *testing.T, body []byte) { fuzzRecord(t, body, func(Start) {}) })
}

func FuzzCommit(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"20261121T081530Z-4be1","system_identifier":"7312345678901234567","type":"full",` +
		`"started_at":"2026-11-21T08:15:30Z","stopped_at":"2026-11-21T08:16:30Z","postgres_version":150018,"wal_segment_size":16777216,` +
		`"wal":{"timeline":"00000001","start_lsn":"0/2000028","stop_lsn":"0/3000100","first":"000000010000000000000002","last":"000000010000000000000003"},` +
		`"next_xid":740,"slices":2,"stored_bytes":17,"manifest_size":1,"manifest_sha256":"x","data_directory_mode":"0700",` +
		`"tablespaces":[{"oid":16384,"location":"/mnt"}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		fuzzRecord(t, body, func(b Commit) {
			all := found{id: b.ID, manifest: true, manifestSize: b.ManifestSize, slices: b.Slices, storedBytes: b.StoredBytes}
			if all.damage(b, b.SystemID) == "" && b.WAL.Last.Number(b.SegmentSize)-b.WAL.First.Number(b.SegmentSize) >= maxNeed {
				t.Fatalf("%+v passes", b.WAL)
			}
		})
	})
}
