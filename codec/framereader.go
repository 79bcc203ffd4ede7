package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// frameReader decompresses exactly one zstd frame, and requires that the source
// ends with it. The library's decoder takes any number of frames, skips foreign
// ones and overlooks up to three stray bytes at the end, so it is shown one
// frame only. Errors are raw: see source.explain.
type frameReader struct {
	frame *oneFrame
	dec   *zstd.Decoder
	err   error
}

func newFrameReader(src *bufio.Reader) (*frameReader, error) {
	frame := &oneFrame{src: src}
	dec, err := zstd.NewReader(frame,
		zstd.WithDecoderConcurrency(1), // in the caller's goroutine
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderMaxMemory(maxWindow), // the window of a single-segment frame
	)
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &frameReader{frame: frame, dec: dec}, nil
}

func (f *frameReader) Read(p []byte) (int, error) {
	if f.err != nil || len(p) == 0 {
		return 0, f.err
	}
	n, err := f.dec.Read(p)
	if err == io.EOF {
		err = f.frame.finish()
	}
	if err != nil {
		f.err = err
		f.dec.Close() // frees its memory
	}
	return n, err
}

// oneFrame passes one zstd frame through and then reports io.EOF, or
// io.ErrUnexpectedEOF when the source ends before the frame does. It leaves the
// source right behind the frame. It refuses frames that this package does not
// write: without a checksum, with a dictionary, or with reserved bits set.
//
// It follows RFC 8878, section 3.1.1: a header, blocks, a checksum.
type oneFrame struct {
	src     *bufio.Reader
	state   frameState
	pending []byte // a header or the checksum, to be passed on
	body    int    // bytes of the current block to be passed on
	buf     [zstd.HeaderMaxSize]byte
}

// frameState says what comes next in a frame.
type frameState int

const (
	atHeader frameState = iota
	atBlock
	atChecksum
	atEnd
)

func (f *oneFrame) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(f.pending) == 0 && f.body == 0 {
		if f.state == atEnd {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, err
		}
	}
	if len(f.pending) > 0 {
		n := copy(p, f.pending)
		f.pending = f.pending[n:]
		return n, nil
	}
	n, err := f.src.Read(p[:min(len(p), f.body)])
	f.body -= n
	if err == io.EOF && f.body > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// finish returns io.EOF when the whole frame was read and the source is at its
// end. The library takes a stream without any frame for an empty one.
func (f *oneFrame) finish() error {
	if f.state != atEnd || len(f.pending) > 0 {
		return io.ErrUnexpectedEOF
	}
	if _, err := f.src.ReadByte(); err != nil {
		return err
	}
	return errors.New("other bytes follow the end")
}

// next reads the next header, or the checksum.
func (f *oneFrame) next() error {
	switch f.state {
	case atHeader:
		return f.header()
	case atBlock:
		return f.block()
	default:
		f.state = atEnd
		return f.take(4)
	}
}

// take makes the next n bytes of the source pending.
func (f *oneFrame) take(n int) error {
	f.pending = f.buf[:n]
	if _, err := io.ReadFull(f.src, f.pending); err != nil {
		return unexpected(err)
	}
	return nil
}

func (f *oneFrame) header() error {
	// Peek may return fewer bytes than asked for: the smallest frame is shorter.
	head, err := f.src.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF {
		return err
	}
	size, err := frameHeader(head)
	if err != nil {
		return err
	}
	f.state = atBlock
	return f.take(size)
}

func (f *oneFrame) block() error {
	if err := f.take(blockHeader); err != nil {
		return err
	}
	size, last, err := blockLength(f.pending)
	if err != nil {
		return err
	}
	f.body = size
	if last {
		f.state = atChecksum
	}
	return nil
}

// frameHeader checks the frame header at the start of b and returns its length.
func frameHeader(b []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return 0, fmt.Errorf("frame header: %w", err)
	}
	switch {
	case h.Skippable:
		return 0, errors.New("a skippable frame where data belongs")
	case b[4]&unusedBit != 0:
		return 0, errors.New("frame header: unused bit set")
	case h.DictionaryID != 0:
		return 0, errors.New("frame header: a dictionary is needed")
	case !h.HasCheckSum:
		return 0, errors.New("frame header: no checksum")
	}
	return h.HeaderSize, nil
}

// blockLength reads a block header: how many bytes follow it, and whether it is
// the frame's last.
func blockLength(b []byte) (size int, last bool, err error) {
	const (
		typeRLE      = 1
		typeReserved = 3
	)
	h := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
	size, last = h>>3, h&1 != 0
	if size > blockSize {
		return 0, false, fmt.Errorf("block of %d bytes", size)
	}
	switch h >> 1 & 3 {
	case typeRLE:
		return 1, last, nil
	case typeReserved:
		return 0, false, errors.New("block of a reserved type")
	default:
		return size, last, nil
	}
}

// unexpected turns a clean end into one that came too early.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
