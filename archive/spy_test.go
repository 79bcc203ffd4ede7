package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"walden/storage"
)

// spy sees what becomes of every object that is created, and may stand in the way.
type spy struct {
	storage.Store
	before func(ctx context.Context, name string) error // of a create; nil: nothing
	after  func(name string)                            // of one that succeeded

	mu     sync.Mutex
	stored []string // in the order in which the store confirmed them
}

func (s *spy) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (storage.Info, error) {
	name := key[strings.LastIndexByte(key, '/')+1:]
	if s.before != nil {
		if err := s.before(ctx, name); err != nil {
			return storage.Info{}, err
		}
	}
	info, err := s.Store.Create(ctx, key, body, size)
	if err != nil {
		return info, err
	}
	if s.after != nil {
		s.after(name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stored = append(s.stored, name)
	return info, nil
}

func (s *spy) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.stored, name)
}

// ready writes a file to pg_wal, and says in archive_status that it is to be
// archived.
func (h *host) ready(t testing.TB, name string, content []byte) string {
	t.Helper()
	h.status(t, name+statusReady)
	return h.write(t, name, content)
}

func (h *host) status(t testing.TB, names ...string) {
	t.Helper()
	if err := os.MkdirAll(statusDir(h.pgWAL), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(statusDir(h.pgWAL), name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// archived is what PostgreSQL does after a success.
func (h *host) archived(t testing.TB, name string) {
	t.Helper()
	status := filepath.Join(statusDir(h.pgWAL), name)
	if err := os.Rename(status+statusReady, status+statusDone); err != nil {
		t.Fatal(err)
	}
}

// mustKeepStatus fails the test if archive_status is other than it was.
func (h *host) mustKeepStatus(t testing.TB, before []string) {
	t.Helper()
	if after := dirNames(t, statusDir(h.pgWAL)); !slices.Equal(before, after) {
		t.Errorf("archive_status holds %v, before %v", after, before)
	}
}

func dirNames(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (h *host) records() records {
	return records{spool: h.spool, repository: h.dir, systemID: h.repo.SystemID}
}

// recorded lists the files on record.
func (h *host) recorded(t testing.TB) []string {
	t.Helper()
	return dirNames(t, filepath.Join(h.spool.Dir(), h.records().dir()))
}

func (h *host) notes() notes {
	return notes{spool: h.spool, repository: h.dir, systemID: h.repo.SystemID}
}

func (h *host) aheadOptions(ahead int) AheadOptions {
	return AheadOptions{PushOptions: h.pushOptions(), Ahead: ahead}
}

// introduce stores a first segment, so that the spool knows the repository.
func (h *host) introduce(t *testing.T) {
	t.Helper()
	h.push(t, segmentName(1), segmentOf(t, segmentName(1), small, 1))
	ageMarks(t, h, 0) // the file system knows nothing of the time in a bubble
}

// segments makes segments from one number to another ready.
func (h *host) segments(t testing.TB, first, last int) (names []string) {
	t.Helper()
	for n := first; n <= last; n++ {
		names = append(names, segmentName(n))
		h.ready(t, segmentName(n), segmentOf(t, segmentName(n), small, uint64(n)))
	}
	return names
}

func segmentName(n int) string {
	return fileNameOf(n).String()
}
