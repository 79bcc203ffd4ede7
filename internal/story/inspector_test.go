package story

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"walden/catalog"
	"walden/codec"
)

// inspector looks into a repository past walden's commands, again and again. Whatever has a final name
// there must be whole, must stay, and must stay as it is.
type inspector struct {
	shelf
	seen map[string]string // names that were found whole, with their stamps
}

func inspect(s shelf) *inspector {
	return &inspector{shelf: s, seen: map[string]string{}}
}

// forget is remove, for what the test itself takes away.
func (i *inspector) forget(t testing.TB, name string) {
	t.Helper()
	i.remove(t, name)
	delete(i.seen, name)
}

// mustBeWhole fails the test if the repository holds anything that is not a whole object, or has lost
// or changed what it held before. It returns the names.
func (i *inspector) mustBeWhole(t testing.TB) []string {
	t.Helper()
	now := i.list(t)
	for name, stamp := range i.seen {
		if now[name] != stamp {
			t.Errorf("%s was written again, or is gone: %q, was %q", name, now[name], stamp)
		}
	}
	names := slices.Sorted(maps.Keys(now))
	for _, name := range names {
		if _, known := i.seen[name]; known {
			continue
		}
		if err := i.check(t, name); err != nil {
			t.Errorf("%s is not whole: %v", name, err)
		}
		i.seen[name] = now[name]
	}
	return names
}

// layout are the names that a repository holds, and nothing else: docs/format.md.
var layout = []struct {
	pattern *regexp.Regexp
	check   func(i *inspector, name string, body []byte) error
}{
	{regexp.MustCompile(`^\d+/cluster\.json$`), checkRecord[catalog.Identity]},
	{regexp.MustCompile(`^\d+/wal/[0-9A-F]{8}/[0-9A-F]{8}/[0-9A-F]{24}(\.partial|\.[0-9A-F]{8}\.backup|\.[0-9A-F]{16}\.tail)?$`), checkWAL},
	{regexp.MustCompile(`^\d+/wal/[0-9A-F]{8}\.history$`), checkWAL},
	{regexp.MustCompile(`^\d+/backups/[^/]+/start\.json$`), checkRecord[catalog.Start]},
	{regexp.MustCompile(`^\d+/backups/[^/]+/backup\.json$`), checkRecord[catalog.Commit]},
	{regexp.MustCompile(`^\d+/backups/[^/]+/manifest$`), checkManifest},
	{regexp.MustCompile(`^\d+/backups/[^/]+/data/\d{10}$`), checkSlice},
}

func (i *inspector) check(t testing.TB, name string) error {
	t.Helper()
	for _, kind := range layout {
		if kind.pattern.MatchString(name) {
			return kind.check(i, name, i.read(t, name))
		}
	}
	return errors.New("no name that the format knows")
}

// checkRecord requires JSON with the fields of a record and no others.
func checkRecord[R any](_ *inspector, _ string, body []byte) error {
	var r R
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return err
	}
	if d.More() || !bytes.HasSuffix(body, []byte("\n}\n")) {
		return errors.New("it does not end where the record does")
	}
	return nil
}

// checkWAL requires an object that decodes to its end, and belongs to its name and its cluster.
func checkWAL(_ *inspector, name string, body []byte) error {
	r, err := codec.NewObjectReader(bytes.NewReader(body), nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	cluster, _, _ := strings.Cut(name, "/")
	if f := r.Fingerprint(); f.Name != path.Base(name) || strconv.FormatUint(f.SystemID, 10) != cluster {
		return errors.New("it holds " + f.String())
	}
	return nil
}

func checkManifest(_ *inspector, _ string, body []byte) error {
	_, _, err := readManifest(body)
	return err
}

func readManifest(body []byte) (catalog.ManifestHeader, []catalog.Entry, error) {
	m, err := catalog.NewManifestReader(bytes.NewReader(body))
	if err != nil {
		return catalog.ManifestHeader{}, nil, err
	}
	var entries []catalog.Entry
	for {
		e, err := m.Next()
		if errors.Is(err, io.EOF) {
			return m.Header, entries, m.Close()
		}
		if err != nil {
			return m.Header, nil, errors.Join(err, m.Close())
		}
		entries = append(entries, e)
	}
}

// checkSlice requires whole zstd frames, each with its checksum.
func checkSlice(_ *inspector, _ string, body []byte) error {
	d, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer d.Close()
	n, err := io.Copy(io.Discard, d)
	if err == nil && n == 0 {
		err = errors.New("it is empty")
	}
	return err
}

// mustRestore fails the test unless a backup holds every byte of every file that its manifest names.
func (i *inspector) mustRestore(t testing.TB, cluster, id string) {
	t.Helper()
	dir := cluster + "/backups/" + id + "/"
	_, entries, err := readManifest(i.read(t, dir+"manifest"))
	if err != nil {
		t.Fatalf("manifest of %s: %v", id, err)
	}
	frames := i.frames(t, dir+"data/", entries)
	files := 0
	for _, e := range entries {
		if e.Type != catalog.TypeFile {
			continue
		}
		files++
		var content []byte
		for _, x := range e.Extents {
			content = append(content, frames[place{x.Slice, x.FrameOffset}][x.Offset:x.Offset+x.Size]...)
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != e.SHA256 {
			t.Errorf("%s of %s is damaged", e.Path, id)
		}
	}
	if last := entries[len(entries)-1].Path; files < 500 || last != "global/pg_control" {
		t.Errorf("%s holds %d files, the last is %s", id, files, last)
	}
}

// place is where a frame begins.
type place struct {
	slice  int
	offset int64
}

// frames decodes every frame that a manifest points to.
func (i *inspector) frames(t testing.TB, data string, entries []catalog.Entry) map[place][]byte {
	t.Helper()
	d, err := codec.NewFrameDecoder()
	if err != nil {
		t.Fatal(err)
	}
	stored, frames := map[int][]byte{}, map[place][]byte{}
	for _, e := range entries {
		for _, x := range e.Extents {
			at := place{x.Slice, x.FrameOffset}
			if frames[at] != nil {
				continue
			}
			if stored[x.Slice] == nil {
				stored[x.Slice] = i.read(t, data+fmt.Sprintf("%010d", x.Slice))
			}
			if frames[at], err = d.Decode(nil, stored[x.Slice][x.FrameOffset:x.FrameOffset+x.FrameSize]); err != nil {
				t.Fatalf("frame at %d of slice %d: %v", x.FrameOffset, x.Slice, err)
			}
		}
	}
	return frames
}
