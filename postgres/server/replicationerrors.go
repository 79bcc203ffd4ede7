package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	// ErrSlotExists: there is a replication slot of that name already, which may
	// be of any kind.
	ErrSlotExists = errors.New("replication slot exists")
	// ErrNoSlot: there is no replication slot of that name.
	ErrNoSlot = errors.New("no such replication slot")
	// ErrSlotInUse: another session streams from the slot. It may be one of ours
	// that was lost, and that the server has yet to notice: see wal_sender_timeout.
	ErrSlotInUse = errors.New("replication slot in use")
	// ErrWALRemoved: the server does not have the WAL asked for any more.
	ErrWALRemoved = errors.New("WAL removed")
	// ErrAhead: the position asked for lies behind the end of the server's WAL. A
	// standby may still get there; a primary has lost what was once there.
	ErrAhead = errors.New("position is ahead of the server")
	// ErrNotInHistory: the timeline asked for is not one that the server's own
	// descends from, or it was left before the position asked for.
	ErrNotInHistory = errors.New("not in the server's history")
	// ErrNoHistory: the server has no history file of that timeline.
	ErrNoHistory = errors.New("no such timeline history")
)

// SQLSTATEs of replication: src/backend/utils/errcodes.txt.
const (
	duplicateObject     = "42710"
	undefinedObject     = "42704" // same as unknownParameter
	objectInUse         = "55006"
	notInPrereqState    = "55000"
	featureNotSupported = "0A000"
	undefinedFile       = "58P01"
	internalError       = "XX000" // what ereport(ERROR) without an errcode gives
)

// withKind gives an error of the server's that has that SQLSTATE a kind.
func withKind(err error, code string, kind error) error {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok && pgErr.Code == code {
		return &failure{kind: kind, text: err.Error(), cause: err}
	}
	return err
}

// replicationError explains a failed attempt to connect to t in replication mode.
func (t target) replicationError(ctx context.Context, err error) error {
	advice := ""
	kind := ErrDenied
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code {
		case insufficientPrivilege:
			advice = "give the role the attribute REPLICATION, or give another user in --dsn"
		case invalidAuthorization:
			advice = "check the user (--dsn, PGUSER), and that pg_hba.conf has a line for database replication that lets it in"
		case tooManyConnections:
			advice, kind = "raise max_wal_senders (wal_level must be replica or logical) or max_connections, or end idle sessions", ErrUnavailable
		}
	}
	if advice == "" || ctx.Err() != nil {
		return t.connectError(ctx, err)
	}
	text := fmt.Sprintf("connect to %s for replication: %s: %s", t, strings.Join(attempts(err), "; "), advice)
	return &failure{kind: kind, text: text, cause: err}
}

// lost is the error of a session that broke off, or that the server ended.
func lost(err error) error {
	f := &failure{kind: ErrUnavailable, text: "the connection was lost: " + asLine(err.Error()), cause: err}
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		f.text = "the server ended the session: " + serverLine(pgErr)
	}
	return f
}
