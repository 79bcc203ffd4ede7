// Package pgdata knows the data directory of PostgreSQL 13 to 18: pg_control, postmaster.pid, tablespaces, and which
// files belong in a base backup. It only reads, and talks to no server.
package pgdata

import "errors"

var (
	// ErrNoCluster means that a directory is no data directory: it has no global/pg_control.
	ErrNoCluster = errors.New("no PostgreSQL data directory")

	// ErrControl means that bytes are not an undamaged pg_control.
	ErrControl = errors.New("not a valid pg_control")

	// ErrVersion means that a cluster is not of a release of PostgreSQL 13 to 18.
	ErrVersion = errors.New("unsupported PostgreSQL version")

	// ErrNotRunning means that a data directory has no postmaster.pid: no server is running there.
	ErrNotRunning = errors.New("no server running")

	// ErrSyntax means that a file's content is not as PostgreSQL writes it.
	ErrSyntax = errors.New("not as PostgreSQL writes it")

	// ErrTablespace means that what a link in pg_tblspc points to is not there.
	ErrTablespace = errors.New("tablespace is missing")
)
