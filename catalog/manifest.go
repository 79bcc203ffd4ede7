package catalog

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"walden/codec"
	"walden/storage"
)

// A manifest says what a backup holds and where each piece lies. It is a zstd
// frame of JSON lines: a header, one line an entry in the order of the tar
// stream, and a trailer with the number of entries and the SHA-256 of all lines
// before it. ManifestWriter and ManifestReader handle the lines.

// ManifestHeader is a manifest's first line.
type ManifestHeader struct {
	Format   int      `json:"format"`
	Backup   string   `json:"backup"`
	SystemID uint64   `json:"system_identifier,string"`
	Sources  []string `json:"sources"` // the backups that extents point into, by index
}

// EntryType says what a manifest entry is.
type EntryType string

// The types of entries.
const (
	TypeFile    EntryType = "file"
	TypeDir     EntryType = "dir"
	TypeSymlink EntryType = "symlink"
)

// Entry is a file, directory or symbolic link of a backup.
type Entry struct {
	Path    string    `json:"path"` // relative to the data directory, with slashes
	Type    EntryType `json:"type"`
	Mode    FileMode  `json:"mode"`
	ModTime time.Time `json:"mtime"`
	Target  string    `json:"target,omitempty"` // of a symbolic link
	Size    int64     `json:"size,omitempty"`
	SHA256  string    `json:"sha256,omitempty"` // of a file's content, hexadecimal
	Extents []Extent  `json:"extents,omitempty"`
}

// Extent says where a run of a file's bytes lies. A file's extents are in the
// order of its content and cover all of it. It is stored as an array of six
// numbers in the order of the fields.
type Extent struct {
	Source      int   // index into ManifestHeader.Sources
	Slice       int   // number of the slice of that backup
	FrameOffset int64 // where the zstd frame begins in the slice, after decryption
	FrameSize   int64 // bytes of the frame as it is stored
	Offset      int64 // where the run begins in the frame's plaintext
	Size        int64 // bytes of the run
}

// MarshalJSON encodes the extent as an array.
func (e Extent) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "[%d,%d,%d,%d,%d,%d]", e.Source, e.Slice, e.FrameOffset, e.FrameSize, e.Offset, e.Size), nil
}

// UnmarshalJSON decodes what MarshalJSON encodes and refuses numbers that no
// extent can have.
func (e *Extent) UnmarshalJSON(b []byte) error {
	var n []int64
	if err := json.Unmarshal(b, &n); err != nil {
		return err
	}
	if len(n) != 6 {
		return fmt.Errorf("an extent has 6 numbers, not %d", len(n))
	}
	if max(n[0], n[1]) > math.MaxInt32 {
		return fmt.Errorf("extent %v is out of bounds", n)
	}
	x := Extent{int(n[0]), int(n[1]), n[2], n[3], n[4], n[5]}
	if err := x.check(); err != nil {
		return err
	}
	*e = x
	return nil
}

// check refuses numbers that no extent can have, so that sums of them can't
// overflow.
func (e Extent) check() error {
	if min(int64(e.Source), int64(e.Slice), e.FrameOffset, e.Offset) < 0 || e.FrameOffset > 1<<40 ||
		e.FrameSize < 1 || e.FrameSize > 2*codec.FrameSize ||
		e.Size < 1 || e.Size > codec.FrameSize || e.Offset > codec.FrameSize-e.Size {
		return fmt.Errorf("extent %+v is out of bounds", e)
	}
	return nil
}

// FileMode is permission bits, in JSON an octal string such as "0600".
type FileMode fs.FileMode

// MarshalText encodes the permission bits in octal.
func (m FileMode) MarshalText() ([]byte, error) {
	return fmt.Appendf(nil, "%04o", fs.FileMode(m).Perm()), nil
}

// UnmarshalText decodes what MarshalText encodes.
func (m *FileMode) UnmarshalText(b []byte) error {
	v, err := strconv.ParseUint(string(b), 8, 32)
	if err != nil || v > 0o777 {
		return fmt.Errorf("file mode %q is not octal permission bits", b)
	}
	*m = FileMode(v)
	return nil
}

type manifestTrailer struct {
	Entries int64  `json:"entries"`
	SHA256  string `json:"sha256"`
}

// The kind of a line is the name of its only member.
type manifestLine struct {
	Header  *ManifestHeader  `json:"header,omitempty"`
	Entry   *Entry           `json:"entry,omitempty"`
	Trailer *manifestTrailer `json:"trailer,omitempty"`
}

