package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"walden/archive"
	"walden/codec"
	"walden/postgres/wal"
	"walden/walspool"
)

const walFetchName = "wal-fetch"

// What wal-fetch tells PostgreSQL, besides 0: see RestoreArchivedFile,
// src/backend/access/transam/xlogarchive.c. Codes above 125 stop the server.
const (
	restoreEnd   = 1   // the archive ends here: recovery ends, a standby looks elsewhere
	restoreRetry = 2   // a standby asks again
	restoreStop  = 200 // recovery stops instead of ending early and promoting
)

func (p *program) walFetch() *cli.Command {
	return p.command(&cli.Command{
		Name:      walFetchName,
		Usage:     "hand over a WAL file from the repository (restore_command)",
		ArgsUsage: "%f %p",
		Description: `In postgresql.conf:

   restore_command = '/usr/local/bin/walden wal-fetch --repo s3://bucket/prefix %f %p'

The file is verified (length, SHA-256, page header: system identifier, timeline, address) before
it appears under %p. Exit codes are those that keep recovery from ending too early:

   0     handed over
   1     the archive does not have it, and nothing later of its timeline: recovery ends here
   2     on a standby (standby.signal is there), for everything else: it asks again
   200   otherwise, for everything else: storage unreachable or denied, a damaged object, a hole in
         the WAL, wrong usage. PostgreSQL stops and does not promote; start it again when it's mended`,
		Flags: concat(repoFlags(walTimeout), []cli.Flag{serverDataFlag(), clusterFlag(), identityFlag(), spoolFlag(), fetchAheadFlag()}),
		Action: func(c *cli.Context) error {
			p.log.quiet()
			if err := arguments(c, 2, 2); err != nil {
				return err
			}
			return p.fetchWAL(c, c.Args().Get(0), c.Args().Get(1))
		},
	})
}

func (p *program) fetchWAL(c *cli.Context, file, path string) error {
	name, err := wal.ParseFileName(file)
	if err != nil {
		return usagef("%s: %w", file, errNotWAL)
	}
	ids, err := identities(c)
	if err != nil {
		return err
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	t, err := p.clusterOf(c, store, p.serversPlaces(path))
	if err != nil {
		return err
	}
	size, err := t.segmentSize(c.Context)
	if err != nil {
		return err
	}
	// The file itself takes shape beside its place, whatever is wrong with the
	// disk of --spool: that is for what is prefetched.
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("hand over %s: %w", name, err)
	}
	beside, err := walspool.Open(filepath.Join(filepath.Dir(path), walspool.Hidden))
	if err != nil {
		return err
	}
	ahead := p.openAhead(c, t, loc, name, path, beside)
	err = archive.Fetch(c.Context, t.repo, name, path, archive.FetchOptions{SegmentSize: size, Identities: ids, Spool: beside, Window: ahead.window, Tail: p.allowTail()})
	if err == nil {
		ahead.goOn(name.Segment)
	}
	return err
}

// advise adds what to do about errors of which the core can't know it.
func advise(err error) error {
	switch {
	case errors.Is(err, codec.ErrNoIdentity):
		return fmt.Errorf("%w: give the age private key with --identity", err)
	case errors.Is(err, codec.ErrCorrupt):
		return fmt.Errorf("%w: the repository's object is damaged: move it away, and store the file again with wal-push "+
			"from pg_wal of the old primary or of a standby", err)
	}
	return err
}

// endsRecovery reports whether an error is the conclusive end of the archive, and
// nothing that could not be found out.
func endsRecovery(err error) bool {
	return errors.Is(err, archive.ErrNotArchived) && exitCode(err) == exitNo
}

// walFetchCode reports why wal-fetch failed, and is its exit code. Only what the
// archive conclusively does not have may end recovery; every recovery ends with
// that, so it is no error.
func (p *program) walFetchCode(err error) int {
	if endsRecovery(err) {
		p.log.Info().Msg(fmt.Sprintf("%s: %s", walFetchName, oneLine(err)))
		return restoreEnd
	}
	p.log.fail(walFetchName, advise(err))
	// PostgreSQL runs restore_command in the data directory. Nothing else may say
	// that this is a standby: its code 2 would end a recovery.
	if _, err := os.Stat("standby.signal"); err == nil {
		return restoreRetry
	}
	return restoreStop
}
