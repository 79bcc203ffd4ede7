package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"walden/archive"
	"walden/backup"
	"walden/catalog"
	"walden/codec"
	"walden/postgres/pgdata"
	"walden/postgres/server"
	"walden/storage"
)

func TestExitCodes(t *testing.T) {
	for err, want := range map[error]int{
		nil: exitOK,

		archive.ErrRefused:     exitNo,
		archive.ErrHole:        exitNo,
		archive.ErrNotArchived: exitNo,
		backup.ErrRefused:      exitNo,
		catalog.ErrConflict:    exitNo,
		catalog.ErrUnreachable: exitNo,
		codec.ErrCorrupt:       exitNo,
		errEmpty:               exitNo,
		errNo:                  exitNo,
		pgdata.ErrControl:      exitNo,
		server.ErrBackupVoid:   exitNo,
		server.ErrOtherCluster: exitNo,
		storage.ErrCorrupt:     exitNo,
		storage.ErrNotExist:    exitNo,

		backup.ErrWaiting:        exitMaybe,
		context.Canceled:         exitMaybe,
		context.DeadlineExceeded: exitMaybe,
		os.ErrPermission:         exitMaybe,
		server.ErrDenied:         exitMaybe,
		server.ErrUnavailable:    exitMaybe,
		storage.ErrDenied:        exitMaybe,
		storage.ErrUnavailable:   exitMaybe,
		errors.New("whatever"):   exitMaybe,

		catalog.ErrAmbiguous: exitUsage,
		codec.ErrKey:         exitUsage,
		errUsage:             exitUsage,
		server.ErrConfig:     exitUsage,
		storage.ErrConfig:    exitUsage,
	} {
		if got := exitCode(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
		if err == nil {
			continue
		}
		if got := exitCode(fmt.Errorf("read cluster.json: %w", err)); got != want {
			t.Errorf("%v, wrapped: exit code %d, want %d", err, got, want)
		}
		if got := exitCode(&reported{err}); got != want {
			t.Errorf("%v, reported: exit code %d, want %d", err, got, want)
		}
	}
}

// TestAnOutageIsNeverConclusive: what could not be found out outweighs what was.
func TestAnOutageIsNeverConclusive(t *testing.T) {
	for _, outage := range []error{storage.ErrUnavailable, storage.ErrDenied, context.Canceled, context.DeadlineExceeded} {
		for _, other := range []error{storage.ErrNotExist, storage.ErrCorrupt, archive.ErrNotArchived, catalog.ErrConflict, storage.ErrConfig, errUsage} {
			err := fmt.Errorf("%w: %w", other, outage)
			if got := exitCode(err); got != exitMaybe {
				t.Errorf("%v: exit code %d, want %d", err, got, exitMaybe)
			}
			if endsRecovery(err) {
				t.Errorf("%v ends a recovery", err)
			}
		}
	}
	if err := fmt.Errorf("fetch: %w", archive.ErrNotArchived); !endsRecovery(err) {
		t.Errorf("%v does not end a recovery", err)
	}
}

func TestOneLine(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{usagef("which %s?", "command"), "which command?"},
		{fmt.Errorf("a\nb\n\nc"), "a; b; c"},
		{errors.Join(errors.New("first"), errors.New("second")), "first; second"},
		{fmt.Errorf("%w:\n  two\n  identities", server.ErrOtherCluster), "another cluster's server:\n  two\n  identities"},
	} {
		if got := oneLine(c.err); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
