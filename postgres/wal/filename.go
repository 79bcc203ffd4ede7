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
)

// Kind is what a file that PostgreSQL archives holds.
type Kind int

const (
	KindSegment       Kind = iota + 1 // 000000010000000000000002: a whole segment
	KindPartial                       // 000000010000000000000002.partial: the last, unfinished segment of a timeline that ended
	KindBackupHistory                 // 000000010000000000000002.00000028.backup: written when a base backup stops
	KindHistory                       // 00000002.history: where a timeline comes from
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
	default:
		return fmt.Sprintf("kind %d", int(k))
	}
}

// FileName is the parsed name of a file that PostgreSQL hands to archive_command or asks restore_command for.
type FileName struct {
	Kind     Kind
	Timeline Timeline
	Segment  Segment // zero for KindHistory
	Offset   uint32  // where in Segment the backup starts; KindBackupHistory only
}

// ParseFileName reads the names that PostgreSQL gives to such files, and no others (ErrSyntax): digits are upper-case,
// nothing leads or trails. It accepts what IsXLogFileName, IsPartialXLogFileName and IsTLHistoryFileName accept
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
	digits, isBackup := strings.CutSuffix(rest, backupSuffix)
	if !isBackup || len(digits) != 9 || digits[0] != '.' || !isUpperHex(digits[1:]) {
		return bad()
	}
	f.Kind = KindBackupHistory
	f.Offset, _ = parseHex(digits[1:], 8)
	return f, nil
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
	default:
		return ""
	}
}
