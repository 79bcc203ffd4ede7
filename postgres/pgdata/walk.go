package pgdata

import (
	"io/fs"
	"iter"
	"time"
)

// Type is what an Entry is.
type Type int

const (
	File Type = iota + 1
	Dir
	Symlink
)

// Entry is a file, directory or symbolic link that belongs in a base backup.
type Entry struct {
	Path    string // with slashes, relative to PGDATA; tablespaces are at pg_tblspc/<oid>/...
	Source  string // absolute path to open
	Type    Type
	Mode    fs.FileMode // permission bits only
	Size    int64       // of a File, in bytes, when it was seen; a running server changes it
	ModTime time.Time
	Link    string // of a Symlink: its target
}

// Walk yields what a base backup of the cluster copies.
func Walk(pgdata string, ctl Control) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) { yield(Entry{}, ErrNoCluster) }
}
