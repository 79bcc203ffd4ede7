package walspool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"walden/internal/durable"
)

// ErrUnfit means that a file in the spool did not pass the check of whoever wanted
// it. It was removed.
var ErrUnfit = errors.New("unfit file in the spool")

// Whole returns the names of the whole files in the spool's own directory,
// ascending.
func (s *Spool) Whole() ([]string, error) {
	all, err := s.Files("")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, name := range all {
		if !isOwn(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// isOwn tells the spool's own files from those that it keeps.
func isOwn(name string) bool {
	if name == lockName {
		return true
	}
	for _, prefix := range []string{tempPrefix, markPrefix, holdPrefix, hintPrefix} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// TempFor is Temp for what shall become the spool's file called name, so that
// others see that somebody is at it: see Await. End it with Keep or Discard.
func (s *Spool) TempFor(name string) (*Temp, error) { return s.temp(tempPrefix + name + "-") }

// Keep makes the file the spool's file called name, as Deliver does.
func (s *Spool) Keep(t *Temp, name string) error { return t.Deliver(filepath.Join(s.dir, name)) }

// Take moves the spool's file called name to dst, replacing what is there, when
// check finds nothing wrong with it; else the file is removed, and the error is
// ErrUnfit. It returns nil only after dst survives a power loss, and like Deliver
// it makes a copy beside dst first where dst lies on another file system. Where
// there is no such file, which somebody else may have taken a moment ago, the
// error is fs.ErrNotExist. On failure dst is as it was.
func (s *Spool) Take(name, dst string, check func(r io.ReaderAt, size int64) error) (err error) {
	path := filepath.Join(s.dir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	if err := fit(f, check); err != nil {
		return errors.Join(fmt.Errorf("%s: %w: %w", path, ErrUnfit, err), s.RemoveFile(name))
	}
	err = durable.Rename(path, dst)
	if errors.Is(err, unix.EXDEV) {
		if err = copyBeside(f, dst); err == nil {
			_ = s.RemoveFile(name) // what stays is only in the way
		}
	}
	if err != nil {
		return fmt.Errorf("hand over %s: %w", dst, err)
	}
	return nil
}

func fit(f *os.File, check func(io.ReaderAt, int64) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	return check(f, info.Size())
}

// pollTemp is how often Await looks.
const pollTemp = 2 * time.Millisecond

// Await waits while a living process writes the spool's file called name. It
// reports whether the file may be there now. It gives up when nothing was written
// for the time patience.
func (s *Spool) Await(ctx context.Context, name string, patience time.Duration) bool {
	tick := time.NewTicker(pollTemp)
	defer tick.Stop()
	waited, last, since := false, int64(-1), time.Now()
	for {
		size, writing := s.written(name)
		if !writing {
			return waited
		}
		waited = true
		if size != last {
			last, since = size, time.Now()
		}
		if time.Since(since) >= patience {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// written returns how much living processes have written for a name.
func (s *Spool) written(name string) (size int64, writing bool) {
	paths, err := filepath.Glob(filepath.Join(globQuote(s.dir), tempPrefix+name+"-*"))
	if err != nil {
		return 0, false
	}
	for _, path := range paths {
		if n, alive := heldSize(path); alive {
			size, writing = size+n, true
		}
	}
	return size, writing
}

// globQuote keeps Glob from finding patterns in a path.
func globQuote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// heldSize returns the length of a file on which somebody has a lock. It asks for
// a lock for a moment, which makes others wait or, see Hold, take it for held.
func heldSize(path string) (int64, bool) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, false
	}
	defer f.Close() // its lock goes with it
	if err := flock(f, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return 0, false
	}
	info, err := f.Stat()
	if err != nil {
		return 0, false
	}
	return info.Size(), true
}

const holdPrefix = "hold-"

// Hold takes a role that only one process at a time can have, until it is released
// or the process ends, however it does. ok is false when another one has it, or
// asks for it at this moment.
func (s *Spool) Hold(role string) (release io.Closer, ok bool, err error) {
	path := filepath.Join(s.dir, holdPrefix+role)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("take the role %s: %w", role, err)
	}
	inherit(path, f.Chown)
	switch err := flock(f, unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		return nil, false, f.Close()
	case err != nil:
		return nil, false, errors.Join(fmt.Errorf("take the role %s: %w", role, err), f.Close())
	}
	return f, true, nil
}

// Held reports whether a process has the role.
func (s *Spool) Held(role string) bool {
	_, held := heldSize(filepath.Join(s.dir, holdPrefix+role))
	return held
}

const hintPrefix = "hint-"

// Hint writes a short text for other processes. It is seen whole or not at all,
// but may be gone or damaged after a power loss, and costs no more than that:
// nothing may depend on it. An error means that there is no hint.
func (s *Spool) Hint(name, text string) error {
	t, err := s.Temp()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(t, text); err != nil {
		return errors.Join(err, t.Discard())
	}
	err = os.Rename(t.f.Name(), filepath.Join(s.dir, hintPrefix+name))
	return errors.Join(err, t.Discard())
}

// ReadHint returns the text of a hint, or "".
func (s *Spool) ReadHint(name string) string {
	text, err := s.ReadFile(hintPrefix + name)
	if err != nil {
		return ""
	}
	return string(text)
}

// Free returns how many bytes the spool's user may still write to its file system.
func (s *Spool) Free() (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(s.dir, &st); err != nil {
		return 0, fmt.Errorf("look for free space of %s: %w", s.dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
