package pgdata

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tablespaceDir is where a data directory keeps its links to tablespaces.
const tablespaceDir = "pg_tblspc"

// Tablespace is one that was created with CREATE TABLESPACE ... LOCATION.
type Tablespace struct {
	OID      uint32
	Location string // where its link in pg_tblspc points to
}

// Tablespaces lists the links in pg_tblspc, by OID. In-place tablespaces (allow_in_place_tablespaces, a developer's
// option) are directories there and are not listed: they move with PGDATA. A directory without pg_tblspc is
// ErrNoCluster.
func Tablespaces(pgdata string) ([]Tablespace, error) {
	dir := filepath.Join(pgdata, tablespaceDir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list tablespaces: read %s: %w", dir, ErrNoCluster)
	}
	if err != nil {
		return nil, fmt.Errorf("list tablespaces: %w", err)
	}
	var list []Tablespace
	for _, e := range entries {
		oid, ok := parseOID(e.Name())
		if !ok || e.Type()&fs.ModeSymlink == 0 {
			continue
		}
		location, err := os.Readlink(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped just now
		}
		if err != nil {
			return nil, fmt.Errorf("list tablespaces: %w", err)
		}
		list = append(list, Tablespace{OID: oid, Location: location})
	}
	slices.SortFunc(list, func(a, b Tablespace) int { return cmp.Compare(a.OID, b.OID) })
	return list, nil
}

// parseOID reads a decimal OID as PostgreSQL writes it into file names.
func parseOID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != 0 && s[0] != '0'
}

// ParseTablespaceMap reads a tablespace_map file as read_tablespace_map does (src/backend/access/transam/xlogrecovery.c):
// each line has an OID, one space, and a location, in which a backslash goes before each newline, carriage return and
// backslash. Up to 13 none went before a backslash; one that goes before any other byte is taken for that. Anything else is
// ErrSyntax.
func ParseTablespaceMap(b []byte) ([]Tablespace, error) {
	var list []Tablespace
	var line []byte
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\' && i+1 < len(b) && strings.IndexByte("\n\r\\", b[i+1]) >= 0:
			i++
			line = append(line, b[i])
		case c != '\n' && c != '\r':
			line = append(line, c)
		case len(line) > 0: // else it is the newline after a carriage return
			t, err := parseTablespaceLine(string(line))
			if err != nil {
				return nil, err
			}
			list = append(list, t)
			line = line[:0]
		}
	}
	if len(line) > 0 {
		return nil, fmt.Errorf("parse tablespace_map: its last line does not end: %w", ErrSyntax)
	}
	return list, nil
}

func parseTablespaceLine(line string) (Tablespace, error) {
	digits, location, _ := strings.Cut(line, " ")
	oid, ok := parseOID(digits)
	if !ok || location == "" {
		return Tablespace{}, fmt.Errorf("parse tablespace_map: line %q: %w", line, ErrSyntax)
	}
	return Tablespace{OID: oid, Location: location}, nil
}

// FormatTablespaceMap writes a tablespace_map file as do_pg_backup_start of 14 and later does
// (src/backend/access/transam/xlog.c). A server of 13 would misread a location with a backslash: hand it the map that it
// gave out itself.
func FormatTablespaceMap(list []Tablespace) []byte {
	escape := strings.NewReplacer("\n", "\\\n", "\r", "\\\r", "\\", "\\\\")
	var b []byte
	for _, t := range list {
		b = fmt.Appendf(b, "%d %s\n", t.OID, escape.Replace(t.Location))
	}
	return b
}
