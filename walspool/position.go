package walspool

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"walden/postgres/wal"
)

// Position is a byte of the WAL of a timeline.
type Position struct {
	Timeline wal.Timeline
	LSN      wal.LSN
}

// IsZero tells whether p is no position.
func (p Position) IsZero() bool { return p == Position{} }

// String is for messages.
func (p Position) String() string { return fmt.Sprintf("%s of timeline %d", p.LSN, p.Timeline) }

// later returns the one of two positions that is of the newer timeline, or later on
// the same.
func (p Position) later(other Position) Position {
	if other.Timeline > p.Timeline || other.Timeline == p.Timeline && other.LSN > p.LSN {
		return other
	}
	return p
}

// positionSize is the length of a record: far less than what disks write at once.
const positionSize = 8 + 1 + 16 + 1 + 8 + 1

// record is the timeline, the LSN and the CRC-32C of both as upper-case digits.
func (p Position) record() []byte {
	text := fmt.Appendf(nil, "%s %016X", p.Timeline, uint64(p.LSN))
	return fmt.Appendf(text, " %08X\n", crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)))
}

var errRecord = errors.New("no record of a position")

// parsePosition reads a record. Anything else is no position.
func parsePosition(record []byte) (Position, error) {
	if len(record) != positionSize {
		return Position{}, errRecord
	}
	t, err := wal.ParseTimeline(string(record[:8]))
	if err != nil {
		return Position{}, errRecord
	}
	lsn, err := strconv.ParseUint(string(record[9:25]), 16, 64)
	if err != nil {
		return Position{}, errRecord
	}
	p := Position{Timeline: t, LSN: wal.LSN(lsn)}
	if t == 0 || string(p.record()) != string(record) {
		return Position{}, errRecord
	}
	return p, nil
}
