package walspool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxFile bounds what ReadFile takes into memory.
const maxFile = 64 << 10

// WriteFile gives the file at path, which is relative to the spool and divided by
// slashes, that content, replacing what is there. Directories are made as needed.
// It returns nil only when the file survives a power loss; nobody ever sees a
// part of it.
func (s *Spool) WriteFile(path string, content []byte) error {
	dir, err := s.subdirectory(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	t, err := s.Temp()
	if err != nil {
		return err
	}
	if _, err := t.Write(content); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), t.Discard())
	}
	return t.Deliver(filepath.Join(dir, filepath.Base(path)))
}

// subdirectory makes the directory of a file below the spool. A symbolic link in
// its way is an error: root must not be led elsewhere.
func (s *Spool) subdirectory(path string) (string, error) {
	dir := s.dir
	parts := strings.Split(path, "/")
	for _, part := range parts[:len(parts)-1] {
		dir = filepath.Join(dir, part)
		if err := create(dir); err != nil {
			return "", err
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() {
			return "", errors.Join(fmt.Errorf("%s is not a directory", dir), err)
		}
	}
	return dir, nil
}

// ReadFile returns what WriteFile wrote: fs.ErrNotExist where there is nothing.
// What is no regular file or longer than 64 KiB is an error.
func (s *Spool) ReadFile(path string) (content []byte, err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, path), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	content, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s is longer than %d bytes", f.Name(), maxFile)
	}
	return content, err
}

// RemoveFile removes a file that WriteFile wrote. That there is none is no error.
// A power loss may bring it back.
func (s *Spool) RemoveFile(path string) error {
	err := os.Remove(filepath.Join(s.dir, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Files returns the names in a directory below the spool, ascending; none where
// there is no such directory.
func (s *Spool) Files(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list spool: %w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Probe reports whether a small file can be written at this moment.
func (s *Spool) Probe() error {
	t, err := s.Temp()
	if err != nil {
		return err
	}
	_, err = t.Write(make([]byte, 4096))
	return errors.Join(err, t.Discard())
}
