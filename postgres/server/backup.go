package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"walden/postgres/wal"
)

// Stop is what the end of a base backup gives.
type Stop struct {
	// LSN is where the backup ends: it is consistent once replay got there.
	LSN wal.LSN
	// Label and TablespaceMap are the contents of the files backup_label and
	// tablespace_map, byte by byte. The second is empty, and no such file
	// belongs in the backup, when there are no tablespaces.
	Label, TablespaceMap string
	// Time is the server's clock after LSN was reached: every commit that is
	// stamped later than that comes after the end of the backup.
	Time time.Time
	// NextXID is a transaction ID, with its epoch in the upper half. Neither it
	// nor any later one had completed after LSN was reached: they all commit
	// after the end of the backup.
	NextXID uint64
	// Warnings are what the server said at WARNING level since StartBackup.
	Warnings []string
}

// StartBackup begins a non-exclusive base backup in this session and returns
// where recovery from it begins. The backup lives until StopBackup, and ends
// with the session. With fast, the checkpoint that it begins with is done at
// once; otherwise it is spread and takes about half of checkpoint_timeout.
func (c *Conn) StartBackup(ctx context.Context, label string, fast bool) (wal.LSN, error) {
	if strings.ContainsAny(label, "\r\n") {
		// It would end its line in backup_label, and begin lines of its own.
		return 0, fmt.Errorf("start backup: label %q has a line break: %w", label, ErrConfig)
	}
	if err := c.refusePooler(ctx); err != nil {
		return 0, fmt.Errorf("start backup: %w", err)
	}
	c.takeWarnings()
	sql := "SELECT pg_backup_start($1, $2)"
	if c.major() < 15 {
		sql = "SELECT pg_start_backup($1, $2, false)"
	}
	row, err := c.row(ctx, 1, sql, label, strconv.FormatBool(fast))
	if err != nil {
		return 0, fmt.Errorf("start backup: %w", err)
	}
	lsn, err := wal.ParseLSN(string(row[0]))
	if err != nil {
		return 0, fmt.Errorf("start backup: %w", err)
	}
	return lsn, nil
}

// StopBackup ends the backup that StartBackup began. It never waits for WAL to
// be archived. Any error is ErrBackupVoid: there is no second try.
func (c *Conn) StopBackup(ctx context.Context) (Stop, error) {
	stop, err := c.stopBackup(ctx)
	if err == nil {
		return stop, nil
	}
	text := fmt.Sprintf("stop backup: %v: the backup is void, take a new one", err)
	if c.pg.IsClosed() && ctx.Err() == nil {
		text = fmt.Sprintf("stop backup: the session that began it is gone, and the backup with it: %v: take a new one", err)
	}
	return Stop{}, &failure{kind: ErrBackupVoid, text: text, cause: err}
}

func (c *Conn) stopBackup(ctx context.Context) (stop Stop, err error) {
	sql := "SELECT lsn, labelfile, spcmapfile FROM pg_backup_stop(false)"
	if c.major() < 15 {
		sql = "SELECT lsn, labelfile, spcmapfile FROM pg_stop_backup(false, false)"
	}
	row, err := c.row(ctx, 3, sql)
	if err != nil {
		return Stop{}, err
	}
	stop.Label, stop.TablespaceMap = string(row[1]), string(row[2])
	if stop.LSN, err = wal.ParseLSN(string(row[0])); err != nil {
		return Stop{}, err
	}
	if stop.Label == "" {
		return Stop{}, errors.New("the server gave no backup label")
	}
	// A statement of its own: its snapshot is younger than the end of the backup.
	row, err = c.row(ctx, 2, "SELECT "+micros("clock_timestamp()")+", pg_snapshot_xmax(pg_current_snapshot())::text")
	if err != nil {
		return Stop{}, err
	}
	if stop.Time, err = parseMicros(row[0]); err != nil {
		return Stop{}, err
	}
	if stop.NextXID, err = strconv.ParseUint(string(row[1]), 10, 64); err != nil {
		return Stop{}, fmt.Errorf("read the next transaction ID: %w", err)
	}
	stop.Warnings = c.takeWarnings()
	return stop, nil
}

// refusePooler makes sure that the session is one process of the server from
// beginning to end. Behind a pooler, start and stop could reach two of them,
// and the pooler would keep the backup open.
func (c *Conn) refusePooler(ctx context.Context) error {
	row, err := c.row(ctx, 1, "SELECT pg_backend_pid()")
	if err != nil {
		return err
	}
	if string(row[0]) != strconv.FormatUint(uint64(c.pg.PID()), 10) {
		return &failure{kind: ErrConfig, text: "a connection pooler answers for " + c.target.String() +
			": a backup needs a direct connection to the server"}
	}
	return nil
}

// major is the server's major version, from what it reported on connecting.
func (c *Conn) major() int { return majorOf(c.pg.ParameterStatus("server_version")) }

// majorOf reads what server_version begins with: 15.18 (Debian ...), 18beta1.
func majorOf(version string) int {
	end := strings.IndexFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(version)
	}
	n, err := strconv.Atoi(version[:end])
	if err != nil {
		return 0 // taken for an old one
	}
	return n
}
