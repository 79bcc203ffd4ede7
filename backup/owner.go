package backup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"walden/internal/durable"
)

// owner is the user that restored files are given to when root restores.
type owner struct{ uid, gid int }

// ownerFor finds out who shall own a restored data directory: whoever runs this,
// and for root the owner of the directory that is there. PostgreSQL doesn't run
// as root, so root alone can't restore into a directory of its own.
func ownerFor(dir string) (*owner, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	info, err := os.Stat(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil {
		if s, ok := info.Sys().(*syscall.Stat_t); ok && s.Uid != 0 {
			return &owner{uid: int(s.Uid), gid: int(s.Gid)}, nil
		}
	}
	return nil, fmt.Errorf("root restores only into an existing empty directory of the server's user, because PostgreSQL does not run as root: "+
		"run 'install -d -o postgres -g postgres -m 700 %s' first, or run this command as that user: %w", dir, ErrRefused)
}

// own gives path itself, not what it links to, to the owner.
func (o *owner) own(path string) error {
	if o == nil {
		return nil
	}
	return os.Lchown(path, o.uid, o.gid)
}

// makeDir creates a directory if it is missing, and the parents that it lacks.
// All of them are the owner's: the server has to reach it.
func (o *owner) makeDir(dir string) error {
	_, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := o.makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return o.own(dir)
	}
	return err
}

// replace writes a file under a temporary name and gives it its name: where that
// was a symbolic link, nothing is written to what it leads to.
func (o *owner) replace(path string, data []byte) error {
	tmp := path + ".walden"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close(), o.own(tmp)); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
