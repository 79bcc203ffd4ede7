// Package walspool is a local directory that exposes only whole files. What is
// being written has a unique temporary name and a lock; it gets its final name by
// a rename after it was synced, and the directory is synced after that. What a
// killed process leaves behind is found by its missing lock and removed. What
// root creates belongs to the directory's owner, who must be able to go on with
// it. The package knows nothing of storage.
package walspool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"walden/internal/durable"
)

const (
	lockName   = "lock"
	tempPrefix = "tmp-"
	markPrefix = "mark-"
)

// Spool is an open spool directory. It is safe for use by several goroutines and
// by several processes at once.
type Spool struct {
	dir string
}

// Open opens the spool in dir, which it creates when needed, and removes what
// killed processes left in it.
func Open(dir string) (*Spool, error) {
	if err := create(dir); err != nil {
		return nil, fmt.Errorf("create spool: %w", err)
	}
	s := &Spool{dir: dir}
	if err := s.sweep(); err != nil {
		return nil, fmt.Errorf("sweep spool %s: %w", dir, err)
	}
	return s, nil
}

// create makes the directory where there is none.
func create(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	inherit(dir, func(uid, gid int) error { return os.Lchown(dir, uid, gid) })
	return nil
}

// inherit gives what root has created to the owner of the directory that it lies
// in. A file system that can't do that is no reason to fail.
func inherit(path string, chown func(uid, gid int) error) {
	var parent unix.Stat_t
	if os.Geteuid() == 0 && unix.Stat(filepath.Dir(path), &parent) == nil {
		_ = chown(int(parent.Uid), int(parent.Gid))
	}
}

// Dir returns the directory of the spool.
func (s *Spool) Dir() string { return s.dir }

// lock takes the spool's lock for the moment in which a temporary file exists
// but has no lock of its own yet (shared), or in which such files are judged
// (exclusive). Closing the file releases it.
func (s *Spool) lock(how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	inherit(f.Name(), f.Chown)
	if err := flock(f, how); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// sweep removes temporary files that no living process holds. Somebody who is
// creating or sweeping at this moment does no harm: then the next one sweeps.
func (s *Spool) sweep() error {
	l, err := s.lock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			err = errors.Join(err, removeDead(filepath.Join(s.dir, e.Name())))
		}
	}
	return errors.Join(err, l.Close())
}

func removeDead(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // somebody else's is theirs to remove
		return nil
	}
	if err != nil {
		return err
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case err == nil:
		err = os.Remove(path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	case errors.Is(err, unix.EWOULDBLOCK): // its writer lives
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Temp is a file that is being written. End it with Deliver or Discard.
type Temp struct {
	f *os.File
}

// Temp creates an empty temporary file with a unique name.
func (s *Spool) Temp() (*Temp, error) { return s.temp(tempPrefix) }

func (s *Spool) temp(prefix string) (*Temp, error) {
	l, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("lock spool: %w", err)
	}
	defer l.Close() // only its lock matters
	f, err := os.CreateTemp(s.dir, prefix)
	if err != nil {
		return nil, fmt.Errorf("create spool file: %w", err)
	}
	inherit(f.Name(), f.Chown)
	if err := flock(f, unix.LOCK_EX); err != nil { // it waits no longer than somebody in Await looks
		return nil, errors.Join(fmt.Errorf("lock spool file: %w", err), os.Remove(f.Name()), f.Close())
	}
	return &Temp{f: f}, nil
}

// Write appends to the file.
func (t *Temp) Write(p []byte) (int, error) { return t.f.Write(p) }

// ReadAt reads what was written.
func (t *Temp) ReadAt(p []byte, off int64) (int, error) { return t.f.ReadAt(p, off) }

// Deliver gives the file its final name dst, replacing what is there, and
// returns only after that survives a power loss. When dst lies on another file
// system, a copy is made beside dst first, so that dst is never seen in part.
// On failure the file is discarded and dst is as it was; only where the directory
// of dst could not be synced, dst is the new file, whole, but may not survive.
func (t *Temp) Deliver(dst string) error {
	err := durable.Rename(t.f.Name(), dst)
	if errors.Is(err, unix.EXDEV) {
		err = copyBeside(t.f, dst)
	}
	// dst has all there is to have, or not: what goes wrong with the temporary
	// name changes nothing about that, and the next sweep finds it.
	discarded := t.Discard()
	if err != nil {
		return errors.Join(fmt.Errorf("hand over %s: %w", dst, err), discarded)
	}
	return nil
}

// copyBeside delivers a copy of from, which it reads from its beginning, to dst on
// another file system.
func copyBeside(from *os.File, dst string) error {
	beside, err := Open(filepath.Join(filepath.Dir(dst), Hidden))
	if err != nil {
		return err
	}
	to, err := beside.Temp()
	if err != nil {
		return err
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return errors.Join(err, to.Discard())
	}
	if _, err := to.f.ReadFrom(from); err != nil {
		return errors.Join(err, to.Discard())
	}
	return to.Deliver(dst)
}

// Discard removes the file.
func (t *Temp) Discard() error {
	err := os.Remove(t.f.Name())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, t.f.Close())
}

// Hidden is the name of the spool directory that walden keeps inside pg_wal when
// no other is given: on the same file system the hand-over is a rename.
const Hidden = ".walden"

// Mark notes a fact under a name, durably.
func (s *Spool) Mark(name string) error {
	t, err := s.Temp()
	if err != nil {
		return err
	}
	return t.Deliver(s.markPath(name))
}

// Marked reports whether the fact was noted within the time span life before
// now. Facts age: what a mark stands for may have been undone elsewhere.
func (s *Spool) Marked(name string, life time.Duration) bool {
	info, err := os.Stat(s.markPath(name))
	if err != nil {
		return false
	}
	age := time.Since(info.ModTime())
	return age < life && age > -life // a clock that was wrong must not make it eternal
}

func (s *Spool) markPath(name string) string { return filepath.Join(s.dir, markPrefix+name) }
