package codec

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"io"
)

// copyBuffer is how many bytes one read or write moves.
const copyBuffer = 128 << 10

// Sum is what a first pass over a file yields: its hash and length for the
// fingerprint, and a CRC-32C by which the second pass recognises the same
// content at a tenth of the hash's price.
type Sum struct {
	SHA256 [32]byte
	Size   int64
	CRC32C uint32
}

// SumReader reads r to its end.
func SumReader(r io.Reader) (Sum, error) {
	hash, check := sha256.New(), newCheckedReader(r)
	if _, err := io.CopyBuffer(hash, check, make([]byte, copyBuffer)); err != nil {
		return Sum{}, fmt.Errorf("read content: %w", err)
	}
	s := Sum{Size: check.size, CRC32C: check.crc}
	hash.Sum(s.SHA256[:0])
	return s, nil
}

// checkedReader observes the length and the CRC-32C of what passes.
type checkedReader struct {
	r     io.Reader
	table *crc32.Table
	size  int64
	crc   uint32
}

func newCheckedReader(r io.Reader) *checkedReader {
	return &checkedReader{r: r, table: castagnoli()}
}

func (c *checkedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.size += int64(n)
	c.crc = crc32.Update(c.crc, c.table, p[:n])
	return n, err
}