// ManifestWriter writes a manifest as a stream.
type ManifestWriter struct {
	zw      io.WriteCloser
	sum     hash.Hash
	sources int
	entries int64
}

// NewManifestWriter writes the header to w.
func NewManifestWriter(w io.Writer, h ManifestHeader) (*ManifestWriter, error) {
	h.Format = Format
	if err := h.check(); err != nil {
		return nil, err
	}
	zw, err := codec.NewZstdWriter(w, codec.LevelDefault)
	if err != nil {
		return nil, err
	}
	m := &ManifestWriter{zw: zw, sum: sha256.New(), sources: len(h.Sources)}
	return m, m.write(manifestLine{Header: &h})
}

// Add appends an entry. It refuses one that a ManifestReader would refuse: better
// no backup than one that can't be restored.
func (m *ManifestWriter) Add(e Entry) error {
	if err := e.check(m.sources); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	m.entries++
	return m.write(manifestLine{Entry: &e})
}

// Close writes the trailer and ends the zstd frame. It doesn't close the
// underlying writer.
func (m *ManifestWriter) Close() error {
	t := manifestTrailer{Entries: m.entries, SHA256: hex.EncodeToString(m.sum.Sum(nil))}
	return errors.Join(m.write(manifestLine{Trailer: &t}), m.zw.Close())
}

func (m *ManifestWriter) write(l manifestLine) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode manifest line: %w", err)
	}
	b = append(b, '\n')
	if len(b) > maxManifestLine {
		return fmt.Errorf("write manifest: a line of %d bytes: at most %d can be read", len(b), maxManifestLine)
	}
	m.sum.Write(b)
	if _, err := m.zw.Write(b); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

// ManifestReader reads a manifest as a stream. It verifies the trailer before it
// reports io.EOF. Errors are storage.ErrCorrupt for damage, or what the
// underlying reader failed with.
type ManifestReader struct {
	Header  ManifestHeader
	zr      io.ReadCloser
	lines   *bufio.Reader
	sum     hash.Hash // of all lines before the last one read
	last    []byte    // that line
	entries int64
}

// maxManifestLine bounds one line: a file of 1 GiB has 256 extents, but a log
// file beside the data may be far larger.
const maxManifestLine = 64 << 20

// NewManifestReader reads the header from r.
func NewManifestReader(r io.Reader) (*ManifestReader, error) {
	zr, err := codec.NewZstdReader(r)
	if err != nil {
		return nil, err
	}
	m := &ManifestReader{zr: zr, lines: bufio.NewReaderSize(zr, 64<<10), sum: sha256.New()}
	line, err := m.next()
	if err == nil {
		err = line.Header.check()
	}
	if err != nil {
		return nil, errors.Join(err, zr.Close())
	}
	m.Header = *line.Header
	return m, nil
}

// Next returns the next entry. io.EOF means that the manifest was whole.
func (m *ManifestReader) Next() (Entry, error) {
	line, err := m.next()
	switch {
	case err != nil:
		return Entry{}, err
	case line.Trailer != nil:
		if line.Trailer.Entries != m.entries || line.Trailer.SHA256 != hex.EncodeToString(m.sum.Sum(nil)) {
			return Entry{}, fmt.Errorf("manifest's trailer disagrees with its %d entries: %w", m.entries, storage.ErrCorrupt)
		}
		return Entry{}, m.end()
	case line.Entry == nil:
		return Entry{}, fmt.Errorf("manifest line %d is neither entry nor trailer: %w", m.entries+2, storage.ErrCorrupt)
	}
	m.entries++
	if err := line.Entry.check(len(m.Header.Sources)); err != nil {
		return Entry{}, fmt.Errorf("manifest entry %d: %w: %w", m.entries, err, storage.ErrCorrupt)
	}
	return *line.Entry, nil
}

// Close releases the decoder. It doesn't close the underlying reader.
func (m *ManifestReader) Close() error { return m.zr.Close() }

// end returns io.EOF if nothing follows.
func (m *ManifestReader) end() error {
	_, err := m.lines.ReadByte()
	switch {
	case err == io.EOF:
		return io.EOF
	case err != nil:
		return fmt.Errorf("read manifest: %w", damage(err))
	}
	return fmt.Errorf("manifest goes on after its trailer: %w", storage.ErrCorrupt)
}

// damage gives the decoder's word for damage the meaning that a repository's has.
// A source that failed keeps its own.
func damage(err error) error {
	if errors.Is(err, codec.ErrCorrupt) {
		return fmt.Errorf("%w: %w", err, storage.ErrCorrupt)
	}
	return err
}

