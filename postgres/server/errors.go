package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrConfig: the connection settings can't be used as they are.
	ErrConfig = errors.New("unusable connection settings")
	// ErrUnavailable: no answer from the server now. It is down, starting,
	// full or unreachable, or the connection was lost.
	ErrUnavailable = errors.New("server not available")
	// ErrDenied: the server, or the file system on the way to it, refused the
	// role, its password or a privilege.
	ErrDenied = errors.New("access denied")
	// ErrOtherCluster: the server that answers does not run the data
	// directory it was asked about.
	ErrOtherCluster = errors.New("another cluster's server")
	// ErrBackupVoid: the backup that was begun has no valid end. Nothing that
	// was copied since StartBackup may be used.
	ErrBackupVoid = errors.New("backup void")
)

// failure is an error whose text is for people, in one line without secrets,
// and whose kind and cause, where there are any, are for errors.Is and
// errors.As. The text tells the cause already.
type failure struct {
	kind  error
	text  string
	cause error
}

func (f *failure) Error() string { return f.text }

func (f *failure) Unwrap() []error {
	var errs []error
	for _, err := range []error{f.kind, f.cause} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// statementError explains why a statement failed. The caller says which one.
func (c *Conn) statementError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	f := &failure{text: asLine(err.Error()), cause: err}
	pgErr, isServer := errors.AsType[*pgconn.PgError](err)
	if isServer {
		f.text = serverLine(pgErr)
	}
	switch {
	case c.pg.IsClosed():
		f.kind = ErrUnavailable
		f.text = "the connection was lost: " + f.text
	case isServer && pgErr.Code == insufficientPrivilege:
		f.kind = ErrDenied
		f.text += ": connect as a superuser, or grant it to this role"
	}
	return f
}

// contextError is for work that the context ended. Where that was a deadline,
// the server did not answer in time, which is ErrUnavailable too.
func contextError(ctx context.Context) error {
	f := &failure{kind: ctx.Err(), text: ctx.Err().Error()}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		f.cause = ErrUnavailable
		f.text = "no answer from the server in time"
	}
	return f
}

// serverLine is all that the server says of an error, in one line.
func serverLine(e *pgconn.PgError) string {
	s := e.Severity + ": " + e.Message
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return asLine(fmt.Sprintf("%s [SQLSTATE %s]", s, e.Code))
}

// asLine puts text that others wrote on one line of valid UTF-8. Servers
// answer in their own encoding and language.
func asLine(s string) string {
	return strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
}
