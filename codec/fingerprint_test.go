package codec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math"
	"strings"
	"testing"
)

func testFingerprint() Fingerprint {
	f := Fingerprint{Version: 1, Name: testName, SystemID: testSystemID, Size: 16 << 20}
	for i := range f.SHA256 {
		f.SHA256[i] = byte(i)
	}
	return f
}

func mustAppend(t testing.TB, f Fingerprint) []byte {
	t.Helper()
	b, err := f.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reseal puts the right CRC-32C at the end of b.
func reseal(b []byte) []byte {
	b = bytes.Clone(b)
	body := b[:len(b)-4]
	binary.LittleEndian.PutUint32(b[len(body):], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestFingerprintLayout pins the bytes of format version 1.
func TestFingerprintLayout(t *testing.T) {
	const want = "57414c44454e4650" + // WALDENFP
		"0100" + "1800" + // version, length of the name
		"874bc509a7ab7a65" + // system identifier
		"0000000100000000" + // length
		"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f" +
		"303030303030303130303030303030323030303030304133" + // name
		"d3136722" // CRC-32C
	if got := hex.EncodeToString(mustAppend(t, testFingerprint())); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFingerprintRoundTrip(t *testing.T) {
	for _, f := range []Fingerprint{
		testFingerprint(),
		{Version: 1, Name: "x"},
		{Version: 1, Name: strings.Repeat("n", 255), SystemID: math.MaxUint64, Size: math.MaxInt64},
	} {
		got, err := ParseFingerprint(mustAppend(t, f))
		if err != nil || got != f {
			t.Errorf("got %v, %v\nwant %v", got, err, f)
		}
	}
}

func TestFingerprintThatCannotBeWritten(t *testing.T) {
	for reason, change := range map[string]func(*Fingerprint){
		"no version":    func(f *Fingerprint) { f.Version = 0 },
		"later version": func(f *Fingerprint) { f.Version = 2 },
		"no name":       func(f *Fingerprint) { f.Name = "" },
		"long name":     func(f *Fingerprint) { f.Name = strings.Repeat("n", 256) },
		"line feed":     func(f *Fingerprint) { f.Name = "a\nb" },
		"escape":        func(f *Fingerprint) { f.Name = "\x1b[31m" },
		"not ASCII":     func(f *Fingerprint) { f.Name = "\u00e9" },
		"negative size": func(f *Fingerprint) { f.Size = -1 },
	} {
		f := testFingerprint()
		change(&f)
		if _, err := f.AppendBinary(nil); err == nil {
			t.Errorf("%s: written", reason)
		}
	}
}

func TestFingerprintDamage(t *testing.T) {
	good := mustAppend(t, testFingerprint())
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := ParseFingerprint(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d, bit %d flipped: %v", i, bit, err)
			}
		}
	}
	for n := range good {
		if _, err := ParseFingerprint(good[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	if _, err := ParseFingerprint(append(bytes.Clone(good), 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("one byte more: %v", err)
	}
}

// TestFingerprintLies has a right CRC over fields that make no sense.
func TestFingerprintLies(t *testing.T) {
	for what, change := range map[string]func([]byte){
		"version 0":      func(b []byte) { b[8] = 0 },
		"longer name":    func(b []byte) { b[10]++ },
		"shorter name":   func(b []byte) { b[10]-- },
		"length of 2^63": func(b []byte) { b[27] = 0x80 },
		"unclean name":   func(b []byte) { b[60] = 7 },
	} {
		b := mustAppend(t, testFingerprint())
		change(b)
		if f, err := ParseFingerprint(reseal(b)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, %v", what, f, err)
		}
	}
	if _, err := ParseFingerprint(reseal([]byte("WALDENFP\x01\x00\x00\x00\x00\x00"))); !errors.Is(err, ErrCorrupt) {
		t.Errorf("nothing but the frame: %v", err)
	}
}

func TestFingerprintOfLaterVersion(t *testing.T) {
	later := []byte("WALDENFP\x02\x00anything of any length")
	_, err := ParseFingerprint(reseal(append(later, 0, 0, 0, 0)))
	if !errors.Is(err, ErrNewer) || errors.Is(err, ErrCorrupt) {
		t.Errorf("intact: %v, want ErrNewer", err)
	}
	if !strings.Contains(err.Error(), "made by a newer walden") || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("message: %v", err)
	}
	if _, err := ParseFingerprint(append(later, 0, 0, 0, 0)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("damaged: %v, want ErrCorrupt", err)
	}
}

func TestFingerprintSame(t *testing.T) {
	a := testFingerprint()
	b := a
	b.Version = 2
	if !a.Same(b) {
		t.Error("the version counts")
	}
	for what, change := range map[string]func(*Fingerprint){
		"name":              func(f *Fingerprint) { f.Name += "x" },
		"system identifier": func(f *Fingerprint) { f.SystemID++ },
		"size":              func(f *Fingerprint) { f.Size++ },
		"hash":              func(f *Fingerprint) { f.SHA256[31]++ },
	} {
		b := a
		change(&b)
		if a.Same(b) {
			t.Errorf("%s does not count", what)
		}
		if a.String() == b.String() {
			t.Errorf("messages do not show the %s", what)
		}
	}
}

func FuzzParseFingerprint(f *testing.F) {
	f.Add(mustAppend(f, testFingerprint()))
	f.Fuzz(func(t *testing.T, b []byte) {
		// The CRC would keep the fuzzer from everything behind it.
		if len(b) >= 4 {
			b = reseal(b)
		}
		fp, err := ParseFingerprint(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		if again, err := fp.AppendBinary(nil); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("reads %x, writes %x, %v", b, again, err)
		}
	})
}
