// Package backup takes base backups and restores them.
//
// A backup is one logical tar stream of the data directory, cut into slices that
// are built and stored independently of each other, in parallel. Each slice is a
// run of zstd frames, so that any part of any file can be fetched alone, and all
// slices of a full backup one after the other are what `zstd -d | tar x` reads.
package backup

import (
	"errors"
	"runtime"
)

// SliceSize is the plaintext that one slice holds at most. Slices that compress
// badly hold less.
const SliceSize = 32 << 20

// manifestMemory is how much of a manifest is kept in memory: that of some ten
// thousand files.
const manifestMemory = 4 << 20

// What pg_backup_stop gives goes into these files of a backup.
const (
	labelPath = "backup_label"
	mapPath   = "tablespace_map"
)

var (
	// ErrRefused means that nothing was done because it would be wrong: another
	// cluster's server, a directory that is not empty, an incomplete backup.
	ErrRefused = errors.New("refused")

	// ErrWaiting means that a backup is stored but some of the WAL that it needs
	// has not arrived in time. It becomes complete when the WAL does.
	ErrWaiting = errors.New("backup is stored, but waiting for WAL")
)

// A Reporter is told what a long operation does. Its methods may be called by
// several goroutines at once.
type Reporter interface {
	Step(text string)  // a step begins
	Total(bytes int64) // how much the coming Add calls are expected to sum up to
	Add(bytes int64)   // so much more is done
}

type silent struct{}

func (silent) Step(string) {}
func (silent) Total(int64) {}
func (silent) Add(int64)   {}

func orSilent(r Reporter) Reporter {
	if r == nil {
		return silent{}
	}
	return r
}

// DefaultJobs is how many slices are worked on at once when nothing else is
// asked: enough to keep all cores busy while some are on the network, and few
// enough to bound memory.
func DefaultJobs() int { return min(2+runtime.GOMAXPROCS(0), 16) }
