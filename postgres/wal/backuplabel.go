package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// BackupLabel is the content of a backup_label file, or of a .backup (backup history) file in the archive: where a base
// backup starts and, in the latter, where it stops. build_backup_content, src/backend/access/transam/xlogbackup.c.
type BackupLabel struct {
	Start        LSN     // redo must begin here
	StartSegment Segment // the segment of Start
	Stop         LSN     // zero in backup_label
	StopSegment  Segment // zero in backup_label
	Checkpoint   LSN     // the checkpoint record of the backup
	Method       string  // "streamed", or "pg_start_backup" of exclusive backups up to 14
	From         string  // "primary" ("master" up to 13), or "standby"
	Label        string  // given by who started the backup
	Timeline     Timeline
	StopTimeline Timeline // zero in backup_label

	// StartTime and StopTime are as written: local time in the server's log_timezone with that zone's abbreviation, which
	// does not tell an instant in general. StopTime is empty in backup_label.
	StartTime, StopTime string

	// Set in an incremental backup (17 and later): it is useless without the backups that it builds on.
	IncrementalFrom         LSN
	IncrementalFromTimeline Timeline
}

// FromStandby tells whether the backup was taken from a server in recovery.
func (l BackupLabel) FromStandby() bool { return l.From == "standby" }

// ParseBackupLabel reads a backup_label or a backup history file of PostgreSQL 13 to 18. Lines that it doesn't know are
// skipped. A line that it knows but can't read, one that comes twice, or the lack of a start location, a checkpoint
// location or a start timeline, is ErrSyntax.
func ParseBackupLabel(data []byte) (BackupLabel, error) {
	var l BackupLabel
	seen := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		key, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ": ")
		if !ok {
			continue
		}
		known, err := l.set(key, value)
		if err != nil {
			return BackupLabel{}, fmt.Errorf("parse backup label: %s %q: %w", key, value, err)
		}
		if known && seen[key] {
			return BackupLabel{}, fmt.Errorf("parse backup label: %s comes twice: %w", key, ErrSyntax)
		}
		seen[key] = true
	}
	for _, key := range []string{keyStart, keyCheckpoint, keyTimeline} {
		if !seen[key] {
			return BackupLabel{}, fmt.Errorf("parse backup label: no %s: %w", key, ErrSyntax)
		}
	}
	return l, nil
}

// The lines that must be there.
const (
	keyStart      = "START WAL LOCATION"
	keyCheckpoint = "CHECKPOINT LOCATION"
	keyTimeline   = "START TIMELINE"
)

// set takes over one line, if it knows its key.
func (l *BackupLabel) set(key, value string) (known bool, err error) {
	switch key {
	case keyStart:
		l.Start, l.StartSegment, err = parseLocation(value)
	case "STOP WAL LOCATION":
		l.Stop, l.StopSegment, err = parseLocation(value)
	case keyCheckpoint:
		l.Checkpoint, err = ParseLSN(value)
	case "BACKUP METHOD":
		l.Method = value
	case "BACKUP FROM":
		l.From = value
	case "START TIME":
		l.StartTime = value
	case "LABEL":
		l.Label = value
	case keyTimeline:
		l.Timeline, err = parseDecimalTimeline(value)
	case "STOP TIME":
		l.StopTime = value
	case "STOP TIMELINE":
		l.StopTimeline, err = parseDecimalTimeline(value)
	case "INCREMENTAL FROM LSN":
		l.IncrementalFrom, err = ParseLSN(value)
	case "INCREMENTAL FROM TLI":
		l.IncrementalFromTimeline, err = parseDecimalTimeline(value)
	default:
		return false, nil
	}
	return true, err
}

// parseLocation reads "0/2000028 (file 000000010000000000000002)".
func parseLocation(s string) (LSN, Segment, error) {
	pos, rest, _ := strings.Cut(s, " (file ")
	lsn, err := ParseLSN(pos)
	if err != nil {
		return 0, Segment{}, err
	}
	name, ok := strings.CutSuffix(rest, ")")
	if !ok {
		return 0, Segment{}, fmt.Errorf("no segment name: %w", ErrSyntax)
	}
	seg, err := ParseSegment(name)
	return lsn, seg, err
}

func parseDecimalTimeline(s string) (Timeline, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("not a timeline: %w", ErrSyntax)
	}
	return Timeline(n), nil
}
