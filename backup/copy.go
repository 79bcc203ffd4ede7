package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"walden/catalog"
	"walden/postgres/pgdata"
)

// copied is what became of a job.
type copied struct {
	entries []*catalog.Entry // those that were still there, in the order of the stream
	slices  int
	stored  int64
}

// task is a job on its way through a worker.
type task struct {
	job  job
	done chan copied
}

// window is how many jobs may be under way or done before the oldest is collected.
const window = 256

// copyJobs builds and stores the slices of all jobs with the given writers, one
// worker each, and hands what became of them to collect in the order of the jobs.
func copyJobs(ctx context.Context, jobs iter.Seq2[job, error], writers []*sliceWriter, report Reporter, collect func(copied) error) error {
	g, ctx := errgroup.WithContext(ctx)
	queue, order := make(chan *task), make(chan *task, window)
	g.Go(func() error {
		defer close(queue)
		defer close(order)
		for j, err := range jobs {
			if err != nil {
				return err
			}
			t := &task{job: j, done: make(chan copied, 1)}
			for _, to := range []chan *task{order, queue} {
				select {
				case to <- t:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	for _, w := range writers {
		g.Go(func() error {
			for t := range queue {
				c, err := copyJob(ctx, t.job, w, report)
				if err != nil {
					return err
				}
				t.done <- c
			}
			return nil
		})
	}
	g.Go(func() error {
		for t := range order {
			select {
			case c := <-t.done:
				if err := collect(c); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	return g.Wait()
}

func copyJob(ctx context.Context, j job, w *sliceWriter, report Reporter) (copied, error) {
	w.begin(j.first)
	var c copied
	for _, i := range j.items {
		if err := ctx.Err(); err != nil {
			return copied{}, err
		}
		e, err := copyItem(ctx, i, w, report)
		if errors.Is(err, errGone) {
			continue
		}
		if err != nil {
			return copied{}, fmt.Errorf("back up %s: %w", i.Path, err)
		}
		c.entries = append(c.entries, e)
	}
	if err := w.end(ctx); err != nil {
		return copied{}, err
	}
	c.slices, c.stored = w.slices, w.stored
	return c, nil
}

// errGone means that a file was dropped since it was seen. WAL replay would drop
// it, too.
var errGone = errors.New("file is gone")

// copyItem appends one entry to the stream. errGone means that nothing was
// appended.
func copyItem(ctx context.Context, i item, w *sliceWriter, report Reporter) (*catalog.Entry, error) {
	e := &catalog.Entry{Path: i.Path, Mode: catalog.FileMode(i.Mode.Perm()), ModTime: i.ModTime.UTC()}
	var src io.Reader
	switch {
	case i.Type == pgdata.Dir:
		e.Type = catalog.TypeDir
	case i.Type == pgdata.Symlink:
		e.Type, e.Target = catalog.TypeSymlink, i.Link
	case i.data != nil:
		e.Type, e.Size, src = catalog.TypeFile, int64(len(i.data)), bytes.NewReader(i.data)
	default:
		f, err := os.Open(i.Source)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errGone
		}
		if err != nil {
			return nil, err
		}
		defer f.Close() // it was only read
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		// What was appended since the file was seen comes back by WAL replay.
		e.Type, e.Size, src = catalog.TypeFile, min(i.Size, info.Size()), f
	}
	if err := writeHeader(ctx, w, e); err != nil {
		return nil, err
	}
	if e.Type != catalog.TypeFile {
		return e, nil
	}
	return e, writeContent(ctx, w, e, src, report)
}

// writeContent appends exactly e.Size bytes of content and the padding, and
// completes e. A file that became shorter is filled up with zeros, as
// pg_basebackup does: replay truncates it.
func writeContent(ctx context.Context, w *sliceWriter, e *catalog.Entry, src io.Reader, report Reporter) error {
	sum := sha256.New()
	for left := e.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := fill(w.space(), left, src, sum)
		if err != nil {
			return err
		}
		if err := w.content(ctx, e, n); err != nil {
			return err
		}
		report.Add(int64(n))
		left -= int64(n)
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return w.write(ctx, make([]byte, padded(e.Size)-e.Size))
}

// readSize is how much is read and hashed at once: it stays in a core's cache.
const readSize = 256 << 10

// fill reads up to left bytes into buf, which it fills unless left is less.
func fill(buf []byte, left int64, src io.Reader, sum hash.Hash) (int, error) {
	buf = buf[:min(int64(len(buf)), left)]
	for rest := buf; len(rest) > 0; {
		part := rest[:min(len(rest), readSize)]
		n, err := io.ReadFull(src, part)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			clear(part[n:])
		} else if err != nil {
			return 0, err
		}
		sum.Write(part)
		rest = rest[len(part):]
	}
	return len(buf), nil
}

// writeHeader appends the tar header of an entry.
func writeHeader(ctx context.Context, w *sliceWriter, e *catalog.Entry) error {
	h := &tar.Header{Name: e.Path, Mode: int64(e.Mode), ModTime: e.ModTime.Truncate(time.Second), Size: e.Size}
	switch e.Type {
	case catalog.TypeDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case catalog.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Target
	default:
		h.Typeflag = tar.TypeReg
	}
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return err
	}
	return w.write(ctx, b.Bytes())
}
