package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
)

func frameCodec(t testing.TB, level Level) (*FrameEncoder, *FrameDecoder) {
	t.Helper()
	enc, err := NewFrameEncoder(level)
	if err != nil {
		t.Fatal(err)
	}
	dec, err := NewFrameDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return enc, dec
}

func TestFrameRoundTrip(t *testing.T) {
	data := hardData(FrameSize)
	for _, level := range levels() {
		enc, dec := frameCodec(t, level)
		for _, size := range append(sizes(), FrameSize-1, FrameSize) {
			frame := enc.Append([]byte("before"), data[:size])
			frame, ok := bytes.CutPrefix(frame, []byte("before"))
			if !ok {
				t.Fatalf("%v, %d bytes: Append lost what was there", level, size)
			}
			got, err := dec.Decode([]byte("before"), frame)
			if err != nil || !bytes.Equal(got, append([]byte("before"), data[:size]...)) {
				t.Errorf("%v, %d bytes: other content, or %v", level, size, err)
			}
		}
	}
}

func TestFrameReusesMemory(t *testing.T) {
	data := pgbenchData(FrameSize)
	enc, dec := frameCodec(t, LevelDefault)
	frame := enc.Append(nil, data)
	plain, err := dec.Decode(nil, frame)
	if err != nil {
		t.Fatal(err)
	}
	used := allocated(func() {
		for range 10 {
			frame = enc.Append(frame[:0], data)
			if plain, err = dec.Decode(plain[:0], frame); err != nil {
				t.Error(err)
			}
		}
	})
	if used > 1<<20 {
		t.Errorf("ten frames took %d bytes of new memory", used)
	}
}

// TestFrameCodecShared has many goroutines use one encoder and one decoder.
func TestFrameCodecShared(t *testing.T) {
	data := hardData(1 << 20)
	enc, dec := frameCodec(t, LevelFastest)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			part := data[i*1000 : len(data)-i*1000]
			if got, err := dec.Decode(nil, enc.Append(nil, part)); err != nil || !bytes.Equal(got, part) {
				t.Errorf("other content, or %v", err)
			}
		})
	}
	group.Wait()
}

func TestFrameDecoderDetectsDamage(t *testing.T) {
	content := hardData(150_000)
	for _, level := range levels() {
		enc, dec := frameCodec(t, level)
		frame := enc.Append(nil, content)
		for _, n := range samples(len(frame)) {
			if _, err := dec.Decode(nil, frame[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: %d of %d bytes: %v", level, n, len(frame), err)
			}
			bad := bytes.Clone(frame)
			bad[n] ^= 1 << (n % 8)
			if got, err := dec.Decode(nil, bad); err == nil && !bytes.Equal(got, content) {
				t.Fatalf("%v: byte %d flipped: other content, no error", level, n)
			} else if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: byte %d flipped: %v", level, n, err)
			}
		}
		for what, bad := range map[string][]byte{
			"a byte more": append(bytes.Clone(frame), 0),
			"two frames":  enc.Append(bytes.Clone(frame), content),
			"skippable":   append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0}, frame...),
		} {
			if got, err := dec.Decode([]byte("before"), bad); !errors.Is(err, ErrCorrupt) || string(got) != "before" {
				t.Errorf("%v, %s: %d bytes, %v", level, what, len(got), err)
			}
		}
	}
}

func TestFrameDecoderMemory(t *testing.T) {
	_, dec := frameCodec(t, LevelFastest)
	frame := func(size uint32, blocks int) []byte {
		b := append([]byte(frameMagic), size32|singleSegment|hasChecksum)
		b = binary.LittleEndian.AppendUint32(b, size)
		for range blocks - 1 {
			b = append(b, 2, 0, 0x10, 'x') // RLE, 128 KiB
		}
		return append(b, 3, 0, 0x10, 'x', 0, 0, 0, 0)
	}
	for what, bad := range map[string][]byte{
		"claims a byte too much":  frame(FrameSize+1, 1),
		"claims 4 GiB":            frame(1<<32-1, 1),
		"expands over its claim":  frame(1000, 100_000),
		"expands over FrameSize":  frame(FrameSize, 100_000),
		"claims nothing":          append([]byte(frameMagic), hasChecksum, 13<<3, 3, 0, 0x10, 'x', 0, 0, 0, 0),
		"claims more than it has": frame(FrameSize, 1),
	} {
		used := allocated(func() {
			if _, err := dec.Decode(nil, bad); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", what, err)
			}
		})
		// The frame, and as much again for the block that goes over it.
		if used > 4*FrameSize {
			t.Errorf("%s: took %d bytes of memory", what, used)
		}
	}
}
