package commands

import (
	"errors"
	"path/filepath"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"walden/archive"
	"walden/codec"
	"walden/postgres/server"
	"walden/walspool"
)

func (p *program) walReceive() *cli.Command {
	return p.command(&cli.Command{
		Name:  "wal-receive",
		Usage: "stream WAL from a server into the repository, to lose seconds at most",
		Description: `Receives WAL over the replication protocol by a permanent slot, until it is told to end (SIGTERM).
Finished segments are stored as wal-push stores them: both may run at once. Of the unfinished one,
what there is of it is stored again and again; a recovery that reaches the end of the archive gets
that from wal-fetch. What is reported to the server as flushed is durable in the spool, so this can
be its synchronous standby (as application_name of --dsn, else "walden"). When storage is away, WAL
gathers in the spool up to --spool-limit, then the server keeps it. The role needs the attribute
REPLICATION, and pg_hba.conf a line for the database replication.`,
		Flags: concat(repoFlags(walTimeout), encryptFlags(codec.LevelFastest), []cli.Flag{
			pgdataFlag(),
			clusterFlag(),
			dsnFlag(),
			stringFlag("slot", "walden", "`NAME`the replication slot, which keeps WAL on the server until it is received"),
			boolFlag("create-slot", "make the slot where there is none"),
			stringFlag("spool", "", "`DIR`directory on a durable disk for WAL that is not stored yet; without it "+walspool.Hidden+" in pg_wal of the data directory"),
			stringFlag("spool-limit", "1GB", "`SIZE`how much finished WAL may wait there, such as 20GB, or a percentage of its volume"),
			durationFlag("partial-interval", 10*time.Second, "how often to store what there is of the unfinished segment; 0: never"),
		}),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			return p.receiveWAL(c)
		},
	})
}

func (p *program) receiveWAL(c *cli.Context) error {
	opts := archive.ReceiveOptions{
		Slot: c.String("slot"), CreateSlot: c.Bool("create-slot"), TailInterval: c.Duration("partial-interval"), Report: reportTo{p.log},
	}
	if opts.TailInterval < 0 {
		return usagef("--partial-interval must not be less than 0")
	}
	var err error
	if opts.SpoolLimit, err = archive.ParseLimit(c.String("spool-limit")); err != nil {
		return usagef("--spool-limit: %w", err)
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	opts.Push.Repository = loc.ID()
	if opts.Push.Codec, err = objectOptions(c); err != nil {
		return err
	}
	t, err := p.sourceOf(c)
	if err != nil {
		return err
	}
	opts.SystemID, opts.SegmentSize = t.control.SystemID, t.control.SegmentSize
	opts.Server = server.Config{DSN: c.String("dsn"), PGData: t.dir, Env: p.env.Getenv}
	if opts.Spool, err = receiveSpool(c, t); err != nil {
		return err
	}
	if opts.Push.Spool, err = walspool.Open(opts.Spool); err != nil {
		return err
	}
	return archive.Receive(c.Context, store, opts)
}

// sourceOf finds out whose WAL is meant, as far as the flags tell: the server will
// have to prove it. A data directory that isn't named counts only where there is
// no --dsn, which may lead to any server.
func (p *program) sourceOf(c *cli.Context) (t target, err error) {
	if dir := c.String("pgdata"); dir != "" || c.String("dsn") == "" {
		if t, err = p.dataDirectory(c, p.operatorsPlaces()); err != nil {
			return target{}, err
		}
	}
	asked := c.String("cluster")
	if asked == "" {
		return t, nil
	}
	id, err := strconv.ParseUint(asked, 10, 64)
	switch {
	case err != nil || id == 0:
		return target{}, usagef("--cluster: %q is not a system identifier (see 'walden info')", asked)
	case t.dir != "" && t.control.SystemID != id:
		return target{}, usagef("--cluster %d, but %s is cluster %d", id, t.dir, t.control.SystemID)
	}
	t.control.SystemID = id
	return t, nil
}

// receiveSpool returns the spool's place.
func receiveSpool(c *cli.Context, t target) (string, error) {
	dir := c.String("spool")
	switch {
	case dir != "":
		return filepath.Abs(dir)
	case t.dir != "":
		return filepath.Join(t.dir, "pg_wal", walspool.Hidden), nil
	}
	return "", usagef("where may WAL gather until it is stored? give a directory on a durable disk with --spool")
}

// reportTo logs what a long operation tells.
type reportTo struct{ log *logger }

var _ archive.Reporter = reportTo{}

func (r reportTo) Debug(text string) { r.log.Debug().Msg(oneLine(errors.New(text))) }
func (r reportTo) Info(text string)  { r.log.Info().Msg(oneLine(errors.New(text))) }
func (r reportTo) Warn(text string)  { r.log.Warn().Msg(oneLine(errors.New(text))) }
