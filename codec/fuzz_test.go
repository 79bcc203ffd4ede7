package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// The seeds of these targets, besides those added here, are in testdata/fuzz.
// Content is read up to fuzzLimit, for a few bytes of zstd can hold gigabytes.
const fuzzLimit = 16 << 20

func FuzzObjectReader(f *testing.F) {
	ids := formatIdentities(f)
	for _, name := range formatObjects {
		object, err := os.ReadFile(formatDir + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		r, err := NewObjectReader(bytes.NewReader(object), ids)
		if err != nil {
			if !conclusive(err) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		content, err := io.ReadAll(io.LimitReader(r, fuzzLimit))
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error without a meaning: %v", err)
		}
		fp := r.Fingerprint()
		if err == nil && len(content) < fuzzLimit && (fp.Size != int64(len(content)) || fp.SHA256 != sha256.Sum256(content)) {
			t.Fatalf("a clean end of other content than %v", fp)
		}
	})
}

// FuzzPayload is FuzzObjectReader behind the encryption, where mutations of the
// stored bytes don't get.
func FuzzPayload(f *testing.F) {
	content := hardData(1000)
	sum := sumOf(f, content)
	for _, level := range levels() {
		var frame bytes.Buffer
		if err := compress(&frame, sum, bytes.NewReader(content), level); err != nil {
			f.Fatal(err)
		}
		f.Add(frame.Bytes())
	}
	head, err := Fingerprint{Version: 1, Name: "x", Size: sum.Size, SHA256: sum.SHA256}.appendFrame(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		got, err := decode(append(bytes.Clone(head), frame...))
		if err == nil && !bytes.Equal(got, content) {
			t.Fatal("a clean end of other content")
		} else if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error without a meaning: %v", err)
		}
	})
}

func FuzzZstdReader(f *testing.F) {
	for _, level := range levels() {
		f.Add(zstdWrite(f, hardData(1000), level))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r, err := NewZstdReader(bytes.NewReader(stream))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, io.LimitReader(r, fuzzLimit)); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error without a meaning: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzFrameDecoder(f *testing.F) {
	for _, level := range levels() {
		enc, _ := frameCodec(f, level)
		f.Add(enc.Append(nil, hardData(1000)))
	}
	_, dec := frameCodec(f, LevelFastest)
	f.Fuzz(func(t *testing.T, frame []byte) {
		plain, err := dec.Decode(nil, frame)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("error without a meaning: %v", err)
		}
		if len(plain) > FrameSize {
			t.Fatalf("%d bytes of content", len(plain))
		}
		// The stream reader has to agree on what a whole, right frame is.
		if err == nil {
			if again, err := zstdRead(frame); err != nil || !bytes.Equal(again, plain) {
				t.Fatalf("read as a stream: other content, or %v", err)
			}
		}
	})
}

func FuzzFrameRoundTrip(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add(bytes.Repeat([]byte("walden"), 100), uint8(1))
	f.Fuzz(func(t *testing.T, plain []byte, level uint8) {
		enc, dec := frameCodec(t, Level(level)%(LevelNone+1))
		if got, err := dec.Decode(nil, enc.Append(nil, plain)); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("other content, or %v", err)
		}
	})
}

func FuzzDecryptReader(f *testing.F) {
	ids := formatIdentities(f)
	f.Add([]byte(ageIntro))
	f.Fuzz(func(t *testing.T, stream []byte) {
		got, err := unseal(stream, ids...)
		if err != nil && !conclusive(err) {
			t.Fatalf("error without a meaning: %v", err)
		}
		if err == nil && !isEncrypted(stream) && !bytes.Equal(got, stream) {
			t.Fatal("changed what is not encrypted")
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	k := newKey(f)
	f.Add("# comment\n" + k.private + "\n")
	f.Add("age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\n")
	f.Fuzz(func(t *testing.T, text string) {
		if ids, err := ParseIdentities(strings.NewReader(text)); err == nil && len(ids) == 0 {
			t.Fatal("no identity, no error")
		} else if err != nil && !errors.Is(err, ErrKey) {
			t.Fatalf("error without a meaning: %v", err)
		}
		if list, err := ParseRecipientsFile(strings.NewReader(text)); err == nil && len(list) == 0 {
			t.Fatal("no recipient, no error")
		} else if err != nil && !errors.Is(err, ErrKey) {
			t.Fatalf("error without a meaning: %v", err)
		}
	})
}
