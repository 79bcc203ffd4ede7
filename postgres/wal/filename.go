package wal

import (
	"fmt"
	"strings"
)

// Parts of file names: src/include/access/xlog_internal.h.
const (
	segmentNameLen = 24 // XLOG_FNAME_LEN
	partialSuffix  = ".partial"
	backupSuffix   = ".backup"
	historySuffix  = ".history"

	tailSuffix = ".tail" // walden's own
)

// Kind is what a WAL file of an archive holds.
type Kind int

const (
	KindSegment       Kind = iota + 1 // 000000010000000000000002: a whole segment
	KindPartial                       // 000000010000000000000002.partial: the last, unfinished segment of a timeline that ended
	KindBackupHistory                 // 000000010000000000000002.00000028.backup: written when a base backup stops
	KindHistory                       // 00000002.history: where a timeline comes from
	KindTail                          // 000000010000000000000002.0000000002A1B2C8.tail: the beginning of a segment, up to that LSN
)

// String names the kind for messages.
func (k Kind) String() string {
	switch k {
	case KindSegment:
		return "WAL segment"
	case KindPartial:
		return "partial WAL segment"
	case KindBackupHistory:
		return "backup history file"
	case KindHistory:
		return "timeline history file"
	case KindTail:
		return "beginning of a WAL segment"
	default:
		return fmt.Sprintf("kind %d", int(k))
	}
}

// FileName is the parsed name of a file that PostgreSQL hands to archive_command or asks restore_command for, or of a
// tail, which only archives hold: what there was of the segment at the end of the WAL at some moment.
type FileName struct {
	Kind     Kind
	Timeline Timeline
	Segment  Segment // zero for KindHistory
	Offset   uint32  // where in Segment the backup starts; KindBackupHistory only
	End      LSN     // after the last byte that is there; KindTail only. Whether it lies in Segment depends on the segment size
}

// ParseFileName reads the names of such files, and no others (ErrSyntax): digits are upper-case, nothing leads or
// trails. It accepts what IsXLogFileName, IsPartialXLogFileName and IsTLHistoryFileName accept
// (src/include/access/xlog_internal.h). For backup history files it holds to the form that BackupHistoryFileName
// writes there; IsBackupHistoryFileName lets anything stand between the segment and ".backup".
func ParseFileName(name string) (FileName, error) {
	bad := func() (FileName, error) {
		return FileName{}, fmt.Errorf("parse WAL file name %q: %w", name, ErrSyntax)
	}
	if tli, ok := strings.CutSuffix(name, historySuffix); ok {
		t, err := ParseTimeline(tli)
		if err != nil {
			return bad()
		}
		return FileName{Kind: KindHistory, Timeline: t}, nil
	}
	if len(name) < segmentNameLen || !isUpperHex(name[:segmentNameLen]) {
		return bad()
	}
	seg, rest := parseSegmentDigits(name), name[segmentNameLen:]
	f := FileName{Timeline: seg.Timeline, Segment: seg}
	switch rest {
	case "":
		f.Kind = KindSegment
		return f, nil
	case partialSuffix:
		f.Kind = KindPartial
		return f, nil
	}
	if digits, ok := cutDigits(rest, backupSuffix, 8); ok {
		f.Kind = KindBackupHistory
		f.Offset, _ = parseHex(digits, 8)
		return f, nil
	}
	if digits, ok := cutDigits(rest, tailSuffix, 16); ok {
		f.Kind = KindTail
		hi, _ := parseHex(digits[:8], 8)
		lo, _ := parseHex(digits[8:], 8)
		f.End = LSN(hi)<<32 | LSN(lo)
		return f, nil
	}
	return bad()
}

// cutDigits takes n digits from between a dot and a suffix.
func cutDigits(s, suffix string, n int) (digits string, ok bool) {
	digits, ok = strings.CutSuffix(s, suffix)
	if !ok || len(digits) != n+1 || digits[0] != '.' || !isUpperHex(digits[1:]) {
		return "", false
	}
	return digits[1:], true
}

// String is the name that ParseFileName read. It is empty for a value of no Kind.
func (f FileName) String() string {
	switch f.Kind {
	case KindSegment:
		return f.Segment.String()
	case KindPartial:
		return f.Segment.String() + partialSuffix
	case KindBackupHistory:
		return fmt.Sprintf("%s.%08X%s", f.Segment, f.Offset, backupSuffix)
	case KindHistory:
		return f.Timeline.String() + historySuffix
	case KindTail:
		return fmt.Sprintf("%s.%016X%s", f.Segment, uint64(f.End), tailSuffix)
	default:
		return ""
	}
}
