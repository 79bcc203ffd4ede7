package backup

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"walden/catalog"
	"walden/codec"
	"walden/internal/durable"
	"walden/postgres/pgdata"
)

// maxBatch bounds the files in one batch.
const maxBatch = 4096

// batcher groups files that share slices, so that each slice is fetched once.
type batcher struct {
	batch []catalog.Entry
	last  *catalog.Extent // the last extent in batch
}

// add takes the next file and returns the batch that is full because of it.
func (b *batcher) add(e catalog.Entry) (full []catalog.Entry) {
	if len(e.Extents) > 0 && b.last != nil {
		first := e.Extents[0]
		if first.Slice != b.last.Slice || first.Source != b.last.Source {
			full = b.flush()
		}
	}
	if len(b.batch) >= maxBatch {
		full = append(full, b.flush()...)
	}
	b.batch = append(b.batch, e)
	if n := len(e.Extents); n > 0 {
		b.last = &e.Extents[n-1]
	}
	return full
}

func (b *batcher) flush() []catalog.Entry {
	full := b.batch
	b.batch, b.last = nil, nil
	return full
}

// worker restores batches until there are no more.
func (f *fetcher) worker(ctx context.Context, sources []string, batches <-chan []catalog.Entry) error {
	dec, err := codec.NewFrameDecoder()
	if err != nil {
		return err
	}
	for batch := range batches {
		r := &frameReader{ctx: ctx, repo: f.repo, sources: sources, identities: f.opts.Identities, dec: dec}
		r.expect(batch)
		for _, e := range batch {
			if err := f.file(e, r); err != nil {
				return errors.Join(fmt.Errorf("restore %s: %w", e.Path, err), r.close())
			}
		}
		if err := r.close(); err != nil {
			return err
		}
	}
	return nil
}

// file restores one file and verifies its content.
func (f *fetcher) file(e catalog.Entry, r *frameReader) (err error) {
	path := f.path(e.Path)
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if err := f.content(w, e, r); err != nil {
		return err
	}
	if err := w.Chmod(fs.FileMode(e.Mode)); err != nil {
		return err
	}
	if err := f.owner.own(path); err != nil {
		return err
	}
	return os.Chtimes(path, e.ModTime, e.ModTime)
}

