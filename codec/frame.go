package codec

import (
	"errors"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"
)

// FrameSize is the most plaintext that one frame of backup data holds, in bytes.
const FrameSize = 4 << 20

// FrameEncoder compresses backup data, a frame at a time. Concatenated frames
// are one valid zstd stream. It may be shared by goroutines, but they then take
// turns: parallel work takes one for each. It needs no closing.
type FrameEncoder struct {
	enc *zstd.Encoder // nil for LevelNone
}

// NewFrameEncoder makes an encoder. It keeps 5 MB of memory for LevelFastest, 7 MB
// for LevelDefault and 10 MB for LevelBetter.
func NewFrameEncoder(level Level) (*FrameEncoder, error) {
	if err := level.check(); err != nil {
		return nil, err
	}
	if level == LevelNone {
		return &FrameEncoder{}, nil
	}
	opts := append(encoderOptions(level, FrameSize), zstd.WithSingleSegment(true))
	enc, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &FrameEncoder{enc: enc}, nil
}

// Append compresses plain into one self-contained frame with content size and
// checksum, and appends that to dst. Plain has at most FrameSize bytes: a longer
// frame is one that `zstd -d` reads but FrameDecoder refuses.
func (e *FrameEncoder) Append(dst, plain []byte) []byte {
	// The library leaves the checksum out of an empty frame.
	if e.enc == nil || len(plain) == 0 {
		return appendRawFrame(dst, plain)
	}
	return e.enc.EncodeAll(plain, dst)
}

// FrameDecoder decompresses what FrameEncoder wrote, with memory for one frame.
// It may be shared by goroutines, but they then take turns.
type FrameDecoder struct {
	dec *zstd.Decoder
}

// NewFrameDecoder makes a decoder.
func NewFrameDecoder() (*FrameDecoder, error) {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(FrameSize),
		zstd.WithDecoderMaxMemory(FrameSize),
		zstd.WithDecodeAllCapLimit(true),
	)
	if err != nil {
		return nil, fmt.Errorf("set up zstd: %w", err)
	}
	return &FrameDecoder{dec: dec}, nil
}

// Decode decompresses one frame, which frame must hold exactly, and appends its
// content to dst. It returns ErrCorrupt, and dst as it was, for anything that is
// not one whole frame with at most FrameSize bytes of content, a content size
// and a right checksum.
func (d *FrameDecoder) Decode(dst, frame []byte) ([]byte, error) {
	size, err := frameContent(frame)
	if err != nil {
		return dst, fmt.Errorf("decompress: %w: %w", ErrCorrupt, err)
	}
	out := slices.Grow(dst, size)
	plain, err := d.dec.DecodeAll(frame, out[len(out):])
	if err != nil {
		return dst, fmt.Errorf("decompress: %w: %w", ErrCorrupt, err)
	}
	return out[:len(out)+len(plain)], nil
}

// frameContent checks that b is one whole frame, without decompressing it, and
// returns how long its content claims to be.
func frameContent(b []byte) (int, error) {
	size, err := frameHeader(b)
	if err != nil {
		return 0, err
	}
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return 0, err
	}
	if !h.HasFCS || h.FrameContentSize > FrameSize {
		return 0, fmt.Errorf("frame without a content size of at most %d", FrameSize)
	}
	b = b[size:]
	for last := false; !last; {
		if len(b) < blockHeader {
			return 0, errors.New("it ends early")
		}
		var body int
		if body, last, err = blockLength(b); err != nil {
			return 0, err
		}
		if b = b[blockHeader:]; len(b) < body {
			return 0, errors.New("it ends early")
		}
		b = b[body:]
	}
	if len(b) != 4 {
		return 0, fmt.Errorf("%d bytes after the last block, should be a checksum of 4", len(b))
	}
	return int(h.FrameContentSize), nil
}
