package pgdata

// Tablespace is one that was created with CREATE TABLESPACE ... LOCATION.
type Tablespace struct {
	OID      uint32
	Location string // where the link in pg_tblspc points to
}

// Tablespaces lists the links in pg_tblspc, by OID. In-place tablespaces (allow_in_place_tablespaces, a developer's
// option) are directories there and are not listed: they move with PGDATA.
func Tablespaces(pgdata string) ([]Tablespace, error) { return nil, nil }

// ParseTablespaceMap reads a tablespace_map file, as read_tablespace_map does (src/backend/access/transam/xlogrecovery.c).
// Anything but lines of an OID, a space and a location is ErrSyntax.
func ParseTablespaceMap(b []byte) ([]Tablespace, error) { return nil, nil }

// FormatTablespaceMap writes a tablespace_map file, as do_pg_backup_start does (src/backend/access/transam/xlog.c): a
// backslash goes before each newline, carriage return and backslash in a location.
func FormatTablespaceMap(list []Tablespace) []byte { return nil }
