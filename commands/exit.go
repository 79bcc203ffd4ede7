package commands

import (
	"context"
	"errors"

	"walden/archive"
	"walden/backup"
	"walden/catalog"
	"walden/codec"
	"walden/postgres/pgdata"
	"walden/postgres/server"
	"walden/storage"
	"walden/walspool"
)

// Exit codes of every command; docs/exit-codes.md lists them for operators.
const (
	exitOK    = 0  // yes, done
	exitNo    = 1  // conclusive: damaged, missing, refused, conflict
	exitMaybe = 2  // can't tell, or could not now
	exitUsage = 64 // wrong usage or configuration
)

// errNo is a conclusive no for which the report was printed already.
var errNo = &reported{errors.New("no")}

// reported is an error that a command's report has told already.
type reported struct{ cause error }

func (r *reported) Error() string { return r.cause.Error() }
func (r *reported) Unwrap() error { return r.cause }

// exitCode says what an error means to whoever called the program. What is not
// known to be conclusive is not.
func exitCode(err error) int {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return exitOK
	case is(backup.ErrWaiting, storage.ErrUnavailable, storage.ErrDenied, server.ErrUnavailable, server.ErrDenied,
		context.Canceled, context.DeadlineExceeded):
		return exitMaybe
	case is(errUsage, storage.ErrConfig, server.ErrConfig, codec.ErrKey, catalog.ErrAmbiguous):
		return exitUsage
	case is(errNo, errEmpty, archive.ErrRefused, archive.ErrNotArchived, archive.ErrHole, backup.ErrRefused, server.ErrOtherCluster, server.ErrBackupVoid,
		server.ErrNoSlot, server.ErrWALRemoved, archive.ErrForked, walspool.ErrDiffers,
		catalog.ErrConflict, catalog.ErrUnreachable, storage.ErrNotExist, storage.ErrCorrupt, codec.ErrCorrupt, codec.ErrNoIdentity, codec.ErrWrongIdentity,
		pgdata.ErrControl, pgdata.ErrVersion, pgdata.ErrTablespace):
		return exitNo
	}
	return exitMaybe
}
