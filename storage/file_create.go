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
	"syscall"
	"time"

	"walden/internal/durable"
)

const (
	filePerm = 0o640
	dirPerm  = 0o750

	tempPrefix = ".walden-tmp-"

	// staleAge is far beyond the time that writing one object takes.
	staleAge = 24 * time.Hour

	// A Delete may remove a directory that it has emptied under our hands.
	// It has to happen each time anew to matter.
	dirTries = 10
)

// errDirGone means that the directory vanished before the object was linked.
var errDirGone = errors.New("the directory may have been removed meanwhile")

// Create writes a file without a name, makes it durable, and links it: link(2)
// fails when the name exists, so there is one winner.
func (s *fileStore) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	path := s.path(key)
	var gone error
	for range dirTries {
		if err := s.mustBeFree(ctx, path); err != nil {
			return Info{}, err
		}
		info, err := s.createAt(ctx, path, body, size)
		if errors.Is(err, errDirGone) {
			s.forget(filepath.Dir(path))
			gone = err
			continue
		}
		if err != nil {
			// What prune can't do matters less than why we are here.
			_ = s.prune(filepath.Dir(path))
			return Info{}, err
		}
		return Info{Key: key, Size: size, ModTime: info.ModTime()}, nil
	}
	if errors.Is(gone, fs.ErrPermission) {
		return Info{}, fmt.Errorf("%w: %w", ErrDenied, gone)
	}
	return Info{}, fmt.Errorf("%w: %w", ErrUnavailable, gone)
}

// mustBeFree spares writing an object that couldn't be linked.
func (s *fileStore) mustBeFree(ctx context.Context, path string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%w: %s is a directory, where an object should be", ErrConfig, path)
	case err == nil:
		return ErrExist
	case errors.Is(err, syscall.ENOTDIR):
		if rootErr := s.checkRoot(); rootErr != nil {
			return rootErr
		}
		return fmt.Errorf("%w: a parent of %s is an object", ErrConfig, path)
	case errors.Is(err, fs.ErrNotExist):
		return s.checkRoot()
	default:
		return s.classify(err)
	}
}

func (s *fileStore) createAt(ctx context.Context, path string, body io.ReadSeeker, size int64) (info fs.FileInfo, err error) {
	dir := filepath.Dir(path)
	if err := s.makeDir(dir); err != nil {
		return nil, err
	}
	temp, err := s.openTemp(dir)
	if err != nil {
		return nil, s.orGone(dir, err)
	}
	defer func() {
		if discardErr := temp.discard(); err == nil {
			err = s.classify(discardErr)
		}
	}()
	if err := s.fill(ctx, temp.file, body, size); err != nil {
		return nil, err
	}
	info, err = temp.file.Stat()
	if err != nil {
		return nil, s.classify(err)
	}
	if err := temp.link(path); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil, ErrExist
		}
		return nil, s.orGone(dir, err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return nil, s.orGone(dir, err)
	}
	return info, nil
}

// fill writes the body and makes it durable.
func (s *fileStore) fill(ctx context.Context, f *os.File, body io.ReadSeeker, size int64) error {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("rewind body: %w", err)
	}
	if err := copyExactly(&storeWriter{ctx: ctx, store: s, file: f}, body, size); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return s.classify(err)
	}
	return nil
}

// A storeWriter classifies errors of the file, which are the store's; those
// of the body pass as they are.
type storeWriter struct {
	ctx   context.Context
	store *fileStore
	file  *os.File
}

func (w *storeWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.file.Write(p)
	return n, w.store.classify(err)
}

// orGone is for an error that may come from dir having been removed. ext4
// then says EPERM when somebody still has it open.
func (s *fileStore) orGone(dir string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if reason := s.checkPath(&fs.PathError{Path: dir}); reason != nil {
			return reason
		}
		return fmt.Errorf("%w: %w", errDirGone, err)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%w: %w", errDirGone, err)
	default:
		return s.classify(err)
	}
}

// makeDir creates dir and its parents below root, and makes their names
// durable. Those that exist are synced once too: another process may have
// made them a moment ago.
func (s *fileStore) makeDir(dir string) error {
	rel, err := filepath.Rel(s.root, dir)
	if err != nil || rel == "." {
		return err
	}
	at := s.root
	for name := range strings.SplitSeq(rel, string(filepath.Separator)) {
		parent := at
		at = filepath.Join(at, name)
		if s.isSynced(at) {
			continue
		}
		if err := os.Mkdir(at, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
			return s.orGone(parent, err)
		}
		if err := durable.SyncDir(parent); err != nil {
			return s.orGone(parent, err)
		}
		s.isFirst(s.synced, at)
	}
	return nil
}

func (s *fileStore) isSynced(dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced[dir]
}

// isFirst notes dir in seen, which s.mu guards, and reports whether it is new
// there.
func (s *fileStore) isFirst(seen map[string]bool, dir string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !seen[dir]
	seen[dir] = true
	return first
}

// forget makes the next Create look at dir and its parents again.
func (s *fileStore) forget(dir string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; len(dir) > len(s.root); dir = filepath.Dir(dir) {
		delete(s.synced, dir)
	}
}

// syncExisting is durable.SyncDir for a directory that may be gone, whose
// removal then is what its parent's sync makes durable.
func syncExisting(dir string) error {
	err := durable.SyncDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A tempFile holds an object until it is linked under its name.
type tempFile struct {
	file *os.File
	name string // "" when it has none
}

// openTemp prefers a file without a name, of which a crash leaves nothing.
func (s *fileStore) openTemp(dir string) (*tempFile, error) {
	f, err := openUnnamed(dir)
	if errors.Is(err, errors.ErrUnsupported) {
		if s.isFirst(s.swept, dir) {
			sweepTemps(dir)
		}
		return openNamed(dir)
	}
	if err != nil {
		return nil, err
	}
	return &tempFile{file: f}, nil
}

// openNamed is for file systems that know no other files.
func openNamed(dir string) (*tempFile, error) {
	f, err := os.CreateTemp(dir, tempPrefix+"*")
	if err != nil {
		return nil, err
	}
	temp := &tempFile{file: f, name: f.Name()}
	if err := f.Chmod(filePerm); err != nil {
		return nil, errors.Join(err, temp.discard())
	}
	return temp, nil
}

// link gives the file its name, which must be free.
func (t *tempFile) link(path string) error {
	if t.name == "" {
		return linkUnnamed(t.file, path)
	}
	return os.Link(t.name, path)
}

// discard ends the temporary file; one that was linked lives on under its
// name.
func (t *tempFile) discard() error {
	err := t.file.Close()
	if t.name != "" {
		err = errors.Join(err, os.Remove(t.name))
	}
	return err
}

// sweepTemps removes what crashed processes left behind. It is a kindness:
// errors don't matter, since nobody takes a hidden file for an object.
func sweepTemps(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), tempPrefix) {
			continue
		}
		if info, err := entry.Info(); err == nil && time.Since(info.ModTime()) > staleAge {
			_ = os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}
