package catalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"walden/storage"
)

// Status is what a backup is worth, worked out from what the repository holds.
type Status string

// The statuses of a backup.
const (
	// StatusComplete: commit record, manifest, data and all the WAL it needs are there.
	StatusComplete Status = "complete"
	// StatusWaiting: all is there but some WAL. It becomes complete when the WAL arrives.
	StatusWaiting Status = "waiting-for-wal"
	// StatusUnfinished: there is no commit record. The backup is running, or it was
	// cut off; either way nothing can be restored from it.
	StatusUnfinished Status = "unfinished"
	// StatusDamaged: there is a commit record, but not all that it speaks of.
	StatusDamaged Status = "damaged"
)

// Backup is a backup as the repository shows it.
type Backup struct {
	ID     string
	Status Status
	Reason string // why it is not complete
	Start  *Start // nil when start.json is not there, or damaged: nothing is restored from it
	// Commit is nil when backup.json is not there or can't be parsed. Don't trust
	// that of a damaged backup.
	Commit *Commit
}

func (b Backup) isComplete() bool { return b.Status == StatusComplete }

// found is what one listing shows of a backup.
type found struct {
	id                      string
	start, commit, manifest bool
	manifestSize            int64
	slices                  int
	storedBytes             int64
}

// Backups returns the cluster's backups, the oldest first, each with its status.
// It lists backups/ once and reads the small records.
func (c Cluster) Backups(ctx context.Context) ([]Backup, error) {
	listed, err := c.listBackups(ctx, c.backupsPrefix())
	if err != nil {
		return nil, err
	}
	backups := make([]Backup, 0, len(listed))
	for _, f := range listed {
		b, err := c.judge(ctx, f)
		if err != nil {
			return nil, fmt.Errorf("backup %s: %w", f.id, err)
		}
		backups = append(backups, b)
	}
	return backups, nil
}

// Backup returns one backup with its status. storage.ErrNotExist means that the
// repository holds nothing under that name.
func (c Cluster) Backup(ctx context.Context, id string) (Backup, error) {
	if !ValidBackupID(id) {
		return Backup{}, fmt.Errorf("%q is not a backup's name (such as 20261121T081530Z-4be1): %w", id, storage.ErrNotExist)
	}
	listed, err := c.listBackups(ctx, c.backupsPrefix()+id+"/")
	if err != nil {
		return Backup{}, err
	}
	if len(listed) == 0 {
		return Backup{}, fmt.Errorf("no backup %s of cluster %d: %w", id, c.SystemID, storage.ErrNotExist)
	}
	return c.judge(ctx, listed[0])
}

func (c Cluster) listBackups(ctx context.Context, prefix string) ([]*found, error) {
	var all []*found
	for info, err := range c.Store.List(ctx, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list backups: %w", err)
		}
		id, rest, isDir := strings.Cut(strings.TrimPrefix(info.Key, c.backupsPrefix()), "/")
		if !ValidBackupID(id) || !isDir {
			continue
		}
		if len(all) == 0 || all[len(all)-1].id != id {
			all = append(all, &found{id: id})
		}
		all[len(all)-1].note(rest, info.Size)
	}
	return all, nil
}

func (f *found) note(name string, size int64) {
	switch name {
	case "start.json":
		f.start = true
	case "backup.json":
		f.commit = true
	case "manifest":
		f.manifest, f.manifestSize = true, size
	default:
		if n, ok := strings.CutPrefix(name, "data/"); ok && isSlice(n) {
			f.slices++
			f.storedBytes += size
		}
	}
}

func isSlice(name string) bool {
	_, err := strconv.ParseUint(name, 10, 64)
	return err == nil && len(name) == 10
}

// judge works out a backup's status. A record that can't be parsed is damage of
// that backup; a record that can't be read is an error: we don't know.
func (c Cluster) judge(ctx context.Context, f *found) (Backup, error) {
	b := Backup{ID: f.id}
	if f.start {
		var s Start
		err := c.readRecord(ctx, c.startKey(f.id), &s)
		switch {
		case err == nil && s.ID == f.id && s.SystemID == c.SystemID:
			b.Start = &s
		case err != nil && !errors.Is(err, storage.ErrCorrupt) && !errors.Is(err, storage.ErrNotExist):
			return Backup{}, err
		}
	}
	if !f.commit {
		b.Status, b.Reason = StatusUnfinished, "no commit record: it is running, or it was cut off"
		return b, nil
	}
	var commit Commit
	switch err := c.readRecord(ctx, c.commitKey(f.id), &commit); {
	case errors.Is(err, storage.ErrNotExist): // deleted since it was listed
		b.Status, b.Reason = StatusUnfinished, "its commit record is gone"
		return b, nil
	case errors.Is(err, storage.ErrCorrupt):
		b.Status, b.Reason = StatusDamaged, err.Error()
		return b, nil
	case err != nil:
		return Backup{}, err
	}
	b.Commit = &commit
	if why := f.damage(commit, c.SystemID); why != "" {
		b.Status, b.Reason = StatusDamaged, why
		return b, nil
	}
	return c.judgeWAL(ctx, b)
}

func (c Cluster) judgeWAL(ctx context.Context, b Backup) (Backup, error) {
	missing, err := c.MissingWAL(ctx, b.Commit.WAL, b.Commit.SegmentSize)
	if err != nil {
		return Backup{}, err
	}
	b.Status = StatusComplete
	if len(missing) > 0 {
		b.Status = StatusWaiting
		b.Reason = fmt.Sprintf("%d of its WAL segments not in the repository, the first is %s", len(missing), missing[0])
	}
	return b, nil
}

// damage compares what a commit record says with what is there.
func (f *found) damage(b Commit, systemID uint64) string {
	switch {
	case b.ID != f.id || b.SystemID != systemID:
		return fmt.Sprintf("its commit record belongs to backup %s of cluster %d", b.ID, b.SystemID)
	case !b.WAL.valid(b.SegmentSize) || !b.WAL.agrees(b.SegmentSize):
		return "its commit record names an impossible range of WAL"
	case !f.manifest:
		return "its manifest is missing"
	case f.manifestSize != b.ManifestSize:
		return fmt.Sprintf("its manifest has %d bytes instead of %d", f.manifestSize, b.ManifestSize)
	case f.slices != b.Slices:
		return fmt.Sprintf("%d of its %d slices are there", f.slices, b.Slices)
	case f.storedBytes != b.StoredBytes:
		return fmt.Sprintf("its slices hold %d bytes instead of %d", f.storedBytes, b.StoredBytes)
	}
	return ""
}
