package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSTATEs: src/backend/utils/errcodes.txt.
const (
	insufficientPrivilege = "42501"
	invalidAuthorization  = "28000" // no such role, no line in pg_hba.conf, peer's name differs
	invalidPassword       = "28P01"
	noSuchDatabase        = "3D000"
	invalidParameter      = "22023" // a value in options that the server refuses
	unknownParameter      = "42704"
	tooManyConnections    = "53300"
	cannotConnectNow      = "57P03" // starting, stopping, or a standby without hot_standby
)

const startAdvice = "start the server, or give --dsn / PGHOST / PGPORT"

// connectError explains a failed attempt to connect to t.
func (t target) connectError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("connect to %s: %w", t, contextError(ctx))
	}
	advice, kind := diagnose(err)
	text := fmt.Sprintf("connect to %s: %s: %s", t, strings.Join(attempts(err), "; "), advice)
	return &failure{kind: kind, text: text, cause: err}
}

// diagnose tells what to do about the most telling of the attempts, and what
// sort of failure it was. A server that answered tells more than a socket
// that didn't.
func diagnose(err error) (advice string, kind error) {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return diagnoseServer(pgErr.Code)
	}
	_, isDNS := errors.AsType[*net.DNSError](err)
	switch {
	case isDNS:
		return "check the host name in --dsn or PGHOST", ErrUnavailable
	case errors.Is(err, fs.ErrPermission):
		return "run as a user who may use that socket, or give --dsn / PGHOST", ErrDenied
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return startAdvice, ErrUnavailable
	case pgconn.Timeout(err):
		return "check host and port, the network and firewalls between, and that the server isn't stuck", ErrUnavailable
	}
	return "check that a PostgreSQL server listens there, and sslmode", ErrUnavailable
}

func diagnoseServer(code string) (advice string, kind error) {
	switch code {
	case invalidPassword, invalidAuthorization:
		return "check user and password (--dsn, PGUSER, PGPASSWORD, ~/.pgpass) and the server's pg_hba.conf", ErrDenied
	case insufficientPrivilege:
		return "grant the role CONNECT on the database, or give another user or dbname in --dsn", ErrDenied
	case noSuchDatabase:
		return "give an existing database as dbname in --dsn or as PGDATABASE", ErrConfig
	case invalidParameter, unknownParameter:
		return "correct the server settings in --dsn or PGOPTIONS", ErrConfig
	case cannotConnectNow:
		return "wait until the server accepts connections; a standby needs hot_standby = on", ErrUnavailable
	case tooManyConnections:
		return "end idle sessions or raise max_connections, or connect as a superuser", ErrUnavailable
	}
	return "see the server's log", ErrUnavailable
}

// attempts tells in a few words why each attempt to connect failed.
func attempts(err error) []string {
	var list []string
	for _, e := range leaves(err) {
		if s := attempt(e); !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	for e := err; e != nil; e = errors.Unwrap(e) {
		joined, ok := e.(interface{ Unwrap() []error })
		if !ok {
			continue
		}
		var list []error
		for _, part := range joined.Unwrap() {
			list = append(list, leaves(part)...)
		}
		return list
	}
	return []error{err}
}

func attempt(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return serverLine(pgErr)
	}
	if pgconn.Timeout(err) {
		return "no answer in time"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" && op.Addr != nil {
		reason := op.Err
		if errno, ok := errors.AsType[syscall.Errno](reason); ok {
			reason = errno
		}
		return asLine(op.Addr.String() + ": " + reason.Error())
	}
	return asLine(err.Error())
}
