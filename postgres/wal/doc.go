// Package wal knows the write-ahead log of PostgreSQL 13 to 18 as seen from outside the server: LSNs and timelines, the
// names of the files in pg_wal and in an archive, the header that every segment starts with, timeline history files,
// and backup labels.
//
// Everything here is a value or a pure function: no file is opened. Bytes are those of little-endian machines with
// 8-byte alignment (amd64, arm64, ppc64le, riscv64).
package wal

import "errors"

var (
	// ErrSyntax means that a text (name, LSN, history file, backup label) is not as PostgreSQL writes it.
	ErrSyntax = errors.New("not as PostgreSQL writes it")

	// ErrPageHeader means that bytes are not the first page of a WAL segment of PostgreSQL 13 to 18.
	ErrPageHeader = errors.New("not the start of a WAL segment")

	// ErrMismatch means that a WAL segment is whole, but is not the one that was asked about.
	ErrMismatch = errors.New("WAL segment mismatch")
)
