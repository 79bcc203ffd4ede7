package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"walden/postgres/wal"
)

// Start is backups/<id>/start.json: a backup began.
type Start struct {
	Format          int          `json:"format"`
	ID              string       `json:"id"`
	SystemID        uint64       `json:"system_identifier,string"`
	Type            string       `json:"type"` // "full"
	StartedAt       time.Time    `json:"started_at"`
	Host            string       `json:"host"`
	DataDirectory   string       `json:"data_directory"`
	PostgresVersion int          `json:"postgres_version"` // server_version_num, such as 150018
	FromStandby     bool         `json:"from_standby"`
	Timeline        wal.Timeline `json:"timeline"`
	StartLSN        wal.LSN      `json:"start_lsn"`
	Walden          string       `json:"walden"` // version of the program
}

// Commit is backups/<id>/backup.json: the backup's data and manifest are all in
// the repository. It is the last object that a backup writes.
type Commit struct {
	Format          int             `json:"format"`
	ID              string          `json:"id"`
	SystemID        uint64          `json:"system_identifier,string"`
	Type            string          `json:"type"` // "full"
	StartedAt       time.Time       `json:"started_at"`
	StoppedAt       time.Time       `json:"stopped_at"` // by the server's clock: the earliest moment that can be recovered to
	PostgresVersion int             `json:"postgres_version"`
	CatalogVersion  uint32          `json:"catalog_version"`
	FromStandby     bool            `json:"from_standby"`
	SegmentSize     wal.SegmentSize `json:"wal_segment_size"`
	WAL             WALNeed         `json:"wal"`
	NextXID         uint64          `json:"next_xid"` // when the backup stopped: later ones committed after it
	Encrypted       bool            `json:"encrypted"`
	Slices          int             `json:"slices"`
	StoredBytes     int64           `json:"stored_bytes"` // of all slices together
	Files           int64           `json:"files"`
	Bytes           int64           `json:"bytes"` // of all files together, before compression
	ManifestSize    int64           `json:"manifest_size"`
	ManifestSHA256  string          `json:"manifest_sha256"` // of the object as it is stored
	Tablespaces     []Tablespace    `json:"tablespaces,omitempty"`

	DataDirectoryMode FileMode `json:"data_directory_mode"` // 0700 or 0750
}

// WALNeed is the WAL without which a backup is not consistent: all segments from
// First to Last on one timeline.
type WALNeed struct {
	Timeline wal.Timeline `json:"timeline"`
	StartLSN wal.LSN      `json:"start_lsn"`
	StopLSN  wal.LSN      `json:"stop_lsn"` // exclusive end of what must be replayed
	First    wal.Segment  `json:"first"`
	Last     wal.Segment  `json:"last"`
}

// Tablespace is a tablespace outside the data directory.
type Tablespace struct {
	OID      uint32 `json:"oid"`
	Location string `json:"location"`
}

// NewBackupID names a backup that starts now. Two hosts that start one in the
// same second get different names.
func NewBackupID(now time.Time) (string, error) {
	var random [2]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("name the backup: %w", err)
	}
	return now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(random[:]), nil
}

// CreateStart records that a backup begins. storage.ErrExist means that another
// backup has the same name.
func (c Cluster) CreateStart(ctx context.Context, s Start) error {
	s.Format, s.SystemID = Format, c.SystemID
	return c.createRecord(ctx, c.startKey(s.ID), s)
}

// CreateCommit makes a backup visible as committed. Call it when everything
// else of the backup is stored.
func (c Cluster) CreateCommit(ctx context.Context, b Commit) error {
	b.Format, b.SystemID = Format, c.SystemID
	return c.createRecord(ctx, c.commitKey(b.ID), b)
}
