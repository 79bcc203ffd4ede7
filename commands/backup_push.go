package commands

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"walden/backup"
	"walden/codec"
	"walden/postgres/pgdata"
	"walden/postgres/server"
)

// storeTimeout is how long commands for operators keep trying storage.
const storeTimeout = time.Minute

func (p *program) backupPush() *cli.Command {
	return p.command(&cli.Command{
		Name:      "backup-push",
		Usage:     "take a base backup of a running cluster",
		ArgsUsage: "[PGDATA]",
		Description: `Port and socket come from postmaster.pid; PG* variables and --dsn win. Before anything is stored,
the server must prove that it is the server of that data directory. When the command exits 0, the
backup and all the WAL it needs are in the repository. It exits 2 when WAL does not arrive within
--wait-timeout: the backup then shows as waiting-for-wal, and becomes complete when the WAL does.`,
		Flags: concat(repoFlags(storeTimeout), encryptFlags(codec.LevelDefault), []cli.Flag{
			pgdataFlag(),
			dsnFlag(),
			stringFlag("checkpoint", "fast", "`HOW`how to begin: fast, or spread for a slow checkpoint that spares the disks"),
			intFlag("jobs", "how many slices to build at once"),
			boolFlag("no-wait", "don't wait for the WAL that the backup needs"),
			durationFlag("wait-timeout", backup.DefaultWaitTimeout, "how long to wait for that WAL"),
		}),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 1); err != nil {
				return err
			}
			return p.pushBackup(c)
		},
	})
}

func (p *program) pushBackup(c *cli.Context) error {
	store, _, err := p.openStore(c)
	if err != nil {
		return err
	}
	codecOptions, err := objectOptions(c)
	if err != nil {
		return err
	}
	if c.Duration("wait-timeout") <= 0 {
		return usagef("--wait-timeout must be more than 0; --no-wait doesn't wait")
	}
	spread := c.String("checkpoint") == "spread"
	if !spread && c.String("checkpoint") != "fast" {
		return usagef("--checkpoint is fast or spread, not %q", c.String("checkpoint"))
	}
	dir, err := p.runningDirectory(c)
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the name of this host: %w", err)
	}
	report := newProgress(p.log)
	defer report.close()
	b, err := backup.Push(c.Context, store, backup.PushOptions{
		PGData:      dir,
		Server:      server.Config{DSN: c.String("dsn"), Env: p.env.Getenv},
		Spread:      spread,
		Jobs:        c.Int("jobs"),
		Level:       codecOptions.Level,
		Recipients:  codecOptions.Recipients,
		NoWait:      c.Bool("no-wait"),
		WaitTimeout: c.Duration("wait-timeout"),
		Host:        host,
		Version:     p.env.Version,
		Report:      report,
	})
	if err != nil {
		return err
	}
	report.Step(fmt.Sprintf("backup %s is %s: %s in %d files, stored as %s, recoverable from %s on",
		b.ID, pushed(c.Bool("no-wait")), size(b.Bytes), b.Files, size(b.StoredBytes), b.StoppedAt.Format(time.RFC3339)))
	return nil
}

func pushed(noWait bool) string {
	if noWait {
		return "stored; its WAL was not waited for"
	}
	return "complete"
}

// runningDirectory returns the data directory to back up. What is named must be
// one, PGDATA as well: a misspelt name must not lead to another cluster.
func (p *program) runningDirectory(c *cli.Context) (string, error) {
	argument, flag := c.Args().First(), c.String("pgdata")
	if argument != "" && flag != "" {
		return "", usagef("name the data directory once: as an argument or with --pgdata")
	}
	dir := cmp.Or(argument, flag, p.env.Getenv("PGDATA"))
	t, err := openData(cmp.Or(dir, "."))
	if dir == "" && errors.Is(err, pgdata.ErrNoCluster) {
		err = usagef("which cluster? name its data directory: walden backup-push PGDATA")
	}
	return t.dir, err
}
