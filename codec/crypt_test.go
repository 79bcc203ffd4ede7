package codec

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func seal(t testing.TB, content []byte, recipients ...Recipient) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewEncryptWriter(&out, recipients)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unseal(stream []byte, ids ...Identity) ([]byte, error) {
	r, err := NewDecryptReader(bytes.NewReader(stream), ids)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestEncryptRoundTrip(t *testing.T) {
	classic, hybrid := newKey(t), newHybridKey(t)
	data := noise(200_000)
	for _, size := range []int{0, 1, 65535, 65536, 65537, 200_000} {
		for _, k := range []key{classic, hybrid} {
			sealed := seal(t, data[:size], k.recipient)
			if size >= 32 && bytes.Contains(sealed, data[:32]) {
				t.Fatal("it is not encrypted")
			}
			if got, err := unseal(sealed, k.identity); err != nil || !bytes.Equal(got, data[:size]) {
				t.Errorf("%d bytes: other content, or %v", size, err)
			}
		}
		if plain := seal(t, data[:size]); !bytes.Equal(plain, data[:size]) {
			t.Errorf("%d bytes: changed without recipients", size)
		}
		if got, err := unseal(data[:size], classic.identity); err != nil || !bytes.Equal(got, data[:size]) {
			t.Errorf("%d bytes, not encrypted: changed, or %v", size, err)
		}
	}
}

func TestDecryptReaderKeys(t *testing.T) {
	mine, other := newKey(t), newKey(t)
	sealed := seal(t, []byte("secret"), mine.recipient, newKey(t).recipient)
	if _, err := unseal(sealed); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("no key: %v", err)
	}
	if _, err := unseal(sealed, other.identity); !errors.Is(err, ErrWrongIdentity) || !strings.Contains(err.Error(), "2 recipients") {
		t.Errorf("other key: %v", err)
	}
}

func TestDecryptReaderDetectsDamage(t *testing.T) {
	k := newKey(t)
	content := noise(150_000)
	sealed := seal(t, content, k.recipient)
	for _, n := range samples(len(sealed)) {
		if n > 0 {
			if _, err := unseal(sealed[:n], k.identity); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%d of %d bytes: %v", n, len(sealed), err)
			}
		}
		if n < len(ageIntro) {
			continue // no longer an age file, and so passed through
		}
		bad := bytes.Clone(sealed)
		bad[n] ^= 1 << (n % 8)
		if _, err := unseal(bad, k.identity); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrWrongIdentity) {
			t.Fatalf("byte %d flipped: %v", n, err)
		}
	}
	if _, err := unseal(append(sealed, 0), k.identity); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a byte more: %v", err)
	}
}

func TestDecryptReaderOnFailingSource(t *testing.T) {
	k := newKey(t)
	sealed := seal(t, noise(150_000), k.recipient)
	for _, n := range append(samples(len(sealed)), len(sealed)) {
		r, err := NewDecryptReader(io.MultiReader(bytes.NewReader(sealed[:n]), iotest.ErrReader(errBroken)), []Identity{k.identity})
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if !errors.Is(err, errBroken) || conclusive(err) {
			t.Fatalf("cut after %d of %d bytes: %v", n, len(sealed), err)
		}
	}
}

// TestEncryptWriterReportsCloseErrors leaves room for all but the last chunk,
// which only Close writes.
func TestEncryptWriterReportsCloseErrors(t *testing.T) {
	k := newKey(t)
	content := noise(100)
	size := len(seal(t, content, k.recipient))
	w, err := NewEncryptWriter(&fullWriter{size - 1}, []Recipient{k.recipient})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatalf("Write: %v", err)
	}
	if err := w.Close(); !errors.Is(err, errBroken) {
		t.Errorf("Close: %v", err)
	}
	if err := w.Close(); err == nil {
		t.Error("a second Close succeeded")
	}
}

func TestEncryptWriterReportsHeaderErrors(t *testing.T) {
	k := newKey(t)
	if _, err := NewEncryptWriter(&fullWriter{10}, []Recipient{k.recipient}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

// TestStampedRecipient holds a recipient with a stanza in front to behave like
// the recipient.
func TestStampedRecipient(t *testing.T) {
	for _, k := range []key{newKey(t), newHybridKey(t)} {
		recipients, err := stamp(testFingerprint(), []Recipient{k.recipient})
		if err != nil {
			t.Fatal(err)
		}
		stanzas, err := recipients[0].Wrap(make([]byte, 16))
		if err != nil {
			t.Fatal(err)
		}
		if len(stanzas) != 2 || stanzas[0].Type != stanzaType {
			t.Errorf("stanzas %v", stanzas)
		}
	}
}
