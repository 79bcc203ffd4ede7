package wal

import (
	"encoding/binary"
	"fmt"
)

// LongHeaderSize is the size in bytes of the header of a segment's first page: SizeOfXLogLongPHD.
const LongHeaderSize = 40

// Bits of PageHeader.Info: src/include/access/xlog_internal.h. All but the last exist since before 13; that one came
// with 15 and was brought back to all minor releases.
const (
	InfoFirstIsContRecord          uint16 = 0x0001 // the page starts with the rest of a record
	InfoLongHeader                 uint16 = 0x0002
	InfoBackupBlocksRemovable      uint16 = 0x0004
	InfoFirstIsOverwriteContRecord uint16 = 0x0008

	infoAll = InfoFirstIsContRecord | InfoLongHeader | InfoBackupBlocksRemovable | InfoFirstIsOverwriteContRecord
)

// PageHeader is the header of the first page of a WAL segment: XLogLongPageHeaderData,
// src/include/access/xlog_internal.h.
type PageHeader struct {
	Magic       uint16
	Info        uint16      // Info* bits
	Timeline    Timeline    // of the first record on the page
	PageAddr    LSN         // of the page's first byte
	SystemID    uint64      // of the cluster
	SegmentSize SegmentSize // of the cluster
	BlockSize   uint32      // of WAL pages, in bytes
}

// ParseLongHeader reads the header that a segment of PostgreSQL 13 to 18 starts with, from at least LongHeaderSize
// bytes. Anything else is ErrPageHeader, and the error says what was found instead. That the header belongs to the
// segment it was found in is for Check to say.
//
//	 0  uint16  xlp_magic
//	 2  uint16  xlp_info
//	 4  uint32  xlp_tli
//	 8  uint64  xlp_pageaddr
//	16  uint32  xlp_rem_len
//	24  uint64  xlp_sysid
//	32  uint32  xlp_seg_size
//	36  uint32  xlp_xlog_blcksz
func ParseLongHeader(b []byte) (PageHeader, error) {
	if len(b) < LongHeaderSize {
		return PageHeader{}, fmt.Errorf("read WAL page header: %d bytes, want at least %d: %w", len(b), LongHeaderSize, ErrPageHeader)
	}
	le := binary.LittleEndian
	h := PageHeader{
		Magic:       le.Uint16(b[0:]),
		Info:        le.Uint16(b[2:]),
		Timeline:    Timeline(le.Uint32(b[4:])),
		PageAddr:    LSN(le.Uint64(b[8:])),
		SystemID:    le.Uint64(b[24:]),
		SegmentSize: SegmentSize(le.Uint32(b[32:])),
		BlockSize:   le.Uint32(b[36:]),
	}
	if err := h.validate(); err != nil {
		return PageHeader{}, fmt.Errorf("read WAL page header: %w", err)
	}
	return h, nil
}

// validate checks what XLogReaderValidatePageHeader can check without knowing which page it is
// (src/backend/access/transam/xlogreader.c).
func (h PageHeader) validate() error {
	switch {
	case h.Magic == 0 && h.PageAddr == 0:
		return fmt.Errorf("it is all zeros: %w", ErrPageHeader)
	case h.Major() == 0:
		return fmt.Errorf("magic %04X is of no PostgreSQL from 13 to 18: %w", h.Magic, ErrPageHeader)
	case h.Info&^infoAll != 0:
		return fmt.Errorf("unknown flags %04X: %w", h.Info, ErrPageHeader)
	case h.Info&InfoLongHeader == 0:
		return fmt.Errorf("flags %04X are those of a later page of a segment: %w", h.Info, ErrPageHeader)
	case !h.SegmentSize.Valid():
		return fmt.Errorf("impossible segment size %d: %w", int64(h.SegmentSize), ErrPageHeader)
	case !validBlockSize(h.BlockSize):
		return fmt.Errorf("impossible WAL block size %d: %w", h.BlockSize, ErrPageHeader)
	case h.Timeline == 0:
		return fmt.Errorf("timeline 0: %w", ErrPageHeader)
	}
	return nil
}

// validBlockSize tells whether a server can be built with WAL pages of n bytes (configure --with-wal-blocksize).
func validBlockSize(n uint32) bool { return n >= 1<<10 && n <= 1<<16 && n&(n-1) == 0 }

// Major is the PostgreSQL major version whose servers write this magic (XLOG_PAGE_MAGIC,
// src/include/access/xlog_internal.h), or 0 if none of 13 to 18 does.
func (h PageHeader) Major() int {
	switch h.Magic {
	case 0xD106:
		return 13
	case 0xD10D:
		return 14
	case 0xD110:
		return 15
	case 0xD113:
		return 16
	case 0xD116:
		return 17
	case 0xD118:
		return 18
	default:
		return 0
	}
}

// Check tells whether a segment that starts with h is the segment called name of the cluster sysid (0: of any cluster)
// with segments of this size. If not, the error is ErrMismatch and names both values.
//
// The page's timeline may be lower than the name's: the first segment of a new timeline starts with a copy of its
// parent's pages. A higher one can't be.
func (h PageHeader) Check(name Segment, sysid uint64, size SegmentSize) error {
	switch {
	case sysid != 0 && h.SystemID != sysid:
		return fmt.Errorf("%s is of the cluster with system identifier %d, not of %d: %w", name, h.SystemID, sysid, ErrMismatch)
	case h.SegmentSize != size:
		return fmt.Errorf("%s has segment size %s, the cluster has %s: %w", name, h.SegmentSize, size, ErrMismatch)
	case !name.ValidFor(size):
		return fmt.Errorf("%s can't be the name of a segment where segments are of %s: %w", name, size, ErrMismatch)
	case h.PageAddr != name.Start(size):
		return fmt.Errorf("%s starts with the page at %s, its name says %s: %w", name, h.PageAddr, name.Start(size), ErrMismatch)
	case h.Timeline > name.Timeline:
		return fmt.Errorf("%s starts with a page of timeline %d, its name says %d: %w", name, h.Timeline, name.Timeline, ErrMismatch)
	}
	return nil
}
