package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// removeSharedMemory removes the System V segment by which a server guards its data directory, and
// which a killed one leaves behind. It does nothing unless the process pid made the segment, and nobody
// uses it any more.
func removeSharedMemory(dataDir string, pid int) error {
	text, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if os.IsNotExist(err) {
		return nil // it was killed before it wrote the file
	}
	if err != nil {
		return err
	}
	// LOCK_FILE_LINE_SHMEM_KEY, src/include/utils/pidfile.h: the key and the segment's id.
	lines := strings.Split(string(text), "\n")
	var key uint32
	var id int
	if len(lines) < 7 {
		return nil
	}
	if _, err := fmt.Sscan(lines[6], &key, &id); err != nil {
		return nil // it was killed before it had a segment
	}
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil || int(desc.Cpid) != pid || desc.Nattch != 0 {
		return nil
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}
