package codec

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
)

const (
	// blockSize is the largest block of a zstd frame.
	blockSize = 128 << 10

	// blockHeader precedes every block: one bit that marks the last, two of
	// type, 21 of size, little endian (RFC 8878, section 3.1.1.2).
	blockHeader = 3

	frameMagic = "\x28\xb5\x2f\xfd"
)

// What the frame header's descriptor says (RFC 8878, section 3.1.1.1.1).
const (
	size64        = 3 << 6 // content size in 8 bytes
	size32        = 2 << 6 // content size in 4 bytes
	singleSegment = 1 << 5 // no window: the content size stands for it
	unusedBit     = 1 << 4
	hasChecksum   = 1 << 2
)

// appendRawFrame appends plain, of less than 4 GiB, as one zstd frame of raw
// blocks, with content size and checksum.
func appendRawFrame(dst, plain []byte) []byte {
	dst = append(dst, frameMagic...)
	dst = append(dst, size32|singleSegment|hasChecksum)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(plain)))
	rest := plain
	for len(rest) > blockSize {
		dst = append(appendRawBlock(dst, blockSize, false), rest[:blockSize]...)
		rest = rest[blockSize:]
	}
	dst = append(appendRawBlock(dst, len(rest), true), rest...)
	return binary.LittleEndian.AppendUint32(dst, uint32(xxhash.Sum64(plain)))
}

// appendRawBlock appends the header of a raw block.
func appendRawBlock(dst []byte, size int, last bool) []byte {
	h := uint32(size) << 3
	if last {
		h |= 1
	}
	return append(dst, byte(h), byte(h>>8), byte(h>>16))
}

// rawWriter writes a stream as one zstd frame of raw blocks. It keeps one block,
// for only Close knows which is the last.
type rawWriter struct {
	w       io.Writer
	size    int64 // declared, or unknownSize
	written int64
	block   []byte
	out     []byte
	sum     *xxhash.Digest
	err     error
}

// appendRawHeader appends the frame header, with a window of one block.
func appendRawHeader(dst []byte, size int64) []byte {
	const window = (17 - 10) << 3 // 2^17 bytes
	dst = append(dst, frameMagic...)
	if size == unknownSize {
		return append(dst, hasChecksum, window)
	}
	dst = append(dst, size64|hasChecksum, window)
	return binary.LittleEndian.AppendUint64(dst, uint64(size))
}

func newRawWriter(w io.Writer, size int64) *rawWriter {
	capacity := int64(blockSize)
	if size >= 0 {
		capacity = min(size, capacity)
	}
	return &rawWriter{w: w, size: size, sum: xxhash.New(), block: make([]byte, 0, capacity)}
}

func (r *rawWriter) Write(p []byte) (int, error) {
	total := len(p)
	for len(p) > 0 && r.err == nil {
		if len(r.block) == blockSize {
			r.flush(false)
			continue
		}
		n := min(len(p), blockSize-len(r.block))
		r.block = append(r.block, p[:n]...)
		p = p[n:]
	}
	return total - len(p), r.err
}

// Close writes the last block and the checksum.
func (r *rawWriter) Close() error {
	if r.err != nil {
		return r.err
	}
	r.flush(true)
	if r.err != nil {
		return r.err
	}
	r.err = fmt.Errorf("write frame: already closed")
	if r.size >= 0 && r.written != r.size {
		return fmt.Errorf("write frame: %d bytes declared, %d written", r.size, r.written)
	}
	return nil
}

func (r *rawWriter) flush(last bool) {
	r.out = r.out[:0]
	if r.written == 0 {
		r.out = appendRawHeader(r.out, r.size)
	}
	r.written += int64(len(r.block))
	_, _ = r.sum.Write(r.block) // a hash never fails
	r.out = append(appendRawBlock(r.out, len(r.block), last), r.block...)
	if last {
		r.out = binary.LittleEndian.AppendUint32(r.out, uint32(r.sum.Sum64()))
	}
	r.block = r.block[:0]
	_, r.err = r.w.Write(r.out)
}
