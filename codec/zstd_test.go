package codec

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func zstdWrite(t testing.TB, content []byte, level Level) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewZstdWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	// In pieces that fit no block.
	for rest := content; len(rest) > 0; {
		n := min(len(rest), 100_003)
		if _, err := w.Write(rest[:n]); err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstdRead(stream []byte) (content []byte, err error) {
	r, err := NewZstdReader(bytes.NewReader(stream))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	return io.ReadAll(r)
}

func TestZstdRoundTrip(t *testing.T) {
	data := hardData(maxTestSize)
	for _, level := range levels() {
		for _, size := range sizes() {
			got, err := zstdRead(zstdWrite(t, data[:size], level))
			if err != nil || !bytes.Equal(got, data[:size]) {
				t.Errorf("%v, %d bytes: other content, or %v", level, size, err)
			}
		}
	}
}

func TestZstdReaderDetectsDamage(t *testing.T) {
	content := hardData(150_000)
	for _, level := range levels() {
		stream := zstdWrite(t, content, level)
		for _, n := range samples(len(stream)) {
			if _, err := zstdRead(stream[:n]); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: %d of %d bytes: %v", level, n, len(stream), err)
			}
			bad := bytes.Clone(stream)
			bad[n] ^= 1 << (n % 8)
			if got, err := zstdRead(bad); err == nil && !bytes.Equal(got, content) {
				t.Fatalf("%v: byte %d flipped: other content, no error", level, n)
			} else if err != nil && !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v: byte %d flipped: %v", level, n, err)
			}
		}
		for _, tail := range []string{"\x00", "\x00\x00\x00", frameMagic, "\x50\x2a\x4d\x18\x00\x00\x00\x00", string(stream)} {
			if _, err := zstdRead(append(bytes.Clone(stream), tail...)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v: followed by %d bytes: %v", level, len(tail), err)
			}
		}
	}
}

func TestZstdReaderRefusesOtherFrames(t *testing.T) {
	const lastBlock, checksum = "\x01\x00\x00", "\x99\xe9\xd8\x51"
	if _, err := zstdRead([]byte(frameMagic + "\x04\x38" + lastBlock + checksum)); err != nil {
		t.Fatalf("an empty frame: %v", err)
	}
	for what, stream := range map[string]string{
		"no checksum":         frameMagic + "\x00\x38" + lastBlock,
		"unused bit":          frameMagic + "\x14\x38" + lastBlock + checksum,
		"reserved bit":        frameMagic + "\x0c\x38" + lastBlock + checksum,
		"dictionary":          frameMagic + "\x05\x38\x07" + lastBlock + checksum,
		"block of a new type": frameMagic + "\x04\x38\x07\x00\x00" + checksum,
		"block too long":      frameMagic + "\x04\x38\x09\x00\x10" + checksum,
		"other checksum":      frameMagic + "\x04\x38" + lastBlock + "\x99\xe9\xd8\x52",
		"skippable":           "\x50\x2a\x4d\x18\x00\x00\x00\x00" + frameMagic + "\x04\x38" + lastBlock + checksum,
		"other magic":         "\x27\xb5\x2f\xfd\x04\x38" + lastBlock + checksum,
	} {
		if _, err := zstdRead([]byte(stream)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestZstdReaderOnFailingSource(t *testing.T) {
	stream := zstdWrite(t, hardData(150_000), LevelDefault)
	for _, n := range append(samples(len(stream)), len(stream)) {
		r, err := NewZstdReader(io.MultiReader(bytes.NewReader(stream[:n]), iotest.ErrReader(errBroken)))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if !errors.Is(err, errBroken) || errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(stream), err)
		}
	}
}

func TestZstdReaderClose(t *testing.T) {
	r, err := NewZstdReader(bytes.NewReader(zstdWrite(t, []byte("x"), LevelFastest)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF || errors.Is(err, ErrCorrupt) {
		t.Errorf("read after close: %d, %v", n, err)
	}
}

func TestZstdWriterReportsWriteErrors(t *testing.T) {
	content := noise(2 * blockSize)
	for _, level := range levels() {
		size := len(zstdWrite(t, content, level))
		for _, room := range []int{0, 1, 10, blockSize, size - 5, size - 1} {
			w, err := NewZstdWriter(&fullWriter{room}, level)
			if err != nil {
				t.Fatal(err)
			}
			_, err = w.Write(content)
			if err = errors.Join(err, w.Close()); !errors.Is(err, errBroken) {
				t.Errorf("%v: room for %d of %d bytes: %v", level, room, size, err)
			}
		}
	}
}

// TestRawWriterHoldsToItsSize is about a promise inside the package: a frame
// never declares another size than it has.
func TestRawWriterHoldsToItsSize(t *testing.T) {
	w := newRawWriter(io.Discard, 5)
	if _, err := io.Copy(w, strings.NewReader("four")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err == nil {
		t.Error("closed with 4 of 5 bytes")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("wrote after close")
	}
}
