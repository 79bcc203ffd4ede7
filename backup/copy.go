package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/pgdata"
)

// copier builds and stores the slices of one backup, several jobs at a time.
type copier struct {
	repo       catalog.Cluster
	id         string
	recipients []codec.Recipient
	report     Reporter
	collect    func(copied) error // is told what became of each job, in the order of the jobs

	writers  []*sliceWriter           // each works on a job
	encoders chan *codec.FrameEncoder // those at rest
	bodies   chan *bytes.Buffer       // for slices: those at rest
}

// copied is what became of a job.
type copied struct {
	entries []*catalog.Entry // those that were still there, in the order of the stream
	slices  int
	stored  int64
}

// How many more jobs, for each worker, may be done before the oldest that is
// under way: a large file must not hold up the others, nor they pile up.
const jobsAhead = 8

// newCopier makes a copier that holds at most that many slices in memory. All
// cores compress, whether the next slices belong to one file or to many.
func newCopier(repo catalog.Cluster, id string, slices int, level codec.Level, recipients []codec.Recipient, report Reporter, collect func(copied) error) (*copier, error) {
	cores := runtime.GOMAXPROCS(0)
	c := &copier{
		repo: repo, id: id, recipients: recipients, report: report, collect: collect,
		encoders: make(chan *codec.FrameEncoder, cores), bodies: make(chan *bytes.Buffer, slices),
	}
	for range cores {
		enc, err := codec.NewFrameEncoder(level)
		if err != nil {
			return nil, err
		}
		c.encoders <- enc
	}
	for range slices {
		// Of room that is not used the operating system gives no memory.
		c.bodies <- bytes.NewBuffer(make([]byte, 0, maxStored+2*frameSize))
	}
	for range min(cores, slices) {
		c.writers = append(c.writers, newSliceWriter(c, 1+min(cores, maxCoding)))
	}
	return c, nil
}

// encode compresses a frame. It always comes to its end.
func (c *copier) encode(f *frame) {
	enc := <-c.encoders
	f.encoded = enc.Append(f.encoded[:0], f.plain)
	c.encoders <- enc
	f.coded <- struct{}{}
}

// task is a job on its way through a worker.
type task struct {
	job  job
	done chan copied
}

// run copies jobs. When it returns nil, all their slices are stored.
func (c *copier) run(ctx context.Context, jobs iter.Seq2[job, error]) error {
	g, ctx := errgroup.WithContext(ctx)
	queue, order := make(chan *task), make(chan *task, jobsAhead*len(c.writers))
	g.Go(func() error {
		defer close(queue)
		defer close(order)
		return handOut(ctx, jobs, order, queue)
	})
	for _, w := range c.writers {
		w.stores = g
		g.Go(func() error {
			defer w.abandon()
			for t := range queue {
				c, err := copyJob(ctx, t.job, w)
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
			case done := <-t.done:
				if err := c.collect(done); err != nil {
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

// finish copies the last job, and ends the tar stream.
func (c *copier) finish(ctx context.Context, last job) error {
	c.writers = c.writers[:1]
	c.writers[0].endOfTar = true
	return c.run(ctx, func(yield func(job, error) bool) { yield(last, nil) })
}

// handOut sends each job to both channels.
func handOut(ctx context.Context, jobs iter.Seq2[job, error], to ...chan *task) error {
	for j, err := range jobs {
		if err != nil {
			return err
		}
		t := &task{job: j, done: make(chan copied, 1)}
		for _, c := range to {
			select {
			case c <- t:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func copyJob(ctx context.Context, j job, w *sliceWriter) (copied, error) {
	w.begin(j.first)
	var c copied
	for _, i := range j.items {
		if err := ctx.Err(); err != nil {
			return copied{}, err
		}
		e, err := copyItem(ctx, i, w)
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
func copyItem(ctx context.Context, i item, w *sliceWriter) (*catalog.Entry, error) {
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
		f, err := os.OpenFile(i.Source, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe may have taken its name
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
		if !info.Mode().IsRegular() {
			return nil, errGone
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
	return e, writeContent(ctx, w, e, src)
}

// writeContent appends exactly e.Size bytes of content and the padding, and
// completes e. A file that became shorter is filled up with zeros, as
// pg_basebackup does: replay truncates it.
func writeContent(ctx context.Context, w *sliceWriter, e *catalog.Entry, src io.Reader) error {
	sum := sha256.New()
	src = &zeroFilled{src: src}
	for left := e.Size; left > 0; {
		if err := ctx.Err(); err != nil {
			return err
		}
		space := w.space()
		part := space[:min(int64(len(space)), left, readSize)]
		if _, err := io.ReadFull(src, part); err != nil {
			return err
		}
		sum.Write(part)
		if err := w.content(ctx, e, len(part)); err != nil {
			return err
		}
		w.report.Add(int64(len(part)))
		left -= int64(len(part))
	}
	e.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return w.write(ctx, zeros[:padded(e.Size)-e.Size])
}

// readSize is how much is read and hashed at once: it stays in a core's cache.
const readSize = 256 << 10

// zeros pads files, and ends the stream.
var zeros [2 * tarBlock]byte

// zeroFilled goes on with zeros where src ends. It never looks again: a file that
// was truncated may grow anew, and what it gets then belongs elsewhere.
type zeroFilled struct {
	src   io.Reader
	ended bool
}

func (z *zeroFilled) Read(p []byte) (int, error) {
	if !z.ended {
		n, err := z.src.Read(p)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		z.ended = true
		if n > 0 {
			return n, nil
		}
	}
	clear(p)
	return len(p), nil
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
