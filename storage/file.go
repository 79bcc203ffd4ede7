package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

var _ Store = (*fileStore)(nil)

// A fileStore keeps each object in a file of its own below root. It never
// creates root: a disk that isn't mounted must not look like an empty
// repository.
//
// Names that begin with a dot are not objects: temporary files of ours, and
// what file systems put there, such as snapshots.
type fileStore struct {
	root string

	mu     sync.Mutex
	synced map[string]bool // directories whose own name is known to be durable
	swept  map[string]bool // directories that were looked through for stale temporary files
}

func newFileStore(root string) *fileStore {
	return &fileStore{root: root, synced: make(map[string]bool), swept: make(map[string]bool)}
}

func (s *fileStore) path(key string) string {
	return filepath.Join(s.root, filepath.FromSlash(key))
}

func (s *fileStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(key, off); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(key))
	if err != nil {
		return nil, s.classify(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, s.classify(err)
	}
	left := max(info.Size()-off, 0)
	if n >= 0 {
		left = min(left, n)
	}
	return &fileBody{ctx: ctx, store: s, file: f, off: off, left: left}, nil
}

// A fileBody delivers the bytes that the file had when it was opened, or an
// error.
type fileBody struct {
	ctx   context.Context // of the Get that made it
	store *fileStore
	file  *os.File
	off   int64
	left  int64
}

func (b *fileBody) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.file.ReadAt(p[:min(int64(len(p)), b.left)], b.off)
	b.off += int64(n)
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, fmt.Errorf("%w: the file has become shorter while it was read", ErrUnavailable)
	case err != nil:
		return n, b.store.classify(err)
	}
	return n, nil
}

func (b *fileBody) Close() error { return b.file.Close() }

func (b *fileBody) promised() int64 { return b.left }

func (s *fileStore) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	info, err := os.Stat(s.path(key))
	if err == nil && !info.Mode().IsRegular() {
		err = ErrNotExist
	}
	if err != nil {
		return Info{}, s.classify(err)
	}
	return Info{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil
}

func (s *fileStore) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	emptied := make(map[string]bool)
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir, err := s.remove(key)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		emptied[dir] = true
	}
	for dir := range emptied {
		if err := s.prune(dir); err != nil {
			return s.classify(err)
		}
	}
	return nil
}

// remove deletes the object's file, if it is there, and returns its directory.
func (s *fileStore) remove(key string) (dir string, err error) {
	path := s.path(key)
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() {
		err = os.Remove(path)
	}
	if err = s.classify(err); errors.Is(err, ErrNotExist) {
		err = nil
	}
	return filepath.Dir(path), err
}

// prune makes removals from dir durable, and removes dir and its parents as
// far as they are empty. A Create that runs into that makes them again.
func (s *fileStore) prune(dir string) error {
	for ; dir != s.root; dir = filepath.Dir(dir) {
		s.forget(dir)
		err := syscall.Rmdir(dir)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			continue
		case errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.EBUSY) ||
			errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrPermission):
			return syncExisting(dir)
		default:
			return fmt.Errorf("rmdir %s: %w", dir, err)
		}
	}
	return syncExisting(s.root)
}

// classify turns an error of the operating system into one with a sentinel.
// Absence is conclusive only while root is there, and every directory that was
// moved to another disk and left a symbolic link.
func (s *fileStore) classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, ErrNotExist):
		if reason := s.checkPath(err); reason != nil {
			return reason
		}
		return ErrNotExist
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("a name in the key is too long for the file system: %w", err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// checkPath tells why the absence that err reports is not conclusive, if so.
func (s *fileStore) checkPath(err error) error {
	if rootErr := s.checkRoot(); rootErr != nil {
		return rootErr
	}
	var pathErr *fs.PathError
	if !errors.As(err, &pathErr) {
		return nil
	}
	for path := pathErr.Path; len(path) > len(s.root); path = filepath.Dir(path) {
		if _, err := os.Readlink(path); err != nil {
			continue
		}
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return errBrokenLink(path)
		}
	}
	return nil
}

func errBrokenLink(path string) error {
	return fmt.Errorf("%w: the symbolic link %s leads nowhere: mount the disk that it leads to", ErrConfig, path)
}

// checkRoot tells why there is no repository to look into, if so.
func (s *fileStore) checkRoot() error {
	info, err := os.Stat(s.root)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil || errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %s is not a directory", ErrConfig, s.root)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: directory %s does not exist: create it, or mount the disk that holds it", ErrConfig, s.root)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
}

// isHidden reports whether a name in a directory is none of the objects'.
func isHidden(name string) bool { return strings.HasPrefix(name, ".") }
