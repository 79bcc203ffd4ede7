package server

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"walden/postgres/wal"
)

// CurrentLSN is where WAL is written to or, in recovery, replayed to.
func (c *Conn) CurrentLSN(ctx context.Context) (wal.LSN, error) {
	return c.lsn(ctx, "read the current LSN", `SELECT CASE WHEN pg_is_in_recovery()
		THEN coalesce(pg_last_wal_replay_lsn(), '0/0') ELSE pg_current_wal_lsn() END`)
}

// SwitchWAL ends the current segment, so that it gets archived, and returns
// the LSN behind its last record. In a segment that holds nothing yet it does
// nothing and returns the segment's start: see LogicalMessage.
// It is refused in recovery.
func (c *Conn) SwitchWAL(ctx context.Context) (wal.LSN, error) {
	return c.lsn(ctx, "switch to a new WAL segment", "SELECT pg_switch_wal()")
}

// LogicalMessage writes a message into WAL, for logical decoding to pick up or
// ignore, and returns its LSN. It is a transaction of its own: so it leaves a
// commit record with a time, which recovery to a time can stop at. It is
// refused in recovery.
func (c *Conn) LogicalMessage(ctx context.Context, prefix, content string) (wal.LSN, error) {
	return c.lsn(ctx, "write a logical message", "SELECT pg_logical_emit_message(true, $1, $2::text)", prefix, content)
}

func (c *Conn) lsn(ctx context.Context, what, sql string, args ...string) (wal.LSN, error) {
	row, err := c.row(ctx, 1, sql, args...)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	lsn, err := wal.ParseLSN(string(row[0]))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	return lsn, nil
}

// Archiver is what pg_stat_archiver says of archive_command since the last
// reset of the statistics. Names are as PostgreSQL prints them, empty when
// there is none yet; times are zero then.
type Archiver struct {
	Archived, Failed         int64
	LastArchived, LastFailed string
	LastArchivedTime         time.Time
	LastFailedTime           time.Time
}

// Failing tells whether the latest attempt to archive failed.
func (a Archiver) Failing() bool { return a.LastFailedTime.After(a.LastArchivedTime) }

var archiverSQL = `SELECT archived_count, last_archived_wal, ` + micros("last_archived_time") + `,
	failed_count, last_failed_wal, ` + micros("last_failed_time") + ` FROM pg_stat_archiver`

// Archiver reads pg_stat_archiver.
func (c *Conn) Archiver(ctx context.Context) (Archiver, error) {
	row, err := c.row(ctx, 6, archiverSQL)
	if err != nil {
		return Archiver{}, fmt.Errorf("read pg_stat_archiver: %w", err)
	}
	a := Archiver{LastArchived: string(row[1]), LastFailed: string(row[4])}
	var errs [4]error
	a.Archived, errs[0] = strconv.ParseInt(string(row[0]), 10, 64)
	a.LastArchivedTime, errs[1] = parseMicros(row[2])
	a.Failed, errs[2] = strconv.ParseInt(string(row[3]), 10, 64)
	a.LastFailedTime, errs[3] = parseMicros(row[5])
	if err := cmp.Or(errs[:]...); err != nil {
		return Archiver{}, fmt.Errorf("read pg_stat_archiver: %w", err)
	}
	return a, nil
}
