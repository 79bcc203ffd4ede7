package codec

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// FingerprintVersion is the format version that this package writes.
const FingerprintVersion = 1

const (
	fingerprintMagic = "WALDENFP"

	// fingerprintFixed is the length of a fingerprint without its name.
	fingerprintFixed = 64

	// maxName bounds the name, and so keeps every fingerprint within the
	// first 4 KiB of an object, in base64 too.
	maxName = 255
)

// Fingerprint says what an object holds: the name, the cluster, and the length
// and hash of the plaintext. It decides whether two objects are the same
// without fetching, decrypting or decompressing either.
//
// Its binary form, all integers little endian, n the length of the name:
//
//	offset  bytes  content
//	0       8      magic "WALDENFP"
//	8       2      format version, 1
//	10      2      n, 1 to 255
//	12      8      system identifier
//	20      8      length of the plaintext in bytes, below 2^63
//	28      32     SHA-256 of the plaintext
//	60      n      name, printable ASCII without spaces
//	60+n    4      CRC-32C of everything before
//
// The magic, the version and the CRC-32C in the last four bytes stay where they
// are in every later version, so that a newer format is told apart from damage.
//
// A fingerprint is not secret: it stands in clear beside encrypted content, and
// confirms a guess of the whole plaintext to whoever can read the object.
type Fingerprint struct {
	Version  int
	Name     string
	SystemID uint64
	Size     int64
	SHA256   [32]byte
}

var _ encoding.BinaryAppender = Fingerprint{}

// AppendBinary appends the binary form to b. It fails for a version other than
// FingerprintVersion, for a negative size, and for a name that is empty, longer
// than 255 bytes, or not printable ASCII without spaces.
func (f Fingerprint) AppendBinary(b []byte) ([]byte, error) {
	if err := f.validate(); err != nil {
		return b, fmt.Errorf("write fingerprint: %w", err)
	}
	start := len(b)
	b = append(b, fingerprintMagic...)
	b = binary.LittleEndian.AppendUint16(b, uint16(f.Version))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(f.Name)))
	b = binary.LittleEndian.AppendUint64(b, f.SystemID)
	b = binary.LittleEndian.AppendUint64(b, uint64(f.Size))
	b = append(b, f.SHA256[:]...)
	b = append(b, f.Name...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli())), nil
}

// ParseFingerprint reads the binary form, which must fill b exactly. It returns
// ErrNewer for an intact fingerprint of a later version, and ErrCorrupt for
// anything else that AppendBinary does not write.
func ParseFingerprint(b []byte) (Fingerprint, error) {
	if err := checkFingerprint(b); err != nil {
		return Fingerprint{}, fmt.Errorf("read fingerprint: %w", err)
	}
	f := Fingerprint{
		Version:  FingerprintVersion,
		SystemID: binary.LittleEndian.Uint64(b[12:]),
		SHA256:   [32]byte(b[28:60]),
		Name:     string(b[60 : len(b)-4]),
	}
	size := binary.LittleEndian.Uint64(b[20:])
	if size > math.MaxInt64 {
		return Fingerprint{}, fmt.Errorf("read fingerprint: %w: length %d", ErrCorrupt, size)
	}
	f.Size = int64(size)
	if err := f.validate(); err != nil {
		return Fingerprint{}, fmt.Errorf("read fingerprint: %w: %w", ErrCorrupt, err)
	}
	return f, nil
}

// checkFingerprint checks what surrounds the fields: magic, CRC, version, and
// the length of the name.
func checkFingerprint(b []byte) error {
	const smallest = len(fingerprintMagic) + 2 + 4
	if len(b) < smallest || string(b[:len(fingerprintMagic)]) != fingerprintMagic {
		return fmt.Errorf("%w: no fingerprint", ErrCorrupt)
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if got := crc32.Checksum(body, castagnoli()); got != sum {
		return fmt.Errorf("%w: CRC-32C is %08x, should be %08x", ErrCorrupt, got, sum)
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v > FingerprintVersion {
		return fmt.Errorf("%w: format version %d, this one reads up to %d", ErrNewer, v, FingerprintVersion)
	} else if v != FingerprintVersion {
		return fmt.Errorf("%w: format version %d", ErrCorrupt, v)
	}
	if len(b) < fingerprintFixed {
		return fmt.Errorf("%w: %d bytes are too few", ErrCorrupt, len(b))
	}
	if n := int(binary.LittleEndian.Uint16(b[10:])); len(b) != fingerprintFixed+n {
		return fmt.Errorf("%w: %d bytes with a name of %d", ErrCorrupt, len(b), n)
	}
	return nil
}

func (f Fingerprint) validate() error {
	if f.Version != FingerprintVersion {
		return fmt.Errorf("format version %d", f.Version)
	}
	if f.Size < 0 {
		return fmt.Errorf("length %d", f.Size)
	}
	if len(f.Name) == 0 || len(f.Name) > maxName {
		return fmt.Errorf("name of %d bytes: 1 to %d are possible", len(f.Name), maxName)
	}
	for i := range len(f.Name) {
		if c := f.Name[i]; c <= ' ' || c > '~' {
			return fmt.Errorf("name %q is not printable ASCII without spaces", f.Name)
		}
	}
	return nil
}

// Same reports whether both describe the same file: equal name, system
// identifier, length and hash. The format version may differ.
func (f Fingerprint) Same(other Fingerprint) bool {
	f.Version = other.Version
	return f == other
}

// String shows the fingerprint for messages, with all that Same compares.
func (f Fingerprint) String() string {
	return fmt.Sprintf("%s, %d bytes, sha256 %x, system identifier %d", f.Name, f.Size, f.SHA256, f.SystemID)
}

// castagnoli returns the table of CRC-32C, which the library makes only once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
