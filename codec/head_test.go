package codec

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// TestReadFingerprintNeedsOnlyTheHead has long names and many recipients, and
// shows 4 KiB at most.
func TestReadFingerprintNeedsOnlyTheHead(t *testing.T) {
	var recipients []Recipient
	for range 40 {
		recipients = append(recipients, newKey(t).recipient)
	}
	content := noise(10_000)
	name := strings.Repeat("n", maxName)
	for _, to := range [][]Recipient{nil, recipients, {newHybridKey(t).recipient}} {
		var out bytes.Buffer
		want, err := EncodeObject(&out, name, testSystemID, sumOf(t, content), bytes.NewReader(content), ObjectOptions{Recipients: to})
		if err != nil {
			t.Fatal(err)
		}
		object := out.Bytes()
		if got, err := ReadFingerprint(object[:FingerprintHead]); err != nil || got != want {
			t.Errorf("from the head: %v, %v", got, err)
		}
		if got, err := ReadFingerprint(object); err != nil || got != want {
			t.Errorf("from all: %v, %v", got, err)
		}
		if _, err := ReadFingerprint(object[:100]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("from 100 bytes: %v", err)
		}
	}
}

// TestReadFingerprintOfEveryLength has stanza bodies that end at, before and
// behind the end of a line.
func TestReadFingerprintOfEveryLength(t *testing.T) {
	k := newKey(t)
	for n := 1; n <= maxName; n++ {
		fp := Fingerprint{Version: 1, Name: strings.Repeat("n", n)}
		object := forge(t, fp, nil, k.recipient)
		if got, err := ReadFingerprint(object); err != nil || got != fp {
			t.Fatalf("name of %d bytes: %v, %v", n, got, err)
		}
	}
}

func TestReadFingerprintRefusesMalformedStanzas(t *testing.T) {
	body := base64.RawStdEncoding.EncodeToString(mustAppend(t, testFingerprint()))
	lines := body[:64] + "\n" + body[64:] + "\n"
	if _, err := ReadFingerprint([]byte(ageIntro + "-> " + stanzaType + "\n" + lines)); err != nil {
		t.Fatalf("the right one: %v", err)
	}
	for what, stanzas := range map[string]string{
		"nothing":         "",
		"other type":      "-> X25519 abc\n" + lines,
		"an argument":     "-> " + stanzaType + " 1\n" + lines,
		"no end":          "-> " + stanzaType + "\n" + strings.TrimSuffix(lines, "\n"),
		"one long line":   "-> " + stanzaType + "\n" + body + "\n",
		"short lines":     "-> " + stanzaType + "\n" + body[:32] + "\n" + body[32:] + "\n",
		"carriage return": "-> " + stanzaType + "\n" + strings.ReplaceAll(lines, "\n", "\r\n"),
		"padding":         "-> " + stanzaType + "\n" + strings.TrimSuffix(lines, "\n") + "==\n",
		"no base64":       "-> " + stanzaType + "\n!!\n",
		"no body":         "-> " + stanzaType + "\n\n",
	} {
		if _, err := ReadFingerprint([]byte(ageIntro + stanzas)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzReadFingerprint(f *testing.F) {
	k := newKey(f)
	f.Add(encode(f, []byte("x"), ObjectOptions{}))
	f.Add(encode(f, []byte("x"), ObjectOptions{Recipients: []Recipient{k.recipient}}))
	f.Fuzz(func(t *testing.T, head []byte) {
		fp, err := ReadFingerprint(head)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) {
				t.Fatalf("error without a meaning: %v", err)
			}
			return
		}
		if _, err := fp.AppendBinary(nil); err != nil {
			t.Fatalf("reads what can't be written: %v", err)
		}
		if len(head) > FingerprintHead {
			if short, err := ReadFingerprint(head[:FingerprintHead]); err != nil || short != fp {
				t.Fatalf("looks further than %d bytes", FingerprintHead)
			}
		}
	})
}
