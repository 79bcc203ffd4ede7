package catalog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"walden/codec"
	"walden/storage"
)

var testHeader = ManifestHeader{Format: 1, Backup: secondID, SystemID: testSystemID, Sources: []string{firstID, secondID}}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// sampleEntries fit a manifest with one source.
func sampleEntries() []Entry {
	at := time.Date(2026, 11, 21, 8, 15, 30, 123456789, time.UTC)
	return []Entry{
		{Path: "base", Type: TypeDir, Mode: 0o700, ModTime: at},
		{Path: "base/1/1259", Type: TypeFile, Mode: 0o600, ModTime: at, Size: 8192 + 4096, SHA256: hexSHA256([]byte("x")),
			Extents: []Extent{{0, 0, 0, 700, codec.FrameSize - 8192, 8192}, {0, 0, 700, 900, 0, 4096}}},
		{Path: "pg_tblspc/16384", Type: TypeSymlink, Mode: 0o777, ModTime: at, Target: "/mnt/größer"},
		{Path: "base/1/empty", Type: TypeFile, Mode: 0o640, ModTime: at, SHA256: hexSHA256(nil)},
		{Path: "a\nb\"c <&>\u2028\\", Type: TypeFile, Mode: 0, ModTime: at, Size: 1, SHA256: hexSHA256([]byte("y")),
			Extents: []Extent{{0, math.MaxInt32, 1 << 40, 2 * codec.FrameSize, 0, 1}}},
	}
}

