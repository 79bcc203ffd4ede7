package wal

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a segment's size: WalSegMinSize and WalSegMaxSize, src/include/access/xlog_internal.h.
const (
	MinSegmentSize     SegmentSize = 1 << 20
	MaxSegmentSize     SegmentSize = 1 << 30
	DefaultSegmentSize SegmentSize = 16 << 20
)

// SegmentSize is the size of a cluster's WAL segments in bytes. initdb fixes it; pg_resetwal can change it.
type SegmentSize int64

// ParseSegmentSize reads what SHOW wal_segment_size prints (16MB, 1GB), or a plain number of bytes. A size that no
// cluster can have is ErrSyntax, like any other text.
func ParseSegmentSize(s string) (SegmentSize, error) {
	digits, unit := s, int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}} {
		if d, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, unit = d, u.bytes
		}
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || int64(n) > int64(MaxSegmentSize)/unit || !SegmentSize(int64(n)*unit).Valid() {
		return 0, fmt.Errorf("parse WAL segment size %q (a power of two from 1MB to 1GB): %w", s, ErrSyntax)
	}
	return SegmentSize(int64(n) * unit), nil
}

// Valid tells whether a cluster can have segments of this size: IsValidWalSegSize, src/include/access/xlog_internal.h.
func (s SegmentSize) Valid() bool {
	return s >= MinSegmentSize && s <= MaxSegmentSize && s&(s-1) == 0
}

// PerLog is the number of segments in one "log" of 4 GiB: XLogSegmentsPerXLogId. It is 0 for an invalid size.
func (s SegmentSize) PerLog() uint64 {
	if !s.Valid() {
		return 0
	}
	return (1 << 32) / uint64(s)
}

// String gives a valid size as PostgreSQL shows it (16MB, 1GB), and the bytes of any other number.
func (s SegmentSize) String() string {
	switch {
	case !s.Valid():
		return strconv.FormatInt(int64(s), 10) + " bytes"
	case s == MaxSegmentSize:
		return "1GB"
	default:
		return strconv.FormatInt(int64(s>>20), 10) + "MB"
	}
}

// Segment names one WAL segment of one timeline by the three numbers that its file name is made of. Which part of the
// WAL it holds depends on the cluster's segment size; the methods that take one return zero for a size that is not
// Valid.
type Segment struct {
	Timeline Timeline
	Log      uint32 // upper 32 bits of the LSNs inside
	Seg      uint32 // counts from 0 within a log
}

// ParseSegment reads a segment's file name: exactly 24 upper-case hexadecimal digits, as IsXLogFileName has it
// (src/include/access/xlog_internal.h). Any other text is ErrSyntax. Whether a cluster can have a segment of that
// name depends on its segment size: see ValidFor.
func ParseSegment(name string) (Segment, error) {
	if len(name) != segmentNameLen || !isUpperHex(name) {
		return Segment{}, fmt.Errorf("parse WAL segment name %q: %w", name, ErrSyntax)
	}
	return parseSegmentDigits(name), nil
}

// parseSegmentDigits takes a name that is known to be 24 upper-case hexadecimal digits.
func parseSegmentDigits(name string) Segment {
	tli, _ := parseHex(name[:8], 8)
	log, _ := parseHex(name[8:16], 8)
	seg, _ := parseHex(name[16:24], 8)
	return Segment{Timeline: Timeline(tli), Log: log, Seg: seg}
}

// SegmentAt is the segment that holds the byte at lsn: XLByteToSeg.
func SegmentAt(tli Timeline, lsn LSN, size SegmentSize) Segment {
	if !size.Valid() {
		return Segment{}
	}
	return NumberedSegment(tli, uint64(lsn)/uint64(size), size)
}

// SegmentBefore is the segment that holds the last byte before lsn: XLByteToPrevSeg. It is the one to ask for where
// lsn is an end, such as the stop LSN of a backup: an lsn on a boundary needs nothing of the segment that starts there.
func SegmentBefore(tli Timeline, lsn LSN, size SegmentSize) Segment {
	if lsn == 0 {
		return SegmentAt(tli, 0, size)
	}
	return SegmentAt(tli, lsn-1, size)
}

// NumberedSegment is the segment of a timeline whose Number is n.
func NumberedSegment(tli Timeline, n uint64, size SegmentSize) Segment {
	per := size.PerLog()
	if per == 0 {
		return Segment{}
	}
	return Segment{Timeline: tli, Log: uint32(n / per), Seg: uint32(n % per)}
}

// String is the segment's file name.
func (s Segment) String() string {
	return fmt.Sprintf("%08X%08X%08X", uint32(s.Timeline), s.Log, s.Seg)
}

// IsZero tells whether s names nothing: no timeline is 0.
func (s Segment) IsZero() bool { return s == Segment{} }

// Compare orders segments as their names sort: by timeline, then by position.
func (s Segment) Compare(other Segment) int {
	return cmp.Or(
		cmp.Compare(s.Timeline, other.Timeline),
		cmp.Compare(s.Log, other.Log),
		cmp.Compare(s.Seg, other.Seg),
	)
}

// Less tells whether s sorts before other; see Compare.
func (s Segment) Less(other Segment) bool { return s.Compare(other) < 0 }

// ValidFor tells whether a cluster with segments of this size can have a segment of this name.
func (s Segment) ValidFor(size SegmentSize) bool { return uint64(s.Seg) < size.PerLog() }

// Number counts the segment from the start of the WAL, whatever its timeline: PostgreSQL's XLogSegNo.
func (s Segment) Number(size SegmentSize) uint64 {
	return uint64(s.Log)*size.PerLog() + uint64(s.Seg)
}

// Start is the LSN of the segment's first byte.
func (s Segment) Start(size SegmentSize) LSN {
	if !size.Valid() {
		return 0
	}
	return LSN(s.Number(size) * uint64(size))
}

// End is the LSN after the segment's last byte. It is 0 for the very last segment of the 64-bit space.
func (s Segment) End(size SegmentSize) LSN {
	if !size.Valid() {
		return 0
	}
	return s.Start(size) + LSN(size)
}

// Next is the segment that follows on the same timeline; after the very last of the 64-bit space, the first.
func (s Segment) Next(size SegmentSize) Segment { return SegmentAt(s.Timeline, s.End(size), size) }
