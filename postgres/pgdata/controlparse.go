package pgdata

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"walden/postgres/wal"
)

// Offsets in ControlFileData, src/include/catalog/pg_control.h, with its CheckPoint at 40. They are the same in 13 to
// 18: what 17 added to CheckPoint (wal_level, at 60) fell into padding, and what 18 added comes after them.
const (
	offSystemID            = 0
	offVersion             = 8
	offCatalogVersion      = 12
	offState               = 16
	offTime                = 24
	offCheckpoint          = 32
	offRedo                = 40
	offTimeline            = 48
	offPrevTimeline        = 52
	offNextXID             = 64
	offCheckpointTime      = 104
	offMinRecoveryPoint    = 136
	offMinRecoveryTimeline = 144
	offBackupStart         = 152
	offBackupEnd           = 160
	offBackupEndRequired   = 168
	offMaxConnections      = 180
	offMaxWorkerProcesses  = 184
	offMaxWALSenders       = 188
	offMaxPreparedXacts    = 192
	offMaxLocksPerXact     = 196
	offMaxAlign            = 204
	offBlockSize           = 216
	offRelSegSize          = 220
	offWALBlockSize        = 224
	offSegmentSize         = 228
	offChecksumVersion     = 252
)

// Where the CRC of all the bytes before it lies. 18 put default_char_signedness before the last field.
const (
	offCRC   = 288
	offCRC18 = 292

	controlDataSize = offCRC18 + 4 // the most that ParseControl looks at
)

// ParseControl reads the content of a pg_control of PostgreSQL 13 to 18. Bytes that are no such file, or whose CRC is
// wrong, are ErrControl; a version that it doesn't know is ErrVersion.
func ParseControl(b []byte) (Control, error) {
	c, err := parseControl(b)
	if err != nil {
		return Control{}, fmt.Errorf("parse pg_control: %w", err)
	}
	return c, nil
}

func parseControl(b []byte) (Control, error) {
	if len(b) < controlDataSize {
		return Control{}, fmt.Errorf("%d bytes, want at least %d: %w", len(b), controlDataSize, ErrControl)
	}
	version := binary.LittleEndian.Uint32(b[offVersion:])
	var crcAt int
	switch version {
	case 1300, 1700:
		crcAt = offCRC
	case 1800:
		crcAt = offCRC18
	default:
		return Control{}, unknownVersion(b)
	}
	stored := binary.LittleEndian.Uint32(b[crcAt:])
	if sum := crc32.Checksum(b[:crcAt], crc32.MakeTable(crc32.Castagnoli)); sum != stored {
		return Control{}, fmt.Errorf("CRC-32C is %08X, the file says %08X: %w", sum, stored, ErrControl)
	}
	c := decodeControl(b)
	c.Major = major(c.Version, c.CatalogVersion)
	if c.Major == 0 {
		return Control{}, fmt.Errorf("pg_control version %d with catalog version %d is of no release from 13 to 18: %w",
			c.Version, c.CatalogVersion, ErrVersion)
	}
	return c, c.validate(b)
}

// unknownVersion says what is wrong with a version number outside of 13 to 18.
func unknownVersion(b []byte) error {
	little, big := binary.LittleEndian.Uint32(b[offVersion:]), binary.BigEndian.Uint32(b[offVersion:])
	switch {
	case little == 0:
		return fmt.Errorf("pg_control version 0: %w", ErrControl)
	case little%65536 == 0 && big >= 900 && big < 10000: // as ReadControlFile, src/backend/access/transam/xlog.c
		return fmt.Errorf("pg_control version %d of a big-endian machine: %w", big, ErrVersion)
	default:
		return fmt.Errorf("pg_control version %d is of no PostgreSQL from 13 to 18: %w", little, ErrVersion)
	}
}

// major tells the releases apart: 13 to 16 share one format of pg_control, but not a catalog version
// (CATALOG_VERSION_NO, src/include/catalog/catversion.h). It is 0 for a development version.
func major(version, catalog uint32) int {
	switch [2]uint32{version, catalog} {
	case [2]uint32{1300, 202007201}:
		return 13
	case [2]uint32{1300, 202107181}:
		return 14
	case [2]uint32{1300, 202209061}:
		return 15
	case [2]uint32{1300, 202307071}:
		return 16
	case [2]uint32{1700, 202406281}:
		return 17
	case [2]uint32{1800, 202506291}:
		return 18
	default:
		return 0
	}
}

// decodeControl takes the fields as they are.
func decodeControl(b []byte) Control {
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(b[off:]) }
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(b[off:]) }
	count := func(off int) int { return int(int32(u32(off))) }
	instant := func(off int) time.Time { return time.Unix(int64(u64(off)), 0).UTC() }
	return Control{
		SystemID:            u64(offSystemID),
		Version:             u32(offVersion),
		CatalogVersion:      u32(offCatalogVersion),
		State:               State(u32(offState)),
		Updated:             instant(offTime),
		Checkpoint:          wal.LSN(u64(offCheckpoint)),
		Redo:                wal.LSN(u64(offRedo)),
		Timeline:            wal.Timeline(u32(offTimeline)),
		PrevTimeline:        wal.Timeline(u32(offPrevTimeline)),
		NextXID:             u64(offNextXID),
		CheckpointTime:      instant(offCheckpointTime),
		MinRecoveryPoint:    wal.LSN(u64(offMinRecoveryPoint)),
		MinRecoveryTimeline: wal.Timeline(u32(offMinRecoveryTimeline)),
		BackupStart:         wal.LSN(u64(offBackupStart)),
		BackupEnd:           wal.LSN(u64(offBackupEnd)),
		BackupEndRequired:   b[offBackupEndRequired] != 0,
		MaxConnections:      count(offMaxConnections),
		MaxWorkerProcesses:  count(offMaxWorkerProcesses),
		MaxWALSenders:       count(offMaxWALSenders),
		MaxPreparedXacts:    count(offMaxPreparedXacts),
		MaxLocksPerXact:     count(offMaxLocksPerXact),
		BlockSize:           u32(offBlockSize),
		RelSegSize:          u32(offRelSegSize),
		WALBlockSize:        u32(offWALBlockSize),
		SegmentSize:         wal.SegmentSize(u32(offSegmentSize)),
		ChecksumVersion:     u32(offChecksumVersion),
	}
}

// validate refuses values that ReadControlFile and InitializeWalSegmentSize would refuse, and those that would break
// arithmetic later on.
func (c Control) validate(b []byte) error {
	switch align := binary.LittleEndian.Uint32(b[offMaxAlign:]); {
	case align != 8:
		return fmt.Errorf("alignment is %d, not that of a 64-bit machine: %w", align, ErrVersion)
	case !c.SegmentSize.Valid():
		return fmt.Errorf("impossible WAL segment size %d: %w", int64(c.SegmentSize), ErrControl)
	case c.BlockSize < 1<<10 || c.BlockSize > 1<<15 || c.BlockSize&(c.BlockSize-1) != 0:
		return fmt.Errorf("impossible block size %d: %w", c.BlockSize, ErrControl)
	case c.RelSegSize == 0:
		return fmt.Errorf("impossible relation segment size 0: %w", ErrControl)
	case c.SystemID == 0:
		return fmt.Errorf("system identifier 0: %w", ErrControl)
	}
	return nil
}
