package catalog

import (
	"errors"
	"fmt"
	"time"

	"walden/postgres/wal"
)

// Target is the point that a recovery shall reach. At most one of LSN, Time,
// XID, Name and Immediate is set; none means the end of the WAL.
type Target struct {
	LSN       wal.LSN
	Time      time.Time
	XID       uint64
	Name      string // of a restore point
	Immediate bool   // as soon as the backup is consistent

	Timeline wal.Timeline // 0: the newest one
	Current  bool         // the backup's own timeline instead
}

// ErrUnreachable means that no complete backup of the repository can reach the
// target.
var ErrUnreachable = errors.New("no backup can reach the target")

// ErrAmbiguous means that the repository can't tell which backup is the right
// one: the operator must name it.
var ErrAmbiguous = errors.New("say which backup to restore")

// Choose returns the newest complete backup from which recovery can reach the
// target. It judges by what the backups and history files say; that the WAL
// between is whole is for recovery to find out.
func Choose(backups []Backup, timelines []Timeline, t Target) (Backup, error) {
	var candidates []Backup
	why := "there is none"
	for i := len(backups) - 1; i >= 0; i-- {
		b := backups[i]
		if reason := unfit(b, backups, timelines, t); reason != "" {
			if len(candidates) == 0 && why == "there is none" {
				why = fmt.Sprintf("%s, the newest, %s", b.ID, reason)
			}
			continue
		}
		candidates = append(candidates, b)
	}
	switch {
	case len(candidates) == 0:
		return Backup{}, fmt.Errorf("%w: %s", ErrUnreachable, why)
	case t.Name != "" && len(candidates) > 1:
		return Backup{}, fmt.Errorf("%w: name the newest one that ended before restore point %q was made "+
			"(the repository does not know when that was); candidates are %s to %s",
			ErrAmbiguous, t.Name, candidates[len(candidates)-1].ID, candidates[0].ID)
	}
	return candidates[0], nil
}

// CheckReach returns ErrUnreachable when recovery from this backup can't reach the
// target as far as is known.
func CheckReach(b Backup, backups []Backup, timelines []Timeline, t Target) error {
	if reason := unfit(b, backups, timelines, t); reason != "" {
		return fmt.Errorf("%w: %s %s", ErrUnreachable, b.ID, reason)
	}
	return nil
}

// unfit says why a backup can't reach the target, or "" when it can.
func unfit(b Backup, all []Backup, timelines []Timeline, t Target) string {
	if b.Status != StatusComplete {
		return fmt.Sprintf("is %s (%s)", b.Status, b.Reason)
	}
	return b.Commit.cannotReach(targetTimeline(*b.Commit, all, timelines, t), timelines, t)
}

// cannotReach says why recovery from a complete backup along a timeline can't
// reach the target, or "" when it can as far as is known.
func (b Commit) cannotReach(along wal.Timeline, timelines []Timeline, t Target) string {
	switch {
	case !onPath(b.WAL, along, timelines):
		return fmt.Sprintf("ended at %s on timeline %s, which does not lead to timeline %s (see --target-timeline)",
			b.WAL.StopLSN, b.WAL.Timeline, along)
	case t.LSN != 0 && t.LSN < b.WAL.StopLSN:
		return fmt.Sprintf("ended at %s, after the target LSN %s", b.WAL.StopLSN, t.LSN)
	case !t.Time.IsZero() && t.Time.Before(b.StoppedAt):
		return fmt.Sprintf("ended at %s, after the target time %s", b.StoppedAt.Format(time.RFC3339Nano), t.Time.Format(time.RFC3339Nano))
	case t.XID != 0 && precedes(t.XID, b.NextXID):
		return fmt.Sprintf("ended when transaction %d was the next, after the target %d", b.NextXID, t.XID)
	}
	return ""
}

// precedes compares transaction ids as PostgreSQL does, modulo 2^32
// (TransactionIdPrecedes, src/backend/access/transam/transam.c): operators often
// know an id without its epoch.
func precedes(a, b uint64) bool { return int32(uint32(a)-uint32(b)) < 0 }

// targetTimeline resolves the timeline that recovery follows. The newest one is
// the highest that any history file, segment or complete backup names.
func targetTimeline(b Commit, all []Backup, timelines []Timeline, t Target) wal.Timeline {
	switch {
	case t.Timeline != 0:
		return t.Timeline
	case t.Current || t.Immediate:
		return b.WAL.Timeline
	}
	newest := b.WAL.Timeline
	for _, tl := range timelines {
		newest = max(newest, tl.ID)
	}
	for _, other := range all {
		if other.Commit != nil {
			newest = max(newest, other.Commit.WAL.Timeline)
		}
	}
	return newest
}

// onPath reports whether the end of a backup lies on the way to a timeline.
func onPath(n WALNeed, along wal.Timeline, timelines []Timeline) bool {
	if n.Timeline == along {
		return true
	}
	for _, tl := range timelines {
		if tl.ID == along && tl.History != nil {
			return tl.History.Contains(n.Timeline, n.StopLSN-1)
		}
	}
	return false
}
