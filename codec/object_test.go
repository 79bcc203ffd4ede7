package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

var errBroken = errors.New("the cable is cut")

// fewSizes lie around the borders of content size fields and chunks.
func fewSizes() []int {
	return []int{0, 1, 42, 255, 256, 257, 1023, 1024, 1025, 65535, 65536, 65792}
}

// sizes lie around the borders of blocks and windows too, and at random between.
func sizes() []int {
	list := fewSizes()
	for _, border := range []int{blockSize, 2 * blockSize, streamWindow} {
		list = append(list, border-1, border, border+1)
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 4 {
		list = append(list, rnd.IntN(maxTestSize))
	}
	return list
}

// maxTestSize is what sizes stays below: two windows and a bit.
const maxTestSize = 2*streamWindow + 1000

func TestObjectRoundTrip(t *testing.T) {
	classic, second, hybrid := newKey(t), newKey(t), newHybridKey(t)
	for name, c := range map[string]struct {
		sizes      []int
		recipients []Recipient
		ids        []Identity
	}{
		"plain":        {sizes(), nil, nil},
		"encrypted":    {sizes(), []Recipient{classic.recipient}, []Identity{classic.identity}},
		"two keys":     {fewSizes(), []Recipient{second.recipient, classic.recipient}, []Identity{classic.identity}},
		"post-quantum": {fewSizes(), []Recipient{hybrid.recipient}, []Identity{classic.identity, hybrid.identity}},
	} {
		for _, level := range levels() {
			t.Run(fmt.Sprintf("%s/%v", name, level), func(t *testing.T) {
				data := hardData(maxTestSize)
				for _, size := range c.sizes {
					checkObject(t, data[:size], ObjectOptions{Level: level, Recipients: c.recipients}, c.ids)
				}
			})
		}
	}
}

// checkObject encodes content and reads it back, with and without a key.
func checkObject(t *testing.T, content []byte, opts ObjectOptions, ids []Identity) {
	t.Helper()
	object := encode(t, content, opts)
	want := Fingerprint{
		Version: 1, Name: testName, SystemID: testSystemID,
		Size: int64(len(content)), SHA256: sha256.Sum256(content),
	}
	if fp, err := ReadFingerprint(object[:min(len(object), FingerprintHead)]); err != nil || fp != want {
		t.Fatalf("%d bytes: without a key: %v, %v", len(content), fp, err)
	}
	r, err := NewObjectReader(bytes.NewReader(object), ids)
	if err != nil {
		t.Fatalf("%d bytes: %v", len(content), err)
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes: other content, or %v", len(content), err)
	}
	if r.Fingerprint() != want {
		t.Fatalf("%d bytes: fingerprint %v", len(content), r.Fingerprint())
	}
}

// TestObjectReaderOnSlowSources reads through sources that give a byte at a
// time, or data together with io.EOF.
func TestObjectReaderOnSlowSources(t *testing.T) {
	k := newKey(t)
	content := hardData(300_000)
	for _, recipients := range [][]Recipient{nil, {k.recipient}} {
		object := encode(t, content, ObjectOptions{Recipients: recipients})
		for _, slow := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
			r, err := NewObjectReader(slow(bytes.NewReader(object)), []Identity{k.identity})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
				t.Fatalf("other content, or %v", err)
			}
		}
	}
}

func TestObjectReaderKeepsTheReaderContract(t *testing.T) {
	for _, size := range []int{0, 1, 5000} {
		content := hardData(size)
		r, err := NewObjectReader(bytes.NewReader(encode(t, content, ObjectOptions{})), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, content); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestSumReader(t *testing.T) {
	content := noise(300_001)
	sum := sumOf(t, content)
	if sum.Size != 300_001 || sum.SHA256 != sha256.Sum256(content) {
		t.Errorf("got %+v", sum)
	}
	// CRC-32C's check value: that of the digits 1 to 9.
	if got := sumOf(t, []byte("123456789")).CRC32C; got != 0xe3069283 {
		t.Errorf("CRC-32C = %08x", got)
	}
	if _, err := SumReader(iotest.ErrReader(errBroken)); !errors.Is(err, errBroken) {
		t.Errorf("broken source: %v", err)
	}
}

func TestEncodeObjectNoticesChange(t *testing.T) {
	before := hardData(200_000)
	other := bytes.Clone(before)
	other[150_000] ^= 1
	for _, level := range levels() {
		for what, after := range map[string][]byte{
			"empty":   {},
			"shorter": before[:199_999],
			"longer":  append(bytes.Clone(before), 0),
			"changed": other,
		} {
			_, err := EncodeObject(io.Discard, testName, 1, sumOf(t, before), bytes.NewReader(after), ObjectOptions{Level: level})
			if !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), testName) {
				t.Errorf("%v, %s: %v", level, what, err)
			}
		}
		_, err := EncodeObject(io.Discard, testName, 1, sumOf(t, nil), strings.NewReader("x"), ObjectOptions{Level: level})
		if !errors.Is(err, ErrChanged) {
			t.Errorf("%v, no longer empty: %v", level, err)
		}
	}
}

func TestEncodeObjectReportsBadArguments(t *testing.T) {
	encode := func(name string, opts ObjectOptions) error {
		_, err := EncodeObject(io.Discard, name, 1, sumOf(t, nil), strings.NewReader(""), opts)
		return err
	}
	if err := encode("a b", ObjectOptions{}); err == nil {
		t.Error("a name with a space was taken")
	}
	if err := encode("a", ObjectOptions{Level: 9}); err == nil {
		t.Error("an unknown level was taken")
	}
	mixed := []Recipient{newKey(t).recipient, newHybridKey(t).recipient}
	if err := encode("a", ObjectOptions{Recipients: mixed}); err == nil {
		t.Error("post-quantum and classic keys were mixed")
	}
	mixed[0], mixed[1] = mixed[1], mixed[0]
	if err := encode("a", ObjectOptions{Recipients: mixed}); err == nil {
		t.Error("classic and post-quantum keys were mixed")
	}
}

func TestEncodeObjectReportsReadError(t *testing.T) {
	content := hardData(300_000)
	r := io.MultiReader(bytes.NewReader(content[:200_000]), iotest.ErrReader(errBroken))
	if _, err := EncodeObject(io.Discard, testName, 1, sumOf(t, content), r, ObjectOptions{}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

// fullWriter fails once n bytes were written.
type fullWriter struct{ n int }

func (w *fullWriter) Write(p []byte) (int, error) {
	if len(p) > w.n {
		n := w.n
		w.n = 0
		return n, errBroken
	}
	w.n -= len(p)
	return len(p), nil
}

// TestEncodeObjectReportsEveryWriteError cuts the writer off all along the
// object, and everywhere in its end, which Close writes.
func TestEncodeObjectReportsEveryWriteError(t *testing.T) {
	content := hardData(200)
	for _, recipients := range [][]Recipient{nil, {newKey(t).recipient}} {
		for _, level := range levels() {
			opts := ObjectOptions{Level: level, Recipients: recipients}
			size := len(encode(t, content, opts))
			for n := range size {
				if n%7 != 0 && n < size-20 {
					continue
				}
				_, err := EncodeObject(&fullWriter{n}, testName, testSystemID, sumOf(t, content), bytes.NewReader(content), opts)
				if !errors.Is(err, errBroken) {
					t.Fatalf("%v: room for %d of %d bytes: %v", level, n, size, err)
				}
			}
		}
	}
}
