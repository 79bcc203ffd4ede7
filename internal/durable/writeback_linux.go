package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// StartWriteback makes the kernel begin to write n bytes of a file to disk, from
// offset off on, so that a later sync has less to wait for. It promises nothing,
// and so reports no error: the sync will.
func StartWriteback(f *os.File, off, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), off, n, unix.SYNC_FILE_RANGE_WRITE)
}
