package codec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// conclusive reports whether err says something about the object, and not about
// its source.
func conclusive(err error) bool {
	return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNewer) || errors.Is(err, ErrWrongIdentity)
}

// samples returns offsets into an object: those at its ends and some between.
func samples(n int) []int {
	rnd := rand.New(rand.NewPCG(9, 10))
	var list []int
	for i := range n {
		if i < 160 || i >= n-40 || rnd.IntN(n) < 200 {
			list = append(list, i)
		}
	}
	return list
}

// bitsOf returns which bits of a byte to flip: all in a short object that is
// not encrypted, elsewhere one.
func bitsOf(i int, object []byte) []int {
	if len(object) > 2000 || isEncrypted(object) {
		return []int{i % 8}
	}
	return []int{0, 1, 2, 3, 4, 5, 6, 7}
}

// TestObjectReaderDetectsFlips flips bits. No flip may yield other content with
// a clean end. A flip within compressed blocks may also yield the very content:
// zstd has bits that mean nothing. Everywhere else, every flip is an error.
func TestObjectReaderDetectsFlips(t *testing.T) {
	k := newKey(t)
	for _, size := range []int{0, 300, 200_000} {
		content := hardData(size)
		for _, level := range levels() {
			for _, encrypted := range []bool{false, true} {
				opts := ObjectOptions{Level: level}
				if encrypted {
					opts.Recipients = []Recipient{k.recipient}
				}
				object := encode(t, content, opts)
				harmless := flipBits(t, object, content, k.identity)
				if limit := harmlessLimit(object, encrypted || level == LevelNone); harmless > limit {
					t.Errorf("%d bytes, %v, encrypted %v: %d flips went unnoticed, at most %d may", size, level, encrypted, harmless, limit)
				}
			}
		}
	}
}

// harmlessLimit is how many of the flips that flipBits tries may be harmless:
// those in the byte that declares the window, and some in compressed blocks.
func harmlessLimit(object []byte, strict bool) int {
	const windowByte = 8
	if strict {
		return windowByte
	}
	return windowByte + len(samples(len(object)))/10
}

// flipBits returns how many flips of a bit left the content as it was.
func flipBits(t *testing.T, object, content []byte, id Identity) (harmless int) {
	t.Helper()
	for _, i := range samples(len(object)) {
		for _, bit := range bitsOf(i, object) {
			bad := bytes.Clone(object)
			bad[i] ^= 1 << bit
			switch got, err := decode(bad, id); {
			case err == nil && !bytes.Equal(got, content):
				t.Fatalf("byte %d, bit %d: other content, no error", i, bit)
			case err == nil:
				harmless++
			case !conclusive(err):
				t.Fatalf("byte %d, bit %d: error without a meaning: %v", i, bit, err)
			}
		}
	}
	return harmless
}

func TestObjectReaderDetectsTruncation(t *testing.T) {
	k := newKey(t)
	for _, size := range []int{0, 300, 200_000} {
		content := hardData(size)
		for _, level := range levels() {
			for _, recipients := range [][]Recipient{nil, {k.recipient}} {
				object := encode(t, content, ObjectOptions{Level: level, Recipients: recipients})
				for _, n := range samples(len(object)) {
					if _, err := decode(object[:n], k.identity); !errors.Is(err, ErrCorrupt) {
						t.Fatalf("%v: %d of %d bytes: %v", level, n, len(object), err)
					}
				}
			}
		}
	}
}

func TestObjectReaderDetectsTrailingBytes(t *testing.T) {
	k := newKey(t)
	content := hardData(1000)
	another := encode(t, content, ObjectOptions{})
	for _, level := range levels() {
		for _, recipients := range [][]Recipient{nil, {k.recipient}} {
			object := encode(t, content, ObjectOptions{Level: level, Recipients: recipients})
			for what, tail := range map[string][]byte{
				"a zero":            {0},
				"three zeros":       {0, 0, 0},
				"a magic number":    []byte(frameMagic),
				"an empty frame":    appendRawFrame(nil, nil),
				"a frame":           appendRawFrame(nil, []byte("x")),
				"a skippable frame": {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0},
				"another object":    another,
			} {
				if _, err := decode(append(bytes.Clone(object), tail...), k.identity); !errors.Is(err, ErrCorrupt) {
					t.Errorf("%v, encrypted %v, %s: %v", level, recipients != nil, what, err)
				}
			}
		}
	}
}

