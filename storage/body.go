package storage

import (
	"errors"
	"fmt"
	"io"
	"sync"
)

// copyExactly copies a body that must have size bytes, no less and no more.
func copyExactly(dst io.Writer, body io.Reader, size int64) error {
	n, err := io.Copy(dst, io.LimitReader(body, size))
	if err != nil {
		return err
	}
	if n < size {
		return fmt.Errorf("the body has %d bytes, not the %d promised", n, size)
	}
	switch _, err := io.ReadFull(body, make([]byte, 1)); {
	case err == io.EOF:
		return nil
	case err != nil:
		return fmt.Errorf("read body: %w", err)
	default:
		return fmt.Errorf("the body has more than the %d bytes promised", size)
	}
}

// A lentBody is a body that can be taken back: http.Transport may still read
// the body of a request that has already failed, while its owner rewinds it
// for the next try.
type lentBody struct {
	mu    sync.Mutex
	body  io.ReadSeeker
	err   error // the first that the body itself gave
	taken bool
}

var errTakenBack = errors.New("the request is over")

func (l *lentBody) Read(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return 0, errTakenBack
	}
	n, err := l.body.Read(p)
	if err != nil && err != io.EOF {
		l.err = err
	}
	return n, err
}

func (l *lentBody) Seek(offset int64, whence int) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.taken {
		return 0, errTakenBack
	}
	n, err := l.body.Seek(offset, whence)
	if err != nil {
		l.err = err
	}
	return n, err
}

// takeBack waits for a read that is under way and lets no more begin. It
// returns the error that the body gave, if it did.
func (l *lentBody) takeBack() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken = true
	return l.err
}
