package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"walden/catalog"
	"walden/codec"
)

// frameReader reads frames of slices in the order in which extents ask for them.
// It asks for each slice once, from the first frame that a batch of files needs of
// it to the last. It works in its caller's goroutine, one for each worker: handing
// frames to others between fetching, decompressing and writing costs more in the
// cores' caches than it gains.
type frameReader struct {
	*fetcher
	ctx context.Context // of the worker
	dec *codec.FrameDecoder

	ends map[sliceID]int64 // where the last frame that is needed of a slice ends

	open    sliceID
	body    io.ReadCloser  // nil: no slice is open
	in      *bufio.Reader  // what body holds, decrypted
	offset  int64          // of the next byte of in, in the slice
	current catalog.Extent // any extent of the frame in plain
	plain   []byte
	encoded []byte
}

type sliceID struct{ source, slice int }

func sliceOf(x catalog.Extent) sliceID { return sliceID{x.Source, x.Slice} }

func sameFrame(a, b catalog.Extent) bool {
	return sliceOf(a) == sliceOf(b) && a.FrameOffset == b.FrameOffset && a.FrameSize == b.FrameSize
}

func (f *fetcher) newFrameReader(ctx context.Context) (*frameReader, error) {
	dec, err := codec.NewFrameDecoder()
	return &frameReader{fetcher: f, ctx: ctx, dec: dec, in: bufio.NewReaderSize(nil, 64<<10)}, err
}

// expect notes how much of each slice a batch needs.
func (r *frameReader) expect(batch []catalog.Entry) {
	r.ends = map[sliceID]int64{}
	for _, e := range batch {
		for _, x := range e.Extents {
			r.ends[sliceOf(x)] = max(r.ends[sliceOf(x)], x.FrameOffset+x.FrameSize)
		}
	}
}

// content returns the bytes of an extent. They are valid until the next call.
func (r *frameReader) content(x catalog.Extent) ([]byte, error) {
	if !sameFrame(x, r.current) { // the zero extent lies in no frame
		if err := r.read(x); err != nil {
			return nil, r.inSlice(x, err)
		}
	}
	n := int64(len(r.plain))
	if x.Offset > n || x.Size > n-x.Offset {
		return nil, r.inSlice(x, fmt.Errorf("its frame at %d holds %d bytes, the manifest speaks of %d from %d on: %w",
			x.FrameOffset, n, x.Size, x.Offset, codec.ErrCorrupt))
	}
	return r.plain[x.Offset : x.Offset+x.Size], nil
}

// inSlice says in which slice something went wrong.
func (f *fetcher) inSlice(x catalog.Extent, err error) error {
	return fmt.Errorf("slice %d of %s: %w", x.Slice, f.sources[x.Source], err)
}

// read makes the frame of an extent the current one.
func (r *frameReader) read(x catalog.Extent) (err error) {
	r.current = catalog.Extent{}
	if r.body == nil || r.open != sliceOf(x) || x.FrameOffset < r.offset {
		if err := r.openSlice(sliceOf(x), x.FrameOffset); err != nil {
			return err
		}
	}
	n, err := io.CopyN(io.Discard, r.in, x.FrameOffset-r.offset)
	r.offset += n
	if err != nil {
		return short(err)
	}
	if int64(cap(r.encoded)) < x.FrameSize {
		r.encoded = make([]byte, x.FrameSize)
	}
	r.encoded = r.encoded[:x.FrameSize]
	if _, err := io.ReadFull(r.in, r.encoded); err != nil {
		return short(err)
	}
	r.offset += x.FrameSize
	if r.plain, err = r.dec.Decode(r.plain[:0], r.encoded); err != nil {
		return err
	}
	r.current = x
	return nil
}

// openSlice asks for a slice from a frame on. An encrypted one has to be read
// from its start.
func (r *frameReader) openSlice(id sliceID, offset int64) error {
	if err := r.close(); err != nil {
		return err
	}
	n := r.ends[id] - offset
	if len(r.opts.Identities) > 0 {
		offset, n = 0, -1
	}
	body, err := r.repo.Store.Get(r.ctx, r.repo.SliceKey(r.sources[id.source], id.slice), offset, n)
	if err != nil {
		return err
	}
	r.body, r.open, r.offset = body, id, offset
	var plain io.Reader = body
	if len(r.opts.Identities) > 0 {
		if plain, err = codec.NewDecryptReader(body, r.opts.Identities); err != nil {
			return err
		}
	}
	r.in.Reset(plain)
	return nil
}

// close ends the reading of a slice.
func (r *frameReader) close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}

// short says that a slice ended before it should.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("ends too early: %w", codec.ErrCorrupt)
	}
	return err
}