// content writes the content of a file to w and verifies its SHA-256.
func (f *fetcher) content(w io.Writer, e catalog.Entry, r *frameReader) error {
	sum := sha256.New()
	for _, x := range e.Extents {
		if err := r.copy(w, sum, x); err != nil {
			return err
		}
		f.report.Add(x.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != e.SHA256 {
		return fmt.Errorf("its content has SHA-256 %s, the manifest says %s: %w", got, e.SHA256, codec.ErrCorrupt)
	}
	return nil
}

// frameReader reads frames of slices in the order in which extents ask for
// them. It fetches each slice once, from the first frame that a batch needs of
// it to the last.
type frameReader struct {
	ctx        context.Context
	repo       catalog.Cluster
	sources    []string
	identities []codec.Identity
	dec        *codec.FrameDecoder

	ends map[sliceID]int64 // where the last frame that is needed ends

	open    sliceID
	body    io.ReadCloser // nil: no slice is open
	in      *bufio.Reader // what body holds, decrypted
	offset  int64         // of the next byte of in, in the slice
	at      int64         // offset of the frame in plain
	plain   []byte        // the frame that was decoded last
	encoded []byte
}

type sliceID struct{ source, slice int }

// expect notes how much of each slice the batch needs.
func (r *frameReader) expect(batch []catalog.Entry) {
	r.ends = map[sliceID]int64{}
	for _, e := range batch {
		for _, x := range e.Extents {
			id := sliceID{x.Source, x.Slice}
			r.ends[id] = max(r.ends[id], x.FrameOffset+x.FrameSize)
		}
	}
}

// copy writes the bytes of an extent to w and sum.
func (r *frameReader) copy(w io.Writer, sum hash.Hash, x catalog.Extent) error {
	if err := r.seek(x); err != nil {
		return fmt.Errorf("slice %d of %s: %w", x.Slice, r.sources[x.Source], err)
	}
	if x.Offset+x.Size > int64(len(r.plain)) {
		return fmt.Errorf("slice %d of %s: its frame at %d holds %d bytes, the manifest speaks of %d: %w",
			x.Slice, r.sources[x.Source], x.FrameOffset, len(r.plain), x.Offset+x.Size, codec.ErrCorrupt)
	}
	b := r.plain[x.Offset : x.Offset+x.Size]
	sum.Write(b)
	_, err := w.Write(b)
	return err
}

// seek makes the frame of an extent the current one.
func (r *frameReader) seek(x catalog.Extent) error {
	id := sliceID{x.Source, x.Slice}
	if r.body != nil && r.open == id && r.at == x.FrameOffset && len(r.plain) > 0 {
		return nil
	}
	if r.body == nil || r.open != id || x.FrameOffset < r.offset {
		if err := r.fetch(id, x.FrameOffset); err != nil {
			return err
		}
	}
	if err := r.discard(x.FrameOffset - r.offset); err != nil {
		return err
	}
	if int64(cap(r.encoded)) < x.FrameSize {
		r.encoded = make([]byte, x.FrameSize)
	}
	r.encoded = r.encoded[:x.FrameSize]
	if _, err := io.ReadFull(r.in, r.encoded); err != nil {
		return short(err)
	}
	r.offset += x.FrameSize
	var err error
	r.plain, err = r.dec.Decode(r.plain[:0], r.encoded)
	r.at = x.FrameOffset
	return err
}

// fetch opens a slice at a frame. An encrypted one has to be read from its start.
func (r *frameReader) fetch(id sliceID, offset int64) error {
	if err := r.close(); err != nil {
		return err
	}
	n := r.ends[id] - offset
	if len(r.identities) > 0 {
		offset, n = 0, -1
	}
	body, err := r.repo.Store.Get(r.ctx, r.repo.SliceKey(r.sources[id.source], id.slice), offset, n)
	if err != nil {
		return err
	}
	r.body, r.open, r.offset, r.plain = body, id, offset, r.plain[:0]
	var plain io.Reader = body
	if len(r.identities) > 0 {
		if plain, err = codec.NewDecryptReader(body, r.identities); err != nil {
			return err
		}
	}
	r.in = bufio.NewReaderSize(plain, 64<<10)
	return nil
}

func (r *frameReader) discard(n int64) error {
	m, err := io.CopyN(io.Discard, r.in, n)
	r.offset += m
	return short(err)
}

// short says that a slice ended before it should.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ends too early: %w", codec.ErrCorrupt)
	}
	return err
}

func (r *frameReader) close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// controlTemp is what pg_control is called until all else is on disk.
const controlTemp = pgdata.ControlPath + ".walden"

// fetchControl restores pg_control under its temporary name.
func (f *fetcher) fetchControl(ctx context.Context, sources []string, e catalog.Entry) error {
	e.Path = controlTemp
	batch := make(chan []catalog.Entry, 1)
	batch <- []catalog.Entry{e}
	close(batch)
	return f.worker(ctx, sources, batch)
}

// publishControl makes the restored directory a cluster.
func (f *fetcher) publishControl(e *catalog.Entry) error {
	if err := durable.Rename(f.path(controlTemp), f.path(e.Path)); err != nil {
		return fmt.Errorf("put %s in place: %w", e.Path, err)
	}
	return nil
}

// remapTablespaces rewrites tablespace_map, from which PostgreSQL makes the links
// anew at the start of recovery, for tablespaces that went to other places.
func (f *fetcher) remapTablespaces() error {
	if len(f.places) == 0 {
		return nil
	}
	var list []pgdata.Tablespace
	for _, t := range f.commit.Tablespaces {
		list = append(list, pgdata.Tablespace{OID: t.OID, Location: f.places[t.OID]})
	}
	path := filepath.Join(f.opts.Dir, "tablespace_map")
	if err := os.WriteFile(path, pgdata.FormatTablespaceMap(list), 0o600); err != nil {
		return fmt.Errorf("write tablespace_map: %w", err)
	}
	return nil
}
