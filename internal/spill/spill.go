// Package spill buffers what must be sent with a known size and rewound for a
// retry: in memory while it is small, in an unlinked temporary file beyond that.
package spill

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// DefaultLimit is how many bytes stay in memory when Buffer.Limit is zero.
const DefaultLimit = 32 << 20

// Buffer collects what is written to it. The zero value is ready to use. It is
// not safe for concurrent use.
type Buffer struct {
	Limit int    // bytes to keep in memory; 0 means DefaultLimit
	Dir   string // where the file goes; "" means the system's directory for temporary files

	mem  bytes.Buffer
	file *os.File
	size int64
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	limit := b.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	if b.file == nil && b.mem.Len()+len(p) > limit {
		if err := b.spill(); err != nil {
			return 0, fmt.Errorf("buffer in a temporary file: %w", err)
		}
	}
	b.size += int64(len(p))
	if b.file == nil {
		return b.mem.Write(p)
	}
	return b.file.Write(p)
}

// spill moves what is in memory to a file that no name leads to, so that
// nothing is left behind however the process ends.
func (b *Buffer) spill() error {
	f, err := os.CreateTemp(b.Dir, "walden-")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	if _, err := b.mem.WriteTo(f); err != nil {
		return errors.Join(err, f.Close())
	}
	b.file, b.mem = f, bytes.Buffer{}
	return nil
}

// Size returns the number of bytes written.
func (b *Buffer) Size() int64 { return b.size }

// Reader returns what was written, from its start. Write must not be called
// while it is in use.
func (b *Buffer) Reader() io.ReadSeeker {
	if b.file == nil {
		return bytes.NewReader(b.mem.Bytes())
	}
	return io.NewSectionReader(b.file, 0, b.size)
}

// Close releases the memory or the file.
func (b *Buffer) Close() error {
	b.mem = bytes.Buffer{}
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}
