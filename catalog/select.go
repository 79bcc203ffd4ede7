package catalog

import (
	"errors"
	"fmt"
	"slices"
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
	var candidates, others []Backup
	for _, b := range slices.Backward(backups) {
		if unfit(b, backups, timelines, t) == "" {
			candidates = append(candidates, b)
		} else {
			others = append(others, b)
		}
	}
	switch {
	case len(backups) == 0:
		return Backup{}, fmt.Errorf("%w: there is none", ErrUnreachable)
	case len(candidates) == 0:
		newest := others[max(0, slices.IndexFunc(others, Backup.isComplete))] // the reason of one that is running would hide it
		return Backup{}, fmt.Errorf("%w: %s %s", ErrUnreachable, newest.ID, unfit(newest, backups, timelines, t))
	case t.Name != "" && len(candidates) > 1:
		return Backup{}, fmt.Errorf("%w: name the newest one that ended before restore point %q was made "+
			"(the repository does not know when that was); candidates are %s to %s",
			ErrAmbiguous, t.Name, candidates[len(candidates)-1].ID, candidates[0].ID)
	}
	return candidates[0], nil
}

// CheckReach returns ErrUnreachable when recovery from this backup can't reach the
// target for sure. A transaction that was open when the backup ended can be
// reached, but is not told from one that had ended: whoever names a backup knows.
func CheckReach(b Backup, backups []Backup, timelines []Timeline, t Target) error {
	t.XID = 0
	if reason := unfit(b, backups, timelines, t); reason != "" {
		return fmt.Errorf("%w: %s %s", ErrUnreachable, b.ID, reason)
	}
	return nil
}

// unfit says why a backup can't reach the target, or "" when it can.
func unfit(b Backup, all []Backup, timelines []Timeline, t Target) string {
	if !b.isComplete() {
		return fmt.Sprintf("is %s (%s)", b.Status, b.Reason)
	}
	return b.Commit.cannotReach(targetTimeline(*b.Commit, all, timelines, t), timelines, t)
}

// cannotReach says why recovery from a complete backup along a timeline can't
// reach the target, or "" when it can as far as is known.
func (b Commit) cannotReach(along wal.Timeline, timelines []Timeline, t Target) string {
	lost := b.lost(along, timelines, t)
	switch {
	case lost != "":
		return lost + " (see --target-timeline)"
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
// the highest that any history file, segment or backup with a sound record names.
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
		if other.isComplete() || other.Status == StatusWaiting {
			newest = max(newest, other.Commit.WAL.Timeline)
		}
	}
	return newest
}

// lost says why recovery would not find its way to a timeline, or "" when the
// end of the backup lies on it. It minds how PostgreSQL searches: it wants the
// history of a timeline that it is told (validateRecoveryParameters,
// src/backend/access/transam/xlogrecovery.c), and for the newest one it asks for
// one history after the other, up to the first that is missing
// (findNewestTimeLine, timeline.c).
func (b Commit) lost(along wal.Timeline, timelines []Timeline, t Target) string {
	wanted := []wal.Timeline{along}
	if t.Timeline == 0 {
		wanted = nil
		for id := b.WAL.Timeline; id < along && len(wanted) <= len(timelines); id++ {
			wanted = append(wanted, id+1)
		}
	}
	for _, id := range wanted {
		switch tl := timelineOf(timelines, id); {
		case tl.HistoryError != nil:
			return fmt.Sprintf("does not lead to timeline %s as far as can be told: %v", along, tl.HistoryError)
		case tl.History == nil && id != 1:
			return fmt.Sprintf("does not lead to timeline %s: %s.history is not in the repository, and PostgreSQL would go no further", along, id)
		}
	}
	h := timelineOf(timelines, along).History
	if b.WAL.Timeline != along && (h == nil || !h.Contains(b.WAL.Timeline, b.WAL.StopLSN-1)) {
		return fmt.Sprintf("ended at %s on timeline %s, which does not lead to timeline %s", b.WAL.StopLSN, b.WAL.Timeline, along)
	}
	return ""
}

func timelineOf(timelines []Timeline, id wal.Timeline) Timeline {
	for _, tl := range timelines {
		if tl.ID == id {
			return tl
		}
	}
	return Timeline{ID: id}
}
