package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"walden/catalog"
	"walden/codec"
)

const (
	// frameSize is the plaintext of one frame. Twice as much compresses tables
	// with long values 2 % better, for twice the memory of what is under way.
	frameSize = 2 << 20

	// maxStored ends a slice that compresses badly before it has SliceSize bytes
	// of plaintext: it bounds memory.
	maxStored = 12 << 20

	// maxCoding is how many frames of one job are compressed at once at most:
	// reading and hashing a file is not much faster than that.
	maxCoding = 3
)

// sliceWriter builds the slices of one job: it cuts the bytes that it is given
// into frames and the frames into slices, has each slice stored when it is full,
// and notes in the entries where their content went. Frames are compressed and
// slices stored by others meanwhile. It is reused from job to job.
type sliceWriter struct {
	*copier
	stores *errgroup.Group

	endOfTar bool // the next job is the last: it ends the tar stream

	// frames is a ring: from first on, coding of them are being compressed, and
	// the one behind them is being filled.
	frames        []frame
	first, coding int

	slice  int           // number of the slice that is being built
	body   *bytes.Buffer // the slice as it will be stored; nil before its first frame
	out    io.WriteCloser
	offset int64 // bytes of finished frames in the slice, before encryption
	plain  int64 // plaintext of finished frames in the slice

	slices int // since begin
	stored int64
}

// frame is a piece of the stream on its way into a slice.
type frame struct {
	plain   []byte
	encoded []byte
	runs    []run
	coded   chan struct{} // receives when encoded is there
}

// run is a piece of a file's content in a frame.
type run struct {
	entry        *catalog.Entry
	offset, size int64
}

func newSliceWriter(c *copier, frames int) *sliceWriter {
	w := &sliceWriter{copier: c, frames: make([]frame, frames)}
	for i := range w.frames {
		w.frames[i].plain = make([]byte, 0, frameSize)
		w.frames[i].coded = make(chan struct{}, 1)
	}
	return w
}

// begin starts a job with the slice of that number.
func (w *sliceWriter) begin(slice int) { w.slice, w.slices, w.stored = slice, 0, 0 }

// write appends bytes that belong to no file's content: headers and padding.
func (w *sliceWriter) write(ctx context.Context, p []byte) error {
	for len(p) > 0 {
		n := copy(w.space(), p)
		if err := w.advance(ctx, n); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// filling returns the frame that is being filled.
func (w *sliceWriter) filling() *frame { return &w.frames[(w.first+w.coding)%len(w.frames)] }

// space returns where the next bytes of the stream go; it is never empty.
// After filling a part of it call advance or content.
func (w *sliceWriter) space() []byte {
	f := w.filling()
	return f.plain[len(f.plain):cap(f.plain)]
}

// content says that n bytes of an entry's content were put into space.
func (w *sliceWriter) content(ctx context.Context, e *catalog.Entry, n int) error {
	f := w.filling()
	if last := len(f.runs) - 1; last >= 0 && f.runs[last].entry == e {
		f.runs[last].size += int64(n)
	} else {
		f.runs = append(f.runs, run{entry: e, offset: int64(len(f.plain)), size: int64(n)})
	}
	return w.advance(ctx, n)
}

func (w *sliceWriter) advance(ctx context.Context, n int) error {
	f := w.filling()
	f.plain = f.plain[:len(f.plain)+n]
	if len(f.plain) < cap(f.plain) {
		return nil
	}
	return w.endFrame(ctx)
}

// endFrame has the frame compressed, and sees to it that there is another one to
// fill.
func (w *sliceWriter) endFrame(ctx context.Context) error {
	f := w.filling()
	if len(f.plain) == 0 {
		return nil
	}
	go w.encode(f)
	w.coding++
	if w.coding < len(w.frames) {
		return nil
	}
	return w.settle(ctx)
}

// settle waits for the oldest frame and puts it into the slice.
func (w *sliceWriter) settle(ctx context.Context) error {
	f := &w.frames[w.first]
	<-f.coded
	w.first, w.coding = (w.first+1)%len(w.frames), w.coding-1
	if err := w.open(ctx); err != nil {
		return err
	}
	if _, err := w.out.Write(f.encoded); err != nil {
		return err
	}
	for _, r := range f.runs {
		r.entry.Extents = append(r.entry.Extents, catalog.Extent{
			Slice: w.slice, FrameOffset: w.offset, FrameSize: int64(len(f.encoded)), Offset: r.offset, Size: r.size,
		})
	}
	w.offset += int64(len(f.encoded))
	w.plain += int64(len(f.plain))
	f.plain, f.runs = f.plain[:0], f.runs[:0]
	if w.plain < SliceSize && w.offset < maxStored {
		return nil
	}
	return w.store(ctx)
}

// open begins the slice's body if it has none.
func (w *sliceWriter) open(ctx context.Context) (err error) {
	if w.body != nil {
		return nil
	}
	select {
	case w.body = <-w.bodies:
	case <-ctx.Done():
		return ctx.Err()
	}
	w.body.Reset()
	w.offset, w.plain = 0, 0
	w.out, err = codec.NewEncryptWriter(w.body, w.recipients)
	return err
}

// end finishes the job: what is left becomes its last slice.
func (w *sliceWriter) end(ctx context.Context) error {
	if w.endOfTar {
		if err := w.write(ctx, zeros[:]); err != nil {
			return err
		}
	}
	if err := w.endFrame(ctx); err != nil {
		return err
	}
	for w.coding > 0 {
		if err := w.settle(ctx); err != nil {
			return err
		}
	}
	if w.body == nil {
		return nil
	}
	return w.store(ctx)
}

// store closes the slice, has its object created, and goes on with the next.
func (w *sliceWriter) store(ctx context.Context) error {
	if err := w.out.Close(); err != nil {
		return err
	}
	body, slice, size := w.body, w.slice, int64(w.body.Len())
	w.stores.Go(func() error {
		_, err := w.repo.Store.Create(ctx, w.repo.SliceKey(w.id, slice), bytes.NewReader(body.Bytes()), size)
		if err != nil {
			return fmt.Errorf("store slice %d: %w", slice, err)
		}
		w.bodies <- body
		return nil
	})
	w.slices, w.stored = w.slices+1, w.stored+size
	w.slice, w.body = w.slice+1, nil
	return nil
}

// abandon waits until nobody uses the frames any more.
func (w *sliceWriter) abandon() {
	for ; w.coding > 0; w.coding-- {
		<-w.frames[w.first].coded
		w.first = (w.first + 1) % len(w.frames)
	}
}
