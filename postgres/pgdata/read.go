package pgdata

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// readSmall reads a file whole, or its first limit bytes if it has more.
func readSmall(path string, limit int64) (b []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err = io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}
