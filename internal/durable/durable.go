// Package durable makes changes to a file system survive a power loss.
//
// A file's content is safe once the file was synced; its name is safe once the
// directory that holds the name was. Every function here returns nil only when
// both hold for what it promises.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Rename publishes tmp under the name dst, replacing what was there. When it
// returns nil, dst holds tmp's content even after a power loss; a reader of
// dst sees the old file or the new one whole, never a part. Both names must be
// on one file system.
func Rename(tmp, dst string) error {
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dst); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(dst))
}

// SyncDir makes the names in dir durable: files created, renamed and removed.
func SyncDir(dir string) error { return syncPath(dir) }

// MkdirAll creates dir and the parents that it lacks, with perm before the
// umask, and makes the names of what it created durable. A directory that
// exists is left as it is.
func MkdirAll(dir string, perm fs.FileMode) error {
	dir = filepath.Clean(dir)
	if isDir(dir) {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, perm); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, perm); err != nil && !isDir(dir) {
		return err
	}
	return SyncDir(parent)
}

// isDir follows symbolic links.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func syncPath(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return f.Sync()
}
