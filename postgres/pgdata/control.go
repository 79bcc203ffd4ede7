package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"walden/postgres/wal"
)

// ControlPath is where pg_control lies in a data directory: XLOG_CONTROL_FILE.
const ControlPath = "global/pg_control"

// ControlSize is the size of the file in bytes: PG_CONTROL_FILE_SIZE, src/include/catalog/pg_control.h. What ParseControl
// reads is in the first 512 of them.
const ControlSize = 8192

// State is what a cluster is doing, or was when its server went away: DBState, src/include/catalog/pg_control.h.
type State uint32

const (
	StateStartup State = iota
	StateShutDown
	StateShutDownInRecovery
	StateShuttingDown
	StateInCrashRecovery
	StateInArchiveRecovery
	StateInProduction
)

// String gives the words of pg_controldata.
func (s State) String() string {
	switch s {
	case StateStartup:
		return "starting up"
	case StateShutDown:
		return "shut down"
	case StateShutDownInRecovery:
		return "shut down in recovery"
	case StateShuttingDown:
		return "shutting down"
	case StateInCrashRecovery:
		return "in crash recovery"
	case StateInArchiveRecovery:
		return "in archive recovery"
	case StateInProduction:
		return "in production"
	default:
		return fmt.Sprintf("unrecognized state %d", uint32(s))
	}
}

// Control is what pg_control says of a cluster: ControlFileData, src/include/catalog/pg_control.h.
type Control struct {
	SystemID       uint64
	Version        uint32 // pg_control_version: the format of this file
	CatalogVersion uint32
	Major          int // 13 to 18, from both versions
	State          State
	Updated        time.Time // when the file was last written

	Checkpoint     wal.LSN // where the latest checkpoint's record starts
	Redo           wal.LSN // where redo starts from that checkpoint
	Timeline       wal.Timeline
	PrevTimeline   wal.Timeline // differs from Timeline if that checkpoint began it
	NextXID        uint64       // next transaction ID, with its epoch in the upper half
	CheckpointTime time.Time

	MinRecoveryPoint    wal.LSN // a standby is consistent from here on; zero on a primary
	MinRecoveryTimeline wal.Timeline
	BackupStart         wal.LSN // set while recovering from a backup
	BackupEnd           wal.LSN // set while recovering from a backup of a standby
	BackupEndRequired   bool

	// What a server must at least be configured with to replay this cluster's WAL as a hot standby.
	MaxConnections, MaxWorkerProcesses, MaxWALSenders, MaxPreparedXacts, MaxLocksPerXact int

	SegmentSize     wal.SegmentSize
	WALBlockSize    uint32 // bytes
	BlockSize       uint32 // bytes
	RelSegSize      uint32 // blocks in one file of a relation
	ChecksumVersion uint32 // of data pages; 0: the cluster has no data checksums
}

// Running tells whether the file was written by a server that had not shut down yet. After a crash it stays so.
func (c Control) Running() bool {
	return c.State != StateShutDown && c.State != StateShutDownInRecovery
}

// TablespaceDirectory is the name of the only directory in a tablespace's location that belongs to clusters of this
// version: TABLESPACE_VERSION_DIRECTORY, src/include/common/relpath.h.
func (c Control) TablespaceDirectory() string {
	return fmt.Sprintf("PG_%d_%d", c.Major, c.CatalogVersion)
}

// A torn read is looked at again this often, this long after.
const (
	controlTries = 50
	controlPause = 10 * time.Millisecond
)

// ReadControl reads global/pg_control of a data directory and gives its content too, all ControlSize bytes. PostgreSQL
// writes the file in place, so a read may catch it half-written: where it makes no sense, ReadControl reads again for up to
// half a second. A directory without the file is ErrNoCluster; other errors are as of ParseControl.
func ReadControl(pgdata string) (Control, []byte, error) {
	path := filepath.Join(pgdata, filepath.FromSlash(ControlPath))
	for try := 1; ; try++ {
		c, raw, err := readControl(path)
		if err == nil || try == controlTries || !errors.Is(err, ErrControl) {
			return c, raw, err
		}
		time.Sleep(controlPause)
	}
}

func readControl(path string) (Control, []byte, error) {
	raw, err := readSmall(path, ControlSize+1)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Control{}, nil, fmt.Errorf("read %s: %w", path, ErrNoCluster)
	case err != nil:
		return Control{}, nil, err
	case len(raw) != ControlSize:
		return Control{}, nil, fmt.Errorf("read %s: %d bytes, want %d: %w", path, len(raw), ControlSize, ErrControl)
	}
	c, err := ParseControl(raw)
	if err != nil {
		return Control{}, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return c, raw, nil
}
