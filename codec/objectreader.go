package codec

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
)

// ObjectReader reads the content of an object. It reports io.EOF only after it
// has proven that the content has the length and SHA-256 of the fingerprint and
// that nothing follows it. Bytes that it returned before are not proven: a
// caller that must not use damaged content has to see io.EOF first.
//
// Errors are ErrCorrupt for damage, or what the source failed with. They stay.
type ObjectReader struct {
	fp    Fingerprint
	src   *source
	frame *frameReader
	hash  hash.Hash
	size  int64
	err   error
}

var _ io.Reader = (*ObjectReader)(nil)

// NewObjectReader reads the head of an object, which its first bytes tell to be
// encrypted or not. It returns ErrNoIdentity when ids is empty but needed,
// ErrWrongIdentity when none of them fits, ErrNewer for a later format version,
// and ErrCorrupt for what is not an object or carries two different
// fingerprints.
//
// It works in the caller's goroutine and needs at most 20 MB, whatever the
// object says.
func NewObjectReader(r io.Reader, ids []Identity) (*ObjectReader, error) {
	src, stored := newSource(r)
	o, err := openObject(src, stored, ids)
	if err != nil {
		return nil, src.explain("read object", err)
	}
	return o, nil
}

func openObject(src *source, stored *bufio.Reader, ids []Identity) (*ObjectReader, error) {
	head, err := stored.Peek(FingerprintHead)
	if err != nil && err != io.EOF {
		return nil, err
	}
	outer, err := ReadFingerprint(head)
	if err != nil {
		return nil, err
	}
	plain, encrypted, err := newDecryptReader(src, stored, ids)
	if err != nil {
		return nil, err
	}
	payload := stored
	if encrypted {
		payload = bufio.NewReaderSize(plain, readBuffer)
	}
	inner, err := takeFingerprint(payload)
	if err != nil {
		return nil, err
	}
	if inner != outer {
		return nil, fmt.Errorf("%w: the header says %v; the payload says %v", ErrCorrupt, outer, inner)
	}
	frame, err := newFrameReader(payload)
	if err != nil {
		return nil, err
	}
	return &ObjectReader{fp: outer, src: src, frame: frame, hash: sha256.New()}, nil
}

// takeFingerprint reads the skippable frame that starts a payload.
func takeFingerprint(r *bufio.Reader) (Fingerprint, error) {
	head, err := r.Peek(skippableHeader)
	if err != nil {
		return Fingerprint{}, unexpected(err)
	}
	size := skippableHeader + int64(binary.LittleEndian.Uint32(head[4:]))
	if size > FingerprintHead {
		return Fingerprint{}, errors.New("it does not start like an object")
	}
	head, err = r.Peek(int(size))
	if err != nil {
		return Fingerprint{}, unexpected(err)
	}
	fp, err := ReadFingerprint(head)
	if err != nil {
		return Fingerprint{}, err
	}
	_, err = r.Discard(int(size))
	return fp, err
}

// Fingerprint returns what the object says about its content.
func (o *ObjectReader) Fingerprint() Fingerprint { return o.fp }

// Read returns the next bytes of the content; see ObjectReader for what its
// errors promise.
func (o *ObjectReader) Read(p []byte) (int, error) {
	if o.err != nil || len(p) == 0 {
		return 0, o.err
	}
	n, err := o.frame.Read(p)
	_, _ = o.hash.Write(p[:n]) // a hash never fails
	o.size += int64(n)
	switch {
	case o.size > o.fp.Size:
		err = errors.New("more content than its fingerprint says")
	case err == io.EOF:
		err = o.verify()
	}
	if err != nil && err != io.EOF {
		err = o.src.explain("read "+o.fp.Name, err)
	}
	o.err = err
	return n, err
}

// verify returns io.EOF if the content was what the fingerprint says.
func (o *ObjectReader) verify() error {
	if o.size != o.fp.Size {
		return fmt.Errorf("content has %d bytes, should have %d", o.size, o.fp.Size)
	}
	if got := [32]byte(o.hash.Sum(nil)); got != o.fp.SHA256 {
		return fmt.Errorf("content has sha256 %x, should have %x", got, o.fp.SHA256)
	}
	return io.EOF
}
