package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// readBuffer is what a reader of stored bytes buffers: it holds the head of an
// object, and spares the source small reads.
const readBuffer = 32 << 10

// source remembers the first error of a reader, so that damage can be told from
// a reader that failed, whatever libraries in between made of it.
type source struct {
	r   io.Reader
	err error
}

func newSource(r io.Reader) (*source, *bufio.Reader) {
	s := &source{r: r}
	return s, bufio.NewReaderSize(s, readBuffer)
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
	return n, err
}

// explain says what an error means that occurred while decoding: that the
// source failed, or else that its bytes are damaged. Errors that already have
// a meaning keep it.
func (s *source) explain(doing string, err error) error {
	switch {
	case s.err != nil:
		return fmt.Errorf("%s: %w", doing, s.err)
	case errors.Is(err, io.ErrNoProgress):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNewer),
		errors.Is(err, ErrNoIdentity), errors.Is(err, ErrWrongIdentity):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: %w: it ends early", doing, ErrCorrupt)
	default:
		return fmt.Errorf("%s: %w: %w", doing, ErrCorrupt, err)
	}
}
