//go:build !linux

package durable

import (
	"io/fs"
	"path/filepath"
)

// SyncTree makes everything below root durable, content and names, and root's
// own name. What lies behind symbolic links needs a call of its own.
func SyncTree(root string) error {
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && !entry.Type().IsRegular() {
			return nil
		}
		return syncPath(path)
	})
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(filepath.Clean(root)))
}
