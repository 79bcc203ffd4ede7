package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

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
func (f *fetcher) worker(ctx context.Context, batches <-chan []catalog.Entry) error {
	r, err := f.newFrameReader(ctx)
	if err != nil {
		return err
	}
	for batch := range batches {
		if err := f.restoreBatch(batch, r); err != nil {
			return err
		}
	}
	return nil
}

func (f *fetcher) restoreBatch(batch []catalog.Entry, r *frameReader) (err error) {
	defer func() { err = errors.Join(err, r.close()) }()
	r.expect(batch)
	for _, e := range batch {
		if err := f.file(e, r); err != nil {
			return fmt.Errorf("restore %s: %w", e.Path, err)
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
func (f *fetcher) content(w *os.File, e catalog.Entry, r *frameReader) error {
	sum := sha256.New()
	var size int64
	for _, x := range e.Extents {
		b, err := r.content(x)
		if err != nil {
			return err
		}
		sum.Write(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
		// The disk works from the first file on, and not after the last one only.
		durable.StartWriteback(w, size, x.Size)
		size += x.Size
		f.report.Add(x.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != e.SHA256 {
		return fmt.Errorf("its content%s has SHA-256 %s, the manifest says %s: %w", f.whereabouts(e), got, e.SHA256, codec.ErrCorrupt)
	}
	return nil
}

// whereabouts says which slices hold a file.
func (f *fetcher) whereabouts(e catalog.Entry) string {
	if len(e.Extents) == 0 {
		return ""
	}
	first, last := e.Extents[0], e.Extents[len(e.Extents)-1]
	return fmt.Sprintf(" (slice %d of %s to slice %d of %s)", first.Slice, f.sources[first.Source], last.Slice, f.sources[last.Source])
}

// controlTemp is what pg_control is called until all else is on disk.
const controlTemp = pgdata.ControlPath + ".walden"

// fetchControl restores pg_control under its temporary name.
func (f *fetcher) fetchControl(ctx context.Context, e catalog.Entry) error {
	e.Path = controlTemp
	r, err := f.newFrameReader(ctx)
	if err != nil {
		return err
	}
	return f.restoreBatch([]catalog.Entry{e}, r)
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
	if err := f.owner.replace(f.path(mapPath), pgdata.FormatTablespaceMap(list)); err != nil {
		return fmt.Errorf("write tablespace_map: %w", err)
	}
	return nil
}
