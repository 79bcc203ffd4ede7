package server

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"time"

	"walden/postgres/wal"
)

// Identity is what a server says of itself.
type Identity struct {
	SystemID   uint64
	VersionNum int // as 150018 for 15.18
	Major      int
	InRecovery bool
	StartTime  time.Time // of the postmaster, to the microsecond, in UTC
	Port       int

	// DataDirectory is the setting data_directory; empty if the role may not
	// see it, which takes pg_read_all_settings.
	DataDirectory string
	// PostmasterPIDFile is the content of postmaster.pid as the server itself
	// reads it; nil if the role may not, which takes EXECUTE on
	// pg_read_binary_file.
	PostmasterPIDFile []byte

	SegmentSize wal.SegmentSize
	// Timeline is the one being written or, in recovery, the latest one that
	// is known to be replayed from: it may lag by a restartpoint.
	Timeline wal.Timeline

	WALLevel       string
	ArchiveMode    string // off, on or always
	ArchiveCommand string // "(disabled)" when archive_mode is off
	ArchiveLibrary string // since 15; beats ArchiveCommand where not empty
}

const identityColumns = 12

var identitySQL = `SELECT (pg_control_system()).system_identifier,
	current_setting('server_version_num'), pg_is_in_recovery(),
	` + micros("pg_postmaster_start_time()") + `, current_setting('port'),
	(SELECT setting FROM pg_settings WHERE name = 'data_directory'),
	(pg_control_init()).bytes_per_wal_segment,
	CASE WHEN pg_is_in_recovery()
	     THEN greatest((pg_control_checkpoint()).timeline_id, (pg_control_recovery()).min_recovery_end_timeline)
	     ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint END,
	current_setting('wal_level'), current_setting('archive_mode'),
	current_setting('archive_command'), current_setting('archive_library', true)`

// Identity asks the server who it is. It works with any role; see the fields
// for what an unprivileged one doesn't get.
func (c *Conn) Identity(ctx context.Context) (Identity, error) {
	row, err := c.row(ctx, identityColumns, identitySQL)
	if err != nil {
		return Identity{}, fmt.Errorf("ask the server for its identity: %w", err)
	}
	id, err := parseIdentity(row)
	if err != nil {
		return Identity{}, fmt.Errorf("ask the server for its identity: %w", err)
	}
	id.PostmasterPIDFile, err = c.postmasterPID(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("read postmaster.pid through the server: %w", err)
	}
	return id, nil
}

func parseIdentity(row [][]byte) (Identity, error) {
	id := Identity{
		InRecovery:     string(row[2]) == "t",
		DataDirectory:  string(row[5]),
		WALLevel:       string(row[8]),
		ArchiveMode:    string(row[9]),
		ArchiveCommand: string(row[10]),
		ArchiveLibrary: string(row[11]),
	}
	var failed error
	number := func(column, bits int) int64 {
		n, err := strconv.ParseInt(string(row[column]), 10, bits)
		failed = cmp.Or(failed, err)
		return n
	}
	// The identifier is unsigned, and SQL shows it as a signed 64-bit number.
	id.SystemID = uint64(number(0, 64))
	id.VersionNum = int(number(1, 32))
	id.Major = id.VersionNum / 10000
	id.StartTime = time.UnixMicro(number(3, 64)).UTC()
	id.Port = int(number(4, 32))
	id.SegmentSize = wal.SegmentSize(number(6, 64))
	timeline := number(7, 64)
	id.Timeline = wal.Timeline(timeline)
	switch {
	case failed != nil:
		return Identity{}, failed
	case !id.SegmentSize.Valid():
		return Identity{}, fmt.Errorf("WAL segment size of %d bytes is impossible", int64(id.SegmentSize))
	case timeline < 1 || timeline > math.MaxUint32:
		return Identity{}, fmt.Errorf("timeline %d is impossible", timeline)
	}
	return id, nil
}

const (
	// maxPIDFile is far above what eight lines can hold.
	maxPIDFile = "65536"
	mayReadSQL = "SELECT has_function_privilege('pg_read_binary_file(text,bigint,bigint,boolean)', 'EXECUTE')"
	readPIDSQL = "SELECT encode(pg_read_binary_file('postmaster.pid', 0, " + maxPIDFile + ", true), 'hex')"
)

// postmasterPID reads the server's own postmaster.pid, nil if it may not.
func (c *Conn) postmasterPID(ctx context.Context) ([]byte, error) {
	may, err := c.row(ctx, 1, mayReadSQL)
	if err != nil || string(may[0]) != "t" {
		return nil, err
	}
	row, err := c.row(ctx, 1, readPIDSQL)
	if err != nil || row[0] == nil {
		return nil, err
	}
	return hex.DecodeString(string(row[0]))
}