// forge makes an object whose payload is whatever the caller wants.
func forge(t *testing.T, outer Fingerprint, payload []byte, recipients ...Recipient) []byte {
	t.Helper()
	stamped, err := stamp(outer, recipients)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := NewEncryptWriter(&out, stamped)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(payload); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestObjectReaderComparesFingerprints(t *testing.T) {
	k := newKey(t)
	payload := encode(t, hardData(1000), ObjectOptions{})
	inner, err := ReadFingerprint(payload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(forge(t, inner, payload, k.recipient), k.identity); err != nil {
		t.Fatalf("equal fingerprints: %v", err)
	}
	outer := inner
	outer.Name = "0000000100000002000000A4"
	_, err = decode(forge(t, outer, payload, k.recipient), k.identity)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), inner.Name) || !strings.Contains(err.Error(), outer.Name) {
		t.Errorf("different fingerprints: %v", err)
	}
}

// TestObjectReaderComparesContent has a whole, right frame with other content
// than the fingerprint says.
func TestObjectReaderComparesContent(t *testing.T) {
	content := []byte("1\t0/3000000\tno recovery target specified\n")
	head := func(change func(*Fingerprint)) []byte {
		fp := Fingerprint{Version: 1, Name: "00000002.history", Size: int64(len(content)), SHA256: sumOf(t, content).SHA256}
		change(&fp)
		b, err := fp.appendFrame(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for what, c := range map[string]struct {
		object []byte
		says   string
	}{
		"longer":  {appendRawFrame(head(func(f *Fingerprint) { f.Size-- }), content), "more content"},
		"shorter": {appendRawFrame(head(func(f *Fingerprint) { f.Size++ }), content), "content has 41 bytes, should have 42"},
		"other":   {appendRawFrame(head(func(f *Fingerprint) { f.SHA256[0]++ }), content), "sha256"},
		"none":    {head(func(*Fingerprint) {}), "ends early"},
	} {
		if _, err := decode(c.object); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	if _, err := decode(appendRawFrame(head(func(*Fingerprint) {}), content)); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

func TestObjectReaderKeys(t *testing.T) {
	mine, other, hybrid := newKey(t), newKey(t), newHybridKey(t)
	for _, k := range []key{mine, hybrid} {
		object := encode(t, hardData(1000), ObjectOptions{Recipients: []Recipient{k.recipient}})
		if _, err := decode(object); !errors.Is(err, ErrNoIdentity) || errors.Is(err, ErrCorrupt) {
			t.Errorf("no key: %v", err)
		}
		if _, err := decode(object, other.identity); !errors.Is(err, ErrWrongIdentity) || errors.Is(err, ErrCorrupt) {
			t.Errorf("other key: %v", err)
		}
		if _, err := decode(object, other.identity, k.identity); err != nil {
			t.Errorf("other key and the right one: %v", err)
		}
	}
	if _, err := decode(encode(t, hardData(1000), ObjectOptions{}), mine.identity); err != nil {
		t.Errorf("a key that isn't needed: %v", err)
	}
}

func TestObjectReaderRefusesOtherFiles(t *testing.T) {
	k := newKey(t)
	var sealed bytes.Buffer
	w, err := NewEncryptWriter(&sealed, []Recipient{k.recipient})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for what, b := range map[string][]byte{
		"nothing":            {},
		"text":               []byte("hello"),
		"a bare frame":       appendRawFrame(nil, []byte("hello")),
		"a foreign frame":    append([]byte{0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9}, appendRawFrame(nil, nil)...),
		"a plain age file":   sealed.Bytes(),
		"a huge skip":        {0x57, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff},
		"a segment as it is": hardData(8192),
	} {
		if _, err := decode(b, k.identity); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestObjectReaderOfLaterVersion(t *testing.T) {
	later := reseal([]byte("WALDENFP\x02\x00 and more....."))
	object := append([]byte{0x57, 0x2a, 0x4d, 0x18, byte(len(later)), 0, 0, 0}, later...)
	if _, err := decode(object); !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
		t.Errorf("plain: %v", err)
	}
	header := ageIntro + "-> " + stanzaType + "\n" + base64.RawStdEncoding.EncodeToString(later) + "\n"
	if _, err := decode([]byte(header)); !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
		t.Errorf("encrypted: %v", err)
	}
}

// TestObjectReaderOnFailingSource cuts the source at every offset: that is no
// verdict about the object.
func TestObjectReaderOnFailingSource(t *testing.T) {
	k := newKey(t)
	for _, recipients := range [][]Recipient{nil, {k.recipient}} {
		object := encode(t, hardData(200_000), ObjectOptions{Recipients: recipients})
		for _, failure := range []error{errBroken, io.ErrUnexpectedEOF} {
			for _, n := range append(samples(len(object)), len(object)) {
				src := io.MultiReader(bytes.NewReader(object[:n]), iotest.ErrReader(failure))
				r, err := NewObjectReader(src, []Identity{k.identity})
				if err == nil {
					_, err = io.Copy(io.Discard, r)
				}
				if !errors.Is(err, failure) || conclusive(err) {
					t.Fatalf("cut after %d of %d bytes: %v", n, len(object), err)
				}
			}
		}
	}
}

func TestObjectReaderErrorsStay(t *testing.T) {
	object := encode(t, hardData(1000), ObjectOptions{})
	r, err := NewObjectReader(bytes.NewReader(object[:len(object)-1]), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, first := io.ReadAll(r)
	if n, again := r.Read(make([]byte, 1)); n != 0 || again == nil || again.Error() != first.Error() {
		t.Errorf("first %v, then %d bytes, %v", first, n, again)
	}
}

// TestObjectReaderMemory reads objects that claim or expand to much.
func TestObjectReaderMemory(t *testing.T) {
	const limit = 20 << 20
	fp := Fingerprint{Version: 1, Name: "bomb", Size: 1 << 62}
	head, err := fp.appendFrame(nil)
	if err != nil {
		t.Fatal(err)
	}
	frame := func(descriptor byte, rest ...byte) []byte {
		return append(append(append(bytes.Clone(head), frameMagic...), descriptor), rest...)
	}
	repeat := bytes.Repeat([]byte{2, 0, 0x10, 'x'}, 512) // RLE blocks of 128 KiB
	for what, object := range map[string][]byte{
		"window of 8 MiB":   append(frame(hasChecksum, 13<<3), repeat...),
		"window of 9 MiB":   append(frame(hasChecksum, 13<<3|1), repeat...),
		"window of 3.75 TB": append(frame(hasChecksum, 0xff), repeat...),
		"segment of 8 MiB":  append(frame(size32|singleSegment|hasChecksum, 0, 0, 0x80, 0), repeat...),
		"segment of 4 GiB":  append(frame(size32|singleSegment|hasChecksum, 0xff, 0xff, 0xff, 0xff), repeat...),
		"segment of 2^63":   append(frame(size64|singleSegment|hasChecksum, 0, 0, 0, 0, 0, 0, 0, 0x80), repeat...),
	} {
		used := allocated(func() {
			r, err := NewObjectReader(bytes.NewReader(object), nil)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", what, err)
			}
		})
		if used > limit {
			t.Errorf("%s: took %d bytes of memory, more than %d", what, used, limit)
		}
	}
}

// allocated returns how many bytes f allocates in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestObjectMemory holds the package to the memory that it promises, and to
// working in its caller's goroutine.
func TestObjectMemory(t *testing.T) {
	content := hardData(4 << 20)
	sum := sumOf(t, content)
	for level, limit := range map[Level]uint64{LevelFastest: 2 << 20, LevelDefault: 4 << 20, LevelBetter: 7 << 20, LevelNone: 1 << 20} {
		t.Run(fmt.Sprint(level), func(t *testing.T) {
			w := &goroutineWatch{before: runtime.NumGoroutine()}
			used := allocated(func() {
				if _, err := EncodeObject(w, testName, 1, sum, bytes.NewReader(content), ObjectOptions{Level: level}); err != nil {
					t.Error(err)
				}
			})
			if used > limit {
				t.Errorf("took %d bytes of memory, more than %d", used, limit)
			}
			if w.most > w.before {
				t.Errorf("%d goroutines more", w.most-w.before)
			}
		})
	}
}

// goroutineWatch notes how many goroutines there are at each write.
type goroutineWatch struct{ before, most int }

func (w *goroutineWatch) Write(p []byte) (int, error) {
	w.most = max(w.most, runtime.NumGoroutine())
	return len(p), nil
}