func (m *ManifestReader) next() (manifestLine, error) {
	b, err := readLine(m.lines, maxManifestLine)
	if err != nil {
		return manifestLine{}, fmt.Errorf("read manifest after %d entries: %w", m.entries, damage(err))
	}
	m.sum.Write(m.last)
	m.last = b
	var l manifestLine
	if err := json.Unmarshal(b, &l); err != nil {
		return manifestLine{}, fmt.Errorf("manifest line %d: %w: %w", m.entries+2, err, storage.ErrCorrupt)
	}
	return l, nil
}

// readLine never returns io.EOF: a manifest ends with its trailer.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > limit:
			return nil, fmt.Errorf("a line of more than %d bytes: %w", limit, storage.ErrCorrupt)
		case err == io.EOF:
			return nil, fmt.Errorf("it ends early: %w", storage.ErrCorrupt)
		case !errors.Is(err, bufio.ErrBufferFull):
			return line, err
		}
	}
}

// check refuses headers that don't tell where slices are. A nil one is none.
func (h *ManifestHeader) check() error {
	switch {
	case h == nil || h.Format < 1:
		return fmt.Errorf("manifest does not begin with a header: %w", storage.ErrCorrupt)
	case h.Format > Format:
		return fmt.Errorf("manifest of format %d was written by a newer walden: %w", h.Format, storage.ErrConfig)
	}
	for _, id := range append([]string{h.Backup}, h.Sources...) {
		if !ValidBackupID(id) {
			return fmt.Errorf("manifest names %q as a backup: %w", id, storage.ErrCorrupt)
		}
	}
	return nil
}

// check refuses entries that would be written outside the data directory, that
// JSON would change, or whose extents don't add up.
func (e Entry) check(sources int) error {
	if e.Path == "" || path.Clean(e.Path) != e.Path || path.IsAbs(e.Path) || e.Path == "." || e.Path == ".." ||
		strings.HasPrefix(e.Path, "../") || strings.ContainsRune(e.Path, 0) {
		return fmt.Errorf("path %q does not stay below the data directory", e.Path)
	}
	if !utf8.ValidString(e.Path) || !utf8.ValidString(e.Target) {
		return fmt.Errorf("%q (link to %q): names that are not valid UTF-8 cannot be backed up", e.Path, e.Target)
	}
	switch e.Type {
	case TypeDir:
		return nil
	case TypeSymlink:
		if e.Target == "" || strings.ContainsRune(e.Target, 0) {
			return fmt.Errorf("%s: a symbolic link cannot lead to %q", e.Path, e.Target)
		}
		return nil
	case TypeFile:
	default:
		return fmt.Errorf("%s: unknown type %q", e.Path, e.Type)
	}
	var size int64
	for _, x := range e.Extents {
		if err := x.check(); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		if x.Source >= sources {
			return fmt.Errorf("%s: points into a backup that the header does not name", e.Path)
		}
		size += x.Size
	}
	if size != e.Size {
		return fmt.Errorf("%s: extents hold %d bytes of %d", e.Path, size, e.Size)
	}
	if b, err := hex.DecodeString(e.SHA256); err != nil || len(b) != sha256.Size {
		return fmt.Errorf("%s: no SHA-256", e.Path)
	}
	return nil
}

// CreateManifest stores a backup's manifest. body is what a ManifestWriter wrote.
func (c Cluster) CreateManifest(ctx context.Context, id string, body io.ReadSeeker, size int64) error {
	if _, err := c.Store.Create(ctx, c.manifestKey(id), body, size); err != nil {
		return fmt.Errorf("create manifest of %s: %w", id, err)
	}
	return nil
}

// ReadManifest copies the manifest of a committed backup to w and verifies it
// against the commit record. Nothing of w may be used when it fails.
func (c Cluster) ReadManifest(ctx context.Context, b Commit, w io.Writer) (err error) {
	r, err := c.Store.Get(ctx, c.manifestKey(b.ID), 0, -1)
	if err != nil {
		return fmt.Errorf("read manifest of %s: %w", b.ID, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), io.LimitReader(r, b.ManifestSize+1))
	if err != nil {
		return fmt.Errorf("read manifest of %s: %w", b.ID, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); n != b.ManifestSize || got != b.ManifestSHA256 {
		return fmt.Errorf("manifest of %s has %d bytes and SHA-256 %s, its commit record says %d and %s: %w",
			b.ID, n, got, b.ManifestSize, b.ManifestSHA256, storage.ErrCorrupt)
	}
	return nil
}
