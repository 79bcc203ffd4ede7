// Package catalog knows what is in a repository: the identity of its clusters,
// their backups, their WAL and timelines, and the format of every record that
// describes them. It computes status from what the store holds at that moment
// and keeps no state of its own.
package catalog

import (
	"context"
	"fmt"
	"iter"
	"regexp"
	"strconv"
	"strings"

	"walden/postgres/wal"
	"walden/storage"
)

// Format is the version of the repository format that this package writes and
// the newest that it reads.
const Format = 1

// A Cluster is one cluster's part of a repository: everything below its system
// identifier. The zero value is not usable; make one with Open.
type Cluster struct {
	Store    storage.Store
	SystemID uint64
}

// Open returns the part of a repository that belongs to the cluster with that
// system identifier. It makes no request.
func Open(store storage.Store, systemID uint64) Cluster {
	return Cluster{Store: store, SystemID: systemID}
}

func (c Cluster) key(rest string) string {
	return strconv.FormatUint(c.SystemID, 10) + "/" + rest
}

// WALKey returns the key of a WAL file: segments, .partial and .backup files lie
// below their timeline and log number, .history files directly below wal/.
func (c Cluster) WALKey(f wal.FileName) string {
	if f.Kind == wal.KindHistory {
		return c.key("wal/" + f.String())
	}
	return c.timelinePrefix(f.Timeline) + fmt.Sprintf("%08X/", f.Segment.Log) + f.String()
}

func (c Cluster) timelinePrefix(t wal.Timeline) string {
	return c.key("wal/" + t.String() + "/")
}

func (c Cluster) segmentKey(s wal.Segment) string {
	return c.WALKey(wal.FileName{Kind: wal.KindSegment, Timeline: s.Timeline, Segment: s})
}

func (c Cluster) identityKey() string { return c.key("cluster.json") }

func (c Cluster) backupsPrefix() string { return c.key("backups/") }

func (c Cluster) startKey(id string) string    { return c.backupsPrefix() + id + "/start.json" }
func (c Cluster) commitKey(id string) string   { return c.backupsPrefix() + id + "/backup.json" }
func (c Cluster) manifestKey(id string) string { return c.backupsPrefix() + id + "/manifest" }

// SliceKey returns the key of one slice of a backup's data.
func (c Cluster) SliceKey(id string, slice int) string {
	return fmt.Sprintf("%s%s/data/%010d", c.backupsPrefix(), id, slice)
}

// Known reports whether the repository holds anything at all of this cluster. A
// repository that holds nothing where a cluster is expected is more likely an
// unmounted disk or a wrong prefix than an empty archive.
func (c Cluster) Known(ctx context.Context) (bool, error) {
	_, found, err := first(c.Store.List(ctx, c.key(""), ""))
	if err != nil {
		return false, fmt.Errorf("look for cluster %d: %w", c.SystemID, err)
	}
	return found, nil
}

// Clusters returns the system identifiers of all clusters in a repository,
// ascending as text. It makes one request a cluster.
func Clusters(ctx context.Context, store storage.Store) ([]uint64, error) {
	var ids []uint64
	after := ""
	for {
		info, found, err := first(store.List(ctx, "", after))
		if err != nil {
			return nil, fmt.Errorf("list clusters: %w", err)
		}
		if !found {
			return ids, nil
		}
		top, _, isDir := strings.Cut(info.Key, "/")
		if id, err := strconv.ParseUint(top, 10, 64); err == nil && id != 0 && strconv.FormatUint(id, 10) == top && isDir {
			ids = append(ids, id)
		}
		after = behind(top)
	}
}

// behind returns what sorts right after all keys below a directory: the digit 0
// follows the slash in ASCII.
func behind(dir string) string { return dir + "0" }

// first returns the first object of a listing.
func first(seq iter.Seq2[storage.Info, error]) (storage.Info, bool, error) {
	for info, err := range seq {
		return info, err == nil, err
	}
	return storage.Info{}, false, nil
}

var backupID = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}$`)

// ValidBackupID reports whether s has the form of a backup's name, such as
// 20261121T081530Z-4be1.
func ValidBackupID(s string) bool { return backupID.MatchString(s) }
