package codec

import (
	"errors"
	"fmt"
	"io"
	"math/bits"

	"github.com/klauspost/compress/zstd"
)

const (
	// streamWindow is how far back a stream refers, and so what a decoder has
	// to keep. On WAL, easy or hard, 8 MiB compress by 1% better at most, but
	// take seven times the memory and up to half of the speed.
	streamWindow = 512 << 10

	// maxWindow is the largest window that is decoded: 8 MiB, which the zstd
	// format asks every decoder to support. All that is written stays within.
	maxWindow = 8 << 20

	// unknownSize stands for a stream whose length is not known beforehand.
	unknownSize = -1
)

// NewZstdWriter compresses a stream of any length into one zstd frame with a
// checksum. Close ends the frame and does not close w; without it the stream is
// incomplete. It starts no goroutine.
func NewZstdWriter(w io.Writer, level Level) (io.WriteCloser, error) {
	return newCompressor(w, level, unknownSize)
}

// newCompressor is NewZstdWriter for a stream of a known size, which the frame
// then declares and which the writer must be given exactly.
func newCompressor(w io.Writer, level Level, size int64) (io.WriteCloser, error) {
	if err := level.check(); err != nil {
		return nil, err
	}
	// The library leaves the checksum out of an empty frame.
	if level == LevelNone || size == 0 {
		return newRawWriter(w, size), nil
	}
	enc, err := zstd.NewWriter(nil, encoderOptions(level, windowFor(size))...)
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	enc.ResetContentSize(w, size)
	return enc, nil
}

// windowFor returns the smallest window, a power of two, that holds all of a
// stream, or streamWindow.
func windowFor(size int64) int {
	if size < 0 || size >= streamWindow {
		return streamWindow
	}
	return max(zstd.MinWindowSize, 1<<bits.Len64(uint64(size)))
}

// encoderOptions makes an encoder work in its caller's goroutine, with little
// more memory than the window.
func encoderOptions(level Level, window int) []zstd.EOption {
	return []zstd.EOption{
		zstd.WithEncoderLevel(level.zstd()),
		zstd.WithWindowSize(window),
		zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true),
		zstd.WithEncoderCRC(true),
	}
}

// NewZstdReader decompresses what NewZstdWriter wrote: r must hold one frame and
// nothing else. It reports io.EOF only after the frame's checksum was right and
// r is at its end, otherwise ErrCorrupt, or what r failed with. Close frees its
// memory and does not close r. It starts no goroutine.
func NewZstdReader(r io.Reader) (io.ReadCloser, error) {
	src, stored := newSource(r)
	frame, err := newFrameReader(stored)
	if err != nil {
		return nil, err
	}
	return &zstdReader{src: src, frame: frame}, nil
}

// zstdReader gives the errors of a frameReader their meaning, and sees to it
// that nothing follows the frame.
type zstdReader struct {
	src   *source
	frame *frameReader
	err   error
}

func (z *zstdReader) Read(p []byte) (int, error) {
	if z.err != nil {
		return 0, z.err
	}
	n, err := z.frame.Read(p)
	if err != nil && err != io.EOF {
		err = z.src.explain("decompress", err)
	}
	z.err = err
	return n, err
}

func (z *zstdReader) Close() error {
	if z.err == nil {
		z.err = errors.New("decompress: read after close")
	}
	z.frame.dec.Close()
	return nil
}