func manifestOf(t testing.TB, h ManifestHeader, entries ...Entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := NewManifestWriter(&b, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// readManifest reads a manifest to its end.
func readManifest(r io.Reader) (h ManifestHeader, entries []Entry, err error) {
	m, err := NewManifestReader(r)
	if err != nil {
		return h, nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	for {
		e, err := m.Next()
		if err == io.EOF {
			return m.Header, entries, nil
		}
		if err != nil {
			return m.Header, entries, err
		}
		entries = append(entries, e)
	}
}

func TestManifestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, len(sampleEntries())} {
		want := sampleEntries()[:n]
		h, got, err := readManifest(bytes.NewReader(manifestOf(t, testHeader, want...)))
		if err != nil {
			t.Fatal(err)
		}
		check(t, "header", h, testHeader)
		check(t, "entries", got, want)
	}
}

// TestManifestGolden is the text of format 1.
func TestManifestGolden(t *testing.T) {
	text := unzip(t, manifestOf(t, testHeader, sampleEntries()[1:3]...))
	body := `{"header":{"format":1,"backup":"20261122T081530Z-0001","system_identifier":"7312345678901234567","sources":["20261121T081530Z-4be1","20261122T081530Z-0001"]}}
{"entry":{"path":"base/1/1259","type":"file","mode":"0600","mtime":"2026-11-21T08:15:30.123456789Z","size":12288,` +
		`"sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","extents":[[0,0,0,700,4186112,8192],[0,0,700,900,0,4096]]}}
{"entry":{"path":"pg_tblspc/16384","type":"symlink","mode":"0777","mtime":"2026-11-21T08:15:30.123456789Z","target":"/mnt/größer"}}
`
	check(t, "manifest", text, body+`{"trailer":{"entries":2,"sha256":"`+hexSHA256([]byte(body))+`"}}`+"\n")
}

func unzip(t testing.TB, stored []byte) string {
	t.Helper()
	r, err := codec.NewZstdReader(bytes.NewReader(stored))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func zip(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := codec.NewZstdWriter(&b, codec.LevelFastest)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// mustBeDamaged fails unless reading a manifest ends with storage.ErrCorrupt,
// and never with what a caller could take for the end.
func mustBeDamaged(t *testing.T, what string, stored []byte) {
	t.Helper()
	_, _, err := readManifest(bytes.NewReader(stored))
	if !errors.Is(err, storage.ErrCorrupt) || errors.Is(err, io.EOF) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestManifestTruncated(t *testing.T) {
	stored := manifestOf(t, testHeader, sampleEntries()...)
	for n := range stored {
		mustBeDamaged(t, fmt.Sprintf("the first %d of %d stored bytes", n, len(stored)), stored[:n])
	}
	text := unzip(t, stored)
	for n := range text { // also where whole lines are left: the trailer is missing
		mustBeDamaged(t, fmt.Sprintf("the first %d of %d bytes of text", n, len(text)), zip(t, text[:n]))
	}
}

func TestManifestGoesOn(t *testing.T) {
	stored := manifestOf(t, testHeader, sampleEntries()...)
	text := unzip(t, stored)
	for _, tail := range []string{"\n", "x", `{"trailer":{}}` + "\n", text} {
		mustBeDamaged(t, fmt.Sprintf("text and %q", tail), zip(t, text+tail))
	}
	mustBeDamaged(t, "a byte behind", append(stored, 0))
	mustBeDamaged(t, "twice", append(stored, stored...))
}

// TestManifestFlipped: a flip of any bit is an error, or, where the format has
// bits without a meaning, changes nothing.
func TestManifestFlipped(t *testing.T) {
	stored := manifestOf(t, testHeader, sampleEntries()...)
	text := unzip(t, stored)
	try := func(what string, i int, bit uint, stored []byte) (harmless bool) {
		h, entries, err := readManifest(bytes.NewReader(stored))
		if err == nil {
			check(t, fmt.Sprintf("%s with bit %d of byte %d flipped", what, bit, i), fmt.Sprintf("%+v %+v", h, entries),
				fmt.Sprintf("%+v %+v", testHeader, sampleEntries()))
			return true
		}
		if !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrConfig) || errors.Is(err, io.EOF) {
			t.Errorf("%s with bit %d of byte %d flipped: %v", what, bit, i, err)
		}
		return false
	}
	harmless := 0
	for i := range stored {
		for bit := range uint(8) {
			bad := bytes.Clone(stored)
			bad[i] ^= 1 << bit
			if try("stored", i, bit, bad) {
				harmless++
			}
		}
	}
	if harmless > len(stored)/10 {
		t.Errorf("%d of %d flips of stored bits went unnoticed", harmless, 8*len(stored))
	}
	harmless = 0
	for i := range text {
		bit := uint(i % 8)
		bad := []byte(text)
		bad[i] ^= 1 << bit
		if try("text", i, bit, zip(t, string(bad))) {
			harmless++
		}
	}
	if harmless > 20 { // JSON doesn't mind the case of the trailer's names
		t.Errorf("%d of %d flips of text went unnoticed", harmless, len(text))
	}
}

// TestManifestLinesMatter: lines that are left out, doubled or swapped.
func TestManifestLinesMatter(t *testing.T) {
	lines := strings.SplitAfter(strings.TrimSuffix(unzip(t, manifestOf(t, testHeader, sampleEntries()...)), "\n"), "\n")
	lines[len(lines)-1] += "\n"
	for i := range lines {
		before, after := strings.Join(lines[:i], ""), strings.Join(lines[i+1:], "")
		mustBeDamaged(t, fmt.Sprintf("without line %d", i), zip(t, before+after))
		mustBeDamaged(t, fmt.Sprintf("with line %d twice", i), zip(t, before+lines[i]+lines[i]+after))
		if i > 0 {
			swapped := strings.Join(lines[:i-1], "") + lines[i] + lines[i-1] + after
			mustBeDamaged(t, fmt.Sprintf("with line %d before %d", i, i-1), zip(t, swapped))
		}
	}
}

// signed adds the trailer that belongs to lines: what an attacker can do, too.
func signed(lines ...string) string {
	text := strings.Join(lines, "\n") + "\n"
	return text + fmt.Sprintf(`{"trailer":{"entries":%d,"sha256":"%s"}}`+"\n", len(lines)-1, hexSHA256([]byte(text)))
}

const headerLine = `{"header":{"format":1,"backup":"20261121T081530Z-4be1","system_identifier":"1","sources":["20261121T081530Z-4be1"]}}`

// entryLine is a file of one byte, changed.
func entryLine(from, to string) string {
	const line = `{"entry":{"path":"a/b","type":"file","mode":"0600","mtime":"2026-11-21T08:15:30Z","size":1,` +
		`"sha256":"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881","extents":[[0,0,0,700,0,1]]}}`
	return strings.Replace(line, from, to, 1)
}

func TestManifestHostileEntries(t *testing.T) {
	if _, entries, err := readManifest(bytes.NewReader(zip(t, signed(headerLine, entryLine("", ""))))); err != nil || len(entries) != 1 {
		t.Fatalf("the line that is changed below: %v, %v", entries, err)
	}
	for _, p := range []string{``, `.`, `..`, `/`, `/etc/passwd`, `../x`, `a/../../x`, `a/..`, `./a`, `a/`, `a//b`, `a/./b`, `a\u0000b`, `..//x`} {
		mustBeDamaged(t, "path "+p, zip(t, signed(headerLine, entryLine("a/b", p))))
	}
	for _, c := range [][2]string{
		{`"file"`, `"fifo"`}, {`"file"`, `""`}, {`"0600"`, `"4755"`}, {`"0600"`, `"rw"`}, {`"0600"`, `384`}, {`"size":1`, `"size":2`},
		{`"size":1`, `"size":-1`}, {`2d71`, `2D`}, {`2d71`, `xx`}, {`"sha256"`, `"md5"`}, {`"extents"`, `"exts"`}, {`"entry"`, `"thing"`},
		{`"file"`, `"symlink"`}, {`"file"`, `"symlink","target":"a\u0000b"`}, {`"2026-`, `"20-`}, {`"entry"`, `"header"`},
		{`[[0,0,0,700,0,1]]`, `[[1,0,0,700,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,0]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,0,1,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[-1,0,0,700,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,-1,0,700,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,-1,700,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,0,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,99999999,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,-1,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,4194304,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,0,1],[0,0,0,700,0,0]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,4294967296,0,700,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,9223372036854775807,700,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,1.5,0,1]]`},
		{`[[0,0,0,700,0,1]]`, `[null]`},
		// Sums that overflow: a run of 2^63-1 bytes from 1 on; two that wrap to 1 byte.
		{`"size":1`, `"size":9223372036854775807,"extents":[[0,0,0,700,1,9223372036854775807]],"x":1`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,1,9223372036854775807]]`},
		{`[[0,0,0,700,0,1]]`, `[[0,0,0,700,1,9223372036854775807],[0,0,0,700,1,9223372036854775807],[0,0,0,700,0,3]]`},
	} {
		mustBeDamaged(t, fmt.Sprintf("%s for %s", c[1], c[0]), zip(t, signed(headerLine, entryLine(c[0], c[1]))))
	}
}

func TestManifestHostileHeaders(t *testing.T) {
	for _, c := range [][2]string{
		{`"format":1`, `"format":0`}, {`"format":1,`, ``}, {`"header"`, `"entry"`}, {headerLine, `{}`}, {headerLine, `null`}, {headerLine, ``},
		{`["20261121T081530Z-4be1"]`, `["../../1/backups/20261121T081530Z-4be1"]`}, {`["20261121T081530Z-4be1"]`, `[""]`},
		{`"backup":"20261121T081530Z-4be1"`, `"backup":"latest"`},
	} {
		mustBeDamaged(t, fmt.Sprintf("%q for %q", c[1], c[0]), zip(t, signed(strings.Replace(headerLine, c[0], c[1], 1))))
	}
	_, _, err := readManifest(bytes.NewReader(zip(t, signed(strings.Replace(headerLine, `"format":1`, `"format":2`, 1)))))
	mustBe(t, err, storage.ErrConfig)
}

// TestManifestWriterRefuses: what could not be read is not written.
func TestManifestWriterRefuses(t *testing.T) {
	good := sampleEntries()[1]
	for what, change := range map[string]func(e *Entry){
		"path above":          func(e *Entry) { e.Path = "../x" },
		"the root itself":     func(e *Entry) { e.Path = "." },
		"name not in UTF-8":   func(e *Entry) { e.Path = "base/gr\xf6\xdfer" },
		"target not in UTF-8": func(e *Entry) { *e = Entry{Path: "l", Type: TypeSymlink, Target: "/mnt/gr\xf6\xdfer"} },
		"no hash":             func(e *Entry) { e.SHA256 = "" },
		"no extents":          func(e *Entry) { e.Extents = nil },
		"unknown source":      func(e *Entry) { e.Extents[0].Source = 1 },
		"empty extent":        func(e *Entry) { e.Extents = append(e.Extents, Extent{FrameSize: 1}) },
		"no type":             func(e *Entry) { e.Type = "" },
		"line too long":       func(e *Entry) { e.Path = strings.Repeat("x/", maxManifestLine/2) + "x" },
	} {
		w, err := NewManifestWriter(io.Discard, ManifestHeader{Backup: firstID, SystemID: 1, Sources: []string{firstID}})
		if err != nil {
			t.Fatal(err)
		}
		e := good
		e.Extents = append([]Extent(nil), good.Extents...)
		if err := w.Add(e); err != nil {
			t.Fatal(err)
		}
		change(&e)
		if err := w.Add(e); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if _, err := NewManifestWriter(io.Discard, ManifestHeader{Backup: "x"}); err == nil {
		t.Error("a header with an impossible backup is accepted")
	}
}

func TestManifestLineTooLong(t *testing.T) {
	long := entryLine("a/b", "a/"+strings.Repeat("b", maxManifestLine))
	mustBeDamaged(t, "a line beyond the limit", zip(t, signed(headerLine, long)))
}

// TestManifestSourceFails: a reader that fails is not damage, wherever it fails.
func TestManifestSourceFails(t *testing.T) {
	stored := manifestOf(t, testHeader, sampleEntries()...)
	for n := range stored {
		_, _, err := readManifest(io.MultiReader(bytes.NewReader(stored[:n]), iotest.ErrReader(storage.ErrUnavailable)))
		if !errors.Is(err, storage.ErrUnavailable) || errors.Is(err, storage.ErrCorrupt) || errors.Is(err, io.EOF) {
			t.Errorf("it fails after %d bytes: %v", n, err)
		}
	}
	if _, entries, err := readManifest(iotest.OneByteReader(bytes.NewReader(stored))); err != nil || len(entries) != len(sampleEntries()) {
		t.Errorf("byte by byte: %d entries, %v", len(entries), err)
	}
}

type fullDisk struct{ left int }

func (f *fullDisk) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, errDiskFull
	}
	return len(p), nil
}

var errDiskFull = errors.New("no space left")

func TestManifestWriterReportsAFullDisk(t *testing.T) {
	for _, room := range []int{0, 10, 100} {
		w, err := NewManifestWriter(&fullDisk{room}, testHeader)
		for i := 0; err == nil && i < 3; i++ {
			err = w.Add(sampleEntries()[1])
		}
		if err == nil {
			err = w.Close()
		}
		mustBe(t, err, errDiskFull)
	}
}

func TestReadManifest(t *testing.T) {
	store, dir := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	b := storeBackup(t, c, firstID, 1)
	var got bytes.Buffer
	if err := c.ReadManifest(ctx, b, &got); err != nil {
		t.Fatal(err)
	}
	if _, entries, err := readManifest(&got); err != nil || len(entries) != len(sampleEntries()) {
		t.Fatalf("%v, %v", entries, err)
	}
	stored := take(t, dir, c.manifestKey(firstID))
	flipped := bytes.Clone(stored)
	flipped[len(flipped)/2] ^= 1
	for what, bad := range map[string][]byte{
		"flipped": flipped, "short": stored[:len(stored)-1], "long": append(bytes.Clone(stored), 0), "empty": nil,
		"endless": make([]byte, 8<<20), "another": manifestOf(t, testHeader),
	} {
		put(t, dir, c.manifestKey(firstID), bad)
		got.Reset()
		if err := c.ReadManifest(ctx, b, &got); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		if int64(got.Len()) > b.ManifestSize+1 {
			t.Errorf("%s: %d bytes were copied of a manifest of %d", what, got.Len(), b.ManifestSize)
		}
	}
	put(t, dir, c.manifestKey(firstID), stored)
	mustBe(t, c.ReadManifest(ctx, b, &fullDisk{}), errDiskFull)
	b.ID = secondID
	mustBe(t, c.ReadManifest(ctx, b, &got), storage.ErrNotExist)
}

// TestExtentRoundTrip: every extent that may be written can be read.
func TestExtentRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		size := 1 + rnd.Int64N(codec.FrameSize)
		x := Extent{int(rnd.Int32()), int(rnd.Int32()), rnd.Int64N(1<<40 + 1), 1 + rnd.Int64N(2*codec.FrameSize), rnd.Int64N(codec.FrameSize - size + 1), size}
		b, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		var got Extent
		if err := json.Unmarshal(b, &got); err != nil || got != x {
			t.Fatalf("%s is read as %+v, %v", b, got, err)
		}
	}
}

// BenchmarkManifest writes and reads the entries of a cluster with many small
// files.
func BenchmarkManifest(b *testing.B) {
	e := sampleEntries()[1]
	h := ManifestHeader{Backup: firstID, SystemID: 1, Sources: []string{firstID}}
	entries := make([]Entry, 10_000)
	for i := range entries {
		entries[i] = e
		entries[i].Path = fmt.Sprintf("base/16384/%d", 16384+i)
		entries[i].SHA256 = hexSHA256([]byte(entries[i].Path))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, got, err := readManifest(bytes.NewReader(manifestOf(b, h, entries...))); err != nil || len(got) != len(entries) {
			b.Fatal(err)
		}
	}
}
