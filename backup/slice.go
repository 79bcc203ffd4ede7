package backup

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"walden/catalog"
	"walden/codec"
)

// sliceWriter builds the slices of one job: it cuts the bytes that it is given
// into frames and the frames into slices, stores each slice when it is full, and
// notes in the entries where their content went. It is reused from job to job to
// keep its buffers.
type sliceWriter struct {
	repo       catalog.Cluster
	id         string
	recipients []codec.Recipient
	enc        *codec.FrameEncoder

	endOfTar bool // the next job is the last: it ends the tar stream

	slice   int          // number of the slice that is being built
	body    bytes.Buffer // the slice as it will be stored
	out     io.WriteCloser
	offset  int64 // bytes of finished frames in the slice, before encryption
	plain   int64 // plaintext of finished frames in the slice
	frame   []byte
	encoded []byte
	runs    []run // content in the unfinished frame

	slices int // stored since begin
	stored int64
}

// run is a piece of a file's content in the unfinished frame.
type run struct {
	entry        *catalog.Entry
	offset, size int64
}

func newSliceWriter(repo catalog.Cluster, id string, level codec.Level, recipients []codec.Recipient) (*sliceWriter, error) {
	enc, err := codec.NewFrameEncoder(level)
	if err != nil {
		return nil, err
	}
	return &sliceWriter{repo: repo, id: id, recipients: recipients, enc: enc, frame: make([]byte, 0, codec.FrameSize)}, nil
}

// begin starts a job with the slice of that number.
func (w *sliceWriter) begin(slice int) {
	w.slice, w.slices, w.stored = slice, 0, 0
	w.reset()
}

func (w *sliceWriter) reset() {
	w.body.Reset()
	w.out, w.offset, w.plain = nil, 0, 0
	w.frame, w.runs = w.frame[:0], w.runs[:0]
}

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

// space returns where the next bytes of the stream go; it is never empty.
// After filling a part of it call advance or content.
func (w *sliceWriter) space() []byte { return w.frame[len(w.frame):cap(w.frame)] }

// content says that n bytes of an entry's content were put into space.
func (w *sliceWriter) content(ctx context.Context, e *catalog.Entry, n int) error {
	if n > 0 {
		w.runs = append(w.runs, run{entry: e, offset: int64(len(w.frame)), size: int64(n)})
	}
	return w.advance(ctx, n)
}

func (w *sliceWriter) advance(ctx context.Context, n int) error {
	w.frame = w.frame[:len(w.frame)+n]
	if len(w.frame) < cap(w.frame) {
		return nil
	}
	if err := w.endFrame(); err != nil {
		return err
	}
	if w.plain < SliceSize {
		return nil
	}
	return w.store(ctx)
}

// endFrame compresses the frame into the slice.
func (w *sliceWriter) endFrame() error {
	if len(w.frame) == 0 {
		return nil
	}
	if w.out == nil {
		out, err := codec.NewEncryptWriter(&w.body, w.recipients)
		if err != nil {
			return err
		}
		w.out = out
	}
	w.encoded = w.enc.Append(w.encoded[:0], w.frame)
	if _, err := w.out.Write(w.encoded); err != nil {
		return err
	}
	for _, r := range w.runs {
		r.entry.Extents = append(r.entry.Extents, catalog.Extent{
			Slice: w.slice, FrameOffset: w.offset, FrameSize: int64(len(w.encoded)), Offset: r.offset, Size: r.size,
		})
	}
	w.offset += int64(len(w.encoded))
	w.plain += int64(len(w.frame))
	w.frame, w.runs = w.frame[:0], w.runs[:0]
	return nil
}

// end finishes the job: what is left is stored as its last slice.
func (w *sliceWriter) end(ctx context.Context) error {
	if w.endOfTar {
		if err := w.write(ctx, make([]byte, 2*tarBlock)); err != nil {
			return err
		}
	}
	if err := w.endFrame(); err != nil {
		return err
	}
	if w.out == nil {
		return nil
	}
	return w.store(ctx)
}

// store closes the slice, creates its object, and goes on with the next.
func (w *sliceWriter) store(ctx context.Context) error {
	if err := w.out.Close(); err != nil {
		return err
	}
	size := int64(w.body.Len())
	key := w.repo.SliceKey(w.id, w.slice)
	if _, err := w.repo.Store.Create(ctx, key, bytes.NewReader(w.body.Bytes()), size); err != nil {
		return fmt.Errorf("store slice %d: %w", w.slice, err)
	}
	w.slices++
	w.stored += size
	w.slice++
	w.reset()
	return nil
}
