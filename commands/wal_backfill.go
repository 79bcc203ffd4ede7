package commands

import (
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"walden/archive"
)

// backfillWAL is wal-push --backfill: an operator's command.
func (p *program) backfillWAL(c *cli.Context) error {
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	t, err := p.dataDirectory(c, p.operatorsPlaces())
	if err != nil {
		return err
	}
	if t.dir == "" {
		return usagef("which cluster? run it in the data directory, or give --pgdata")
	}
	if t, err = p.clusterOf(c, store, []string{t.dir}); err != nil {
		return err
	}
	walDir := filepath.Join(t.dir, "pg_wal")
	opts, err := p.pushOptions(c, t, loc, filepath.Join(walDir, "any"))
	if err != nil {
		return err
	}
	res, err := archive.Backfill(c.Context, t.repo, walDir, aheadOf(c), opts)
	for _, name := range res.Stored {
		if _, err := fmt.Fprintf(p.env.Stdout, "stored %s\n", name); err != nil {
			return err
		}
	}
	p.reportGaps(res.Gaps, res.GapsError)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.env.Stdout, "the repository holds all %d WAL files that are complete in %s; %d were lacking\n", res.Looked, walDir, len(res.Stored))
	return err
}
