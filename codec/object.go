package codec

import (
	"fmt"
	"io"
)

// ObjectOptions says how to store a file. The zero value compresses with
// LevelFastest and does not encrypt.
type ObjectOptions struct {
	Level      Level
	Recipients []Recipient // public keys, each of which can decrypt
}

// EncodeObject writes one file, named name, of the cluster systemID, as an
// object: its fingerprint, then its content as a zstd frame, encrypted to the
// recipients if there are any. What was written is an object only when there
// was no error.
//
// The fingerprint precedes the content, so this is the second pass over a file:
// sum is what SumReader found in the first. When the length or CRC-32C differ
// now, the error is ErrChanged.
//
// It works in the caller's goroutine, with 2 MB of memory for LevelFastest, 3 MB
// for LevelDefault and 6 MB for LevelBetter.
func EncodeObject(w io.Writer, name string, systemID uint64, sum Sum, r io.Reader, opts ObjectOptions) (Fingerprint, error) {
	fp := Fingerprint{Version: FingerprintVersion, Name: name, SystemID: systemID, Size: sum.Size, SHA256: sum.SHA256}
	if err := encodeObject(w, fp, sum, r, opts); err != nil {
		return Fingerprint{}, fmt.Errorf("encode %s: %w", name, err)
	}
	return fp, nil
}

func encodeObject(w io.Writer, fp Fingerprint, sum Sum, r io.Reader, opts ObjectOptions) error {
	head, err := fp.appendFrame(nil)
	if err != nil {
		return err
	}
	recipients, err := stamp(fp, opts.Recipients)
	if err != nil {
		return err
	}
	sealed, err := NewEncryptWriter(w, recipients)
	if err != nil {
		return err
	}
	if _, err := sealed.Write(head); err != nil {
		return err
	}
	if err := compress(sealed, sum, r, opts.Level); err != nil {
		return err
	}
	return sealed.Close()
}

// compress writes all of r as one zstd frame, if it is what sum says.
func compress(w io.Writer, sum Sum, r io.Reader, level Level) error {
	frame, err := newCompressor(w, level, sum.Size)
	if err != nil {
		return err
	}
	// One byte more than expected is enough to know that the file grew.
	content := newCheckedReader(io.LimitReader(r, sum.Size+1))
	if _, err := io.CopyBuffer(onlyWriter{frame}, content, make([]byte, copyBuffer)); err != nil {
		return err
	}
	switch {
	case content.size > sum.Size:
		return fmt.Errorf("%w: it had %d bytes, now it has more", ErrChanged, sum.Size)
	case content.size < sum.Size:
		return fmt.Errorf("%w: it had %d bytes, now %d", ErrChanged, sum.Size, content.size)
	case content.crc != sum.CRC32C:
		return fmt.Errorf("%w: its CRC-32C was %08x, now %08x", ErrChanged, sum.CRC32C, content.crc)
	}
	return frame.Close()
}

// onlyWriter hides a ReadFrom.
type onlyWriter struct{ io.Writer }
