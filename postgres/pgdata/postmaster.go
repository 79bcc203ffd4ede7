package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// postmasterPIDLimit is more than a postmaster.pid can have: three paths of MAXPGPATH and a few numbers.
const postmasterPIDLimit = 8192

// PostmasterPID is the content of postmaster.pid: src/include/utils/pidfile.h. That the file is there doesn't prove that
// the server still is: one that was killed leaves it behind.
type PostmasterPID struct {
	PID         int // negative for a single-user server
	DataDir     string
	StartTime   time.Time // to the second
	Port        int
	SocketDir   string // the first of unix_socket_directories; empty if there is none
	ListenAddr  string // the first of listen_addresses that works, "*" for all; empty if there is none
	SharedMemID string // key and ID of the shared memory; empty early in the start
	Status      string // "starting", "stopping", "ready" or "standby"; empty early in the start
}

// ParsePostmasterPID reads the content of a postmaster.pid. A server that is starting writes the file bit by bit: the
// first four lines must be there, whole. Anything else is ErrSyntax.
func ParsePostmasterPID(b []byte) (PostmasterPID, error) {
	lines := strings.Split(string(b), "\n")
	if len(lines) < 5 { // four lines, and what follows the last newline
		return PostmasterPID{}, fmt.Errorf("parse postmaster.pid: %d whole lines, want at least 4: %w", len(lines)-1, ErrSyntax)
	}
	line := func(n int) string {
		if n > len(lines) {
			return ""
		}
		return strings.TrimRight(lines[n-1], " \r")
	}
	pid, errPID := strconv.ParseInt(line(1), 10, 32)
	start, errStart := strconv.ParseInt(line(3), 10, 64)
	port, errPort := strconv.ParseUint(line(4), 10, 16)
	switch {
	case errPID != nil || pid == 0:
		return PostmasterPID{}, fmt.Errorf("parse postmaster.pid: line 1 is no process ID: %q: %w", line(1), ErrSyntax)
	case line(2) == "":
		return PostmasterPID{}, fmt.Errorf("parse postmaster.pid: line 2 has no data directory: %w", ErrSyntax)
	case errStart != nil:
		return PostmasterPID{}, fmt.Errorf("parse postmaster.pid: line 3 is no time: %q: %w", line(3), ErrSyntax)
	case errPort != nil:
		return PostmasterPID{}, fmt.Errorf("parse postmaster.pid: line 4 is no port: %q: %w", line(4), ErrSyntax)
	}
	return PostmasterPID{
		PID:         int(pid),
		DataDir:     strings.TrimSuffix(lines[1], "\r"),
		StartTime:   time.Unix(start, 0).UTC(),
		Port:        int(port),
		SocketDir:   line(5),
		ListenAddr:  line(6),
		SharedMemID: strings.TrimSpace(line(7)),
		Status:      line(8),
	}, nil
}

// ReadPostmasterPID reads postmaster.pid of a data directory. It is ErrNotRunning where there is none.
func ReadPostmasterPID(pgdata string) (PostmasterPID, error) {
	path := filepath.Join(pgdata, "postmaster.pid")
	b, err := readSmall(path, postmasterPIDLimit)
	if errors.Is(err, fs.ErrNotExist) {
		return PostmasterPID{}, fmt.Errorf("read %s: %w", path, ErrNotRunning)
	}
	if err != nil {
		return PostmasterPID{}, err
	}
	p, err := ParsePostmasterPID(b)
	if err != nil {
		return PostmasterPID{}, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}
