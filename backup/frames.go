package backup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"walden/catalog"
	"walden/codec"
)

// framesAhead is how many frames a worker has in memory: the one that it writes,
// and those that it fetches and decompresses ahead.
const framesAhead = 4

// fetched is a frame on its way from the repository.
type fetched struct {
	at      catalog.Extent // any extent that lies in it
	encoded []byte
	plain   []byte
	err     error
	ready   chan struct{} // closed when plain or err is there
}

// frameReader fetches the frames that a batch of files needs and decompresses
// them, ahead of their use, in the order in which the files' extents ask for
// them. It asks for each slice once, from the first frame that the batch needs of
// it to the last.
type frameReader struct {
	*fetcher
	ends map[sliceID]int64 // where the last frame that is needed of a slice ends

	free    chan *fetched // frames at rest
	coming  chan *fetched // frames on their way, in order
	err     error         // why coming was closed early
	current *fetched      // nil before the first
	cancel  context.CancelFunc
	work    sync.WaitGroup

	// What follows belongs to the goroutine that fetches.
	open   sliceID
	body   io.ReadCloser // nil: no slice is open
	in     *bufio.Reader // what body holds, decrypted
	offset int64         // of the next byte of in, in the slice
}

type sliceID struct{ source, slice int }

func sliceOf(x catalog.Extent) sliceID { return sliceID{x.Source, x.Slice} }

func sameFrame(a, b catalog.Extent) bool {
	return sliceOf(a) == sliceOf(b) && a.FrameOffset == b.FrameOffset && a.FrameSize == b.FrameSize
}

// frames yields an extent of each frame that the files of a batch need, in order.
// The same frame again, right behind itself, is left out.
func frames(batch []catalog.Entry) iter.Seq[catalog.Extent] {
	return func(yield func(catalog.Extent) bool) {
		var last catalog.Extent // no frame has size 0
		for _, e := range batch {
			for _, x := range e.Extents {
				if !sameFrame(x, last) && !yield(x) {
					return
				}
				last = x
			}
		}
	}
}

// newRing makes the frames that a worker uses for all its batches.
func newRing() chan *fetched {
	ring := make(chan *fetched, framesAhead)
	for range framesAhead {
		ring <- &fetched{}
	}
	return ring
}

// read begins to fetch what a batch needs. Call close in the end; after an error
// the ring can't be used any more.
func (f *fetcher) read(ctx context.Context, batch []catalog.Entry, ring chan *fetched) *frameReader {
	ctx, cancel := context.WithCancel(ctx)
	r := &frameReader{
		fetcher: f, ends: map[sliceID]int64{}, cancel: cancel,
		free: ring, coming: make(chan *fetched, framesAhead),
	}
	for x := range frames(batch) {
		r.ends[sliceOf(x)] = max(r.ends[sliceOf(x)], x.FrameOffset+x.FrameSize)
	}
	r.work.Go(func() {
		defer close(r.coming)
		r.err = r.fetchAll(ctx, batch)
	})
	return r
}

// close ends all work of r.
func (r *frameReader) close() {
	r.cancel()
	r.work.Wait()
	if r.current != nil {
		r.free <- r.current
	}
}

// content returns the bytes of an extent. They are valid until the next call.
func (r *frameReader) content(x catalog.Extent) ([]byte, error) {
	if r.current == nil || !sameFrame(r.current.at, x) {
		if r.current != nil {
			r.free <- r.current
		}
		if r.current = <-r.coming; r.current == nil {
			return nil, r.err
		}
	}
	<-r.current.ready
	if r.current.err != nil {
		return nil, r.inSlice(x, r.current.err)
	}
	n := int64(len(r.current.plain))
	if x.Offset > n || x.Size > n-x.Offset {
		return nil, r.inSlice(x, fmt.Errorf("its frame at %d holds %d bytes, the manifest speaks of %d from %d on: %w",
			x.FrameOffset, n, x.Size, x.Offset, codec.ErrCorrupt))
	}
	return r.current.plain[x.Offset : x.Offset+x.Size], nil
}

// inSlice says in which slice something went wrong.
func (f *fetcher) inSlice(x catalog.Extent, err error) error {
	return fmt.Errorf("slice %d of %s: %w", x.Slice, f.sources[x.Source], err)
}

// fetchAll sends the frames that a batch needs to coming.
func (r *frameReader) fetchAll(ctx context.Context, batch []catalog.Entry) (err error) {
	defer func() { err = errors.Join(err, r.closeSlice()) }()
	for x := range frames(batch) {
		var t *fetched
		select {
		case t = <-r.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := r.fetch(ctx, x, t); err != nil {
			return r.inSlice(x, err)
		}
		t.ready = make(chan struct{})
		r.work.Go(func() { r.decode(t) })
		r.coming <- t // there is room for all of the ring
	}
	return nil
}

func (r *frameReader) decode(t *fetched) {
	dec := <-r.decoders
	t.plain, t.err = dec.Decode(t.plain[:0], t.encoded)
	r.decoders <- dec
	close(t.ready)
}

// fetch reads a frame as it is stored.
func (r *frameReader) fetch(ctx context.Context, x catalog.Extent, t *fetched) error {
	if r.body == nil || r.open != sliceOf(x) || x.FrameOffset < r.offset {
		if err := r.openSlice(ctx, sliceOf(x), x.FrameOffset); err != nil {
			return err
		}
	}
	n, err := io.CopyN(io.Discard, r.in, x.FrameOffset-r.offset)
	r.offset += n
	if err != nil {
		return short(err)
	}
	if int64(cap(t.encoded)) < x.FrameSize {
		t.encoded = make([]byte, x.FrameSize)
	}
	t.at, t.encoded = x, t.encoded[:x.FrameSize]
	if _, err := io.ReadFull(r.in, t.encoded); err != nil {
		return short(err)
	}
	r.offset += x.FrameSize
	return nil
}

// openSlice asks for a slice from a frame on. An encrypted one has to be read
// from its start.
func (r *frameReader) openSlice(ctx context.Context, id sliceID, offset int64) error {
	if err := r.closeSlice(); err != nil {
		return err
	}
	n := r.ends[id] - offset
	if len(r.opts.Identities) > 0 {
		offset, n = 0, -1
	}
	body, err := r.repo.Store.Get(ctx, r.repo.SliceKey(r.sources[id.source], id.slice), offset, n)
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
	if r.in == nil {
		r.in = bufio.NewReaderSize(nil, 64<<10)
	}
	r.in.Reset(plain)
	return nil
}

func (r *frameReader) closeSlice() error {
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
