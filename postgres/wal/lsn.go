package wal

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a log sequence number: a byte position in the write-ahead log. Zero is PostgreSQL's InvalidXLogRecPtr.
type LSN uint64

// ParseLSN reads the text form of an LSN, as pg_lsn_in does (src/backend/utils/adt/pg_lsn.c): two hexadecimal numbers
// of one to eight digits with a slash between, in either case. Any other text is ErrSyntax.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	h, errHi := parseHex(hi, 1)
	l, errLo := parseHex(lo, 1)
	if !ok || errHi != nil || errLo != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, ErrSyntax)
	}
	return LSN(h)<<32 | LSN(l), nil
}

// String gives the form that PostgreSQL 13 to 18 print, such as 16/B374D848.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// IsZero tells whether l is InvalidXLogRecPtr.
func (l LSN) IsZero() bool { return l == 0 }

// Timeline is a timeline ID. Real ones start at 1.
type Timeline uint32

// ParseTimeline reads a timeline as it stands in file names: exactly eight upper-case hexadecimal digits. Any other
// text is ErrSyntax.
func ParseTimeline(s string) (Timeline, error) {
	if len(s) != 8 || !isUpperHex(s) {
		return 0, fmt.Errorf("parse timeline %q: %w", s, ErrSyntax)
	}
	n, err := parseHex(s, 8)
	return Timeline(n), err
}

// String gives the eight digits that stand in file names. PostgreSQL's messages and functions use decimal instead.
func (t Timeline) String() string { return fmt.Sprintf("%08X", uint32(t)) }

// parseHex reads between least and 8 hexadecimal digits, and nothing else.
func parseHex(s string, least int) (uint32, error) {
	n, err := strconv.ParseUint(s, 16, 32)
	if err != nil || len(s) < least || len(s) > 8 {
		return 0, ErrSyntax
	}
	return uint32(n), nil
}

// isUpperHex is strspn(s, "0123456789ABCDEF") == strlen(s).
func isUpperHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}
