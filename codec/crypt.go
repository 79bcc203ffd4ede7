package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"
)

// NewEncryptWriter encrypts a stream to all recipients as an age file. Without
// recipients it passes everything through. Close writes the last chunk and
// reports when that fails; without it the stream is incomplete. It does not
// close w.
func NewEncryptWriter(w io.Writer, recipients []Recipient) (io.WriteCloser, error) {
	if len(recipients) == 0 {
		return passWriter{w}, nil
	}
	enc, err := age.Encrypt(w, recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return enc, nil
}

type passWriter struct{ io.Writer }

func (passWriter) Close() error { return nil }

// stamped puts a stanza with the fingerprint in front of those of a recipient.
// It has the recipient's labels, by which age keeps incompatible ones apart.
type stamped struct {
	age.Recipient
	stanza *age.Stanza
}

var _ age.RecipientWithLabels = stamped{}

func (s stamped) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	stanzas, _, err := s.WrapWithLabels(fileKey)
	return stanzas, err
}

func (s stamped) WrapWithLabels(fileKey []byte) (stanzas []*age.Stanza, labels []string, err error) {
	if r, ok := s.Recipient.(age.RecipientWithLabels); ok {
		stanzas, labels, err = r.WrapWithLabels(fileKey)
	} else {
		stanzas, err = s.Recipient.Wrap(fileKey)
	}
	return append([]*age.Stanza{s.stanza}, stanzas...), labels, err
}

// stamp returns recipients that put f first in the age header.
func stamp(f Fingerprint, recipients []Recipient) ([]Recipient, error) {
	if len(recipients) == 0 {
		return nil, nil
	}
	stanza, err := f.stanza()
	if err != nil {
		return nil, err
	}
	first := stamped{Recipient: recipients[0], stanza: stanza}
	return append([]Recipient{first}, recipients[1:]...), nil
}

// NewDecryptReader decrypts an age file, which it knows by its first bytes;
// anything else passes through unchanged. An encrypted stream ends with io.EOF
// only when it is complete and nothing follows, otherwise with ErrCorrupt, or
// with what r failed with. It returns ErrNoIdentity when ids is empty but needed, and
// ErrWrongIdentity when none of them fits.
func NewDecryptReader(r io.Reader, ids []Identity) (io.Reader, error) {
	src, buffered := newSource(r)
	plain, _, err := newDecryptReader(src, buffered, ids)
	if err != nil {
		return nil, src.explain("decrypt", err)
	}
	return plain, nil
}

// newDecryptReader also tells whether the stream is encrypted. Errors of the
// constructor are raw, those of the reader explained.
func newDecryptReader(src *source, r *bufio.Reader, ids []Identity) (_ io.Reader, encrypted bool, _ error) {
	head, err := r.Peek(len(ageIntro))
	if err != nil && err != io.EOF {
		return nil, false, err
	}
	if !isEncrypted(head) {
		if len(head) > 0 && strings.HasPrefix(ageIntro, string(head)) {
			return nil, false, io.ErrUnexpectedEOF
		}
		return r, false, nil
	}
	if len(ids) == 0 {
		return nil, true, ErrNoIdentity
	}
	plain, err := age.Decrypt(r, ids...)
	if noMatch := (*age.NoIdentityMatchError)(nil); errors.As(err, &noMatch) {
		return nil, true, fmt.Errorf("%w: none of %d fits any of its %d recipients",
			ErrWrongIdentity, len(ids), countRecipients(noMatch.StanzaTypes))
	} else if err != nil {
		return nil, true, err
	}
	return &decryptReader{src: src, plain: plain}, true, nil
}

// countRecipients counts the stanzas of an age header that stand for a key.
func countRecipients(stanzas []string) int {
	n := 0
	for _, kind := range stanzas {
		if kind != stanzaType {
			n++
		}
	}
	return n
}

// decryptReader gives the errors of an age reader their meaning.
type decryptReader struct {
	src   *source
	plain io.Reader
}

func (d *decryptReader) Read(p []byte) (int, error) {
	n, err := d.plain.Read(p)
	if err != nil && err != io.EOF {
		err = d.src.explain("decrypt", err)
	}
	return n, err
}
