package codec

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"filippo.io/age"
)

// FingerprintHead is how many bytes from the start of an object ReadFingerprint
// needs at most. An object may be shorter.
const FingerprintHead = 4096

const (
	// skippableMagic starts the skippable frame that holds a fingerprint. Of
	// the sixteen magic numbers, 0x184D2A50 (pzstd) and 0x184D2A5E (seekable
	// zstd) have other users.
	skippableMagic = 0x184D2A57

	// skippableHeader is the magic and the length of what follows.
	skippableHeader = 8

	// ageIntro is the first line of every age file.
	ageIntro = "age-encryption.org/v1\n"

	// stanzaType marks the fingerprint among the stanzas of an age header.
	// Tools that don't know a stanza skip it.
	stanzaType = "walden-fingerprint"

	// stanzaColumns is the length of all lines of a stanza but the last.
	stanzaColumns = 64
)

// ReadFingerprint finds the fingerprint in the first bytes of an object,
// encrypted or not, and needs no key. It looks at no more than FingerprintHead
// bytes. It returns ErrCorrupt when there is none, ErrNewer when it is of a
// later version.
//
// In an encrypted object it is authenticated by the age header, but only a
// holder of a key can tell: see ObjectReader.
func ReadFingerprint(head []byte) (Fingerprint, error) {
	head = head[:min(len(head), FingerprintHead)]
	if isEncrypted(head) {
		body, err := firstStanza(head)
		if err != nil {
			return Fingerprint{}, fmt.Errorf("read fingerprint: %w: %w", ErrCorrupt, err)
		}
		return ParseFingerprint(body)
	}
	body, err := skippableFrame(head)
	if err != nil {
		return Fingerprint{}, fmt.Errorf("read fingerprint: %w: %w", ErrCorrupt, err)
	}
	return ParseFingerprint(body)
}

// isEncrypted tells by its first bytes whether a stream is an age file.
func isEncrypted(head []byte) bool { return bytes.HasPrefix(head, []byte(ageIntro)) }

// appendFrame appends the skippable frame that starts an object.
func (f Fingerprint) appendFrame(b []byte) ([]byte, error) {
	body, err := f.AppendBinary(nil)
	if err != nil {
		return b, err
	}
	b = binary.LittleEndian.AppendUint32(b, skippableMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...), nil
}

// skippableFrame returns the content of the skippable frame at the start of b.
func skippableFrame(b []byte) ([]byte, error) {
	if len(b) < skippableHeader || binary.LittleEndian.Uint32(b) != skippableMagic {
		return nil, fmt.Errorf("it does not start like an object")
	}
	size := binary.LittleEndian.Uint32(b[4:])
	b = b[skippableHeader:]
	if uint64(size) > uint64(len(b)) {
		return nil, fmt.Errorf("it ends within the fingerprint")
	}
	return b[:size], nil
}

// stanza returns the fingerprint as a stanza of an age header.
func (f Fingerprint) stanza() (*age.Stanza, error) {
	body, err := f.AppendBinary(nil)
	if err != nil {
		return nil, err
	}
	return &age.Stanza{Type: stanzaType, Body: body}, nil
}

// firstStanza returns the body of the first stanza of an age header, which has
// to be a fingerprint. A body is base64 without padding in lines of 64 columns;
// a shorter line, which may be empty, ends it.
func firstStanza(head []byte) ([]byte, error) {
	text := string(head[len(ageIntro):])
	line, text, ok := strings.Cut(text, "\n")
	if !ok || line != "-> "+stanzaType {
		return nil, fmt.Errorf("an age file without a fingerprint")
	}
	var body []byte
	for {
		line, text, ok = strings.Cut(text, "\n")
		if !ok {
			return nil, fmt.Errorf("it ends within the fingerprint")
		}
		// The decoder skips carriage returns; the format knows none.
		if len(line) > stanzaColumns || strings.ContainsRune(line, '\r') {
			return nil, fmt.Errorf("malformed fingerprint stanza")
		}
		part, err := base64.RawStdEncoding.Strict().DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("malformed fingerprint stanza: %w", err)
		}
		body = append(body, part...)
		if len(line) < stanzaColumns {
			return body, nil
		}
	}
}
