package commands

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"walden/archive"
	"walden/codec"
	"walden/postgres/wal"
	"walden/walspool"
)

// walTimeout is how long wal-push and wal-fetch keep trying: PostgreSQL tries
// again by itself.
const walTimeout = 30 * time.Second

func (p *program) walPush() *cli.Command {
	return p.command(&cli.Command{
		Name:      "wal-push",
		Usage:     "store a WAL file in the repository (archive_command)",
		ArgsUsage: "%p",
		Description: `In postgresql.conf:

   archive_mode = on
   archive_command = '/usr/local/bin/walden wal-push --repo s3://bucket/prefix %p'

Exits 0 only when every byte is in the repository and the store has confirmed its checksum. A
file that is not what its name and the cluster say is refused, and so is other content under a
name that the repository holds; the same content again is a success. Nothing is ever replaced.`,
		Flags: concat(repoFlags(walTimeout), encryptFlags(codec.LevelFastest), []cli.Flag{serverDataFlag(), clusterFlag(), spoolFlag()}),
		Action: func(c *cli.Context) error {
			p.log.quiet()
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			return p.pushWAL(c, c.Args().First())
		},
	})
}

func (p *program) pushWAL(c *cli.Context, path string) error {
	if _, err := wal.ParseFileName(filepath.Base(path)); err != nil {
		return fmt.Errorf("%s: %w: %w", path, archive.ErrRefused, errNotWAL)
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	codecOptions, err := objectOptions(c)
	if err != nil {
		return err
	}
	t, err := p.clusterOf(c, store, p.serversPlaces(path))
	if errors.Is(err, errEmpty) {
		return usagef("which cluster is it of? run it in the data directory, or give --pgdata")
	}
	if err != nil {
		return err
	}
	size, err := t.segmentSize(c.Context)
	if err != nil {
		return err
	}
	res, err := archive.Push(c.Context, t.repo, path, archive.PushOptions{
		SegmentSize: size,
		Major:       t.major(),
		Codec:       codecOptions,
		Repository:  loc.ID(),
		Spool:       p.optionalSpool(c, t, path),
	})
	if err != nil {
		return err
	}
	what := "stored"
	if res.Existed {
		what = "already stored"
	}
	p.log.Info().Msg(fmt.Sprintf("%s %s, %d bytes in the repository", what, res.Fingerprint.Name, res.StoredSize))
	return nil
}

var errNotWAL = errors.New("its name is not that of a WAL file, such as 00000001000000A000000042 or 00000002.history")

// dataDirectoryOf returns the data directory to which a file of pg_wal belongs
// when its path says so.
func dataDirectoryOf(path string) string {
	if !filepath.IsAbs(path) {
		return ""
	}
	return filepath.Dir(filepath.Dir(path))
}

func spoolFlag() cli.Flag {
	return stringFlag("spool", "", "`DIR`directory for files on their way; without it "+walspool.Hidden+" beside %p")
}

// spoolDir returns the spool's place for a WAL file at path.
func spoolDir(c *cli.Context, path string) string {
	if dir := c.String("spool"); dir != "" {
		return dir
	}
	return filepath.Join(filepath.Dir(path), walspool.Hidden)
}

// optionalSpool opens the spool for what it remembers. Without one, pushing takes
// a request more, so a disk that can't be written to is no reason to fail. Files
// that don't come from a cluster's own pg_wal get no spool beside them.
func (p *program) optionalSpool(c *cli.Context, t target, path string) *walspool.Spool {
	if c.String("spool") == "" && (t.dir == "" || filepath.Base(filepath.Dir(path)) != "pg_wal") {
		return nil
	}
	s, err := walspool.Open(spoolDir(c, path))
	if err != nil {
		p.log.Debug().Msg(fmt.Sprintf("no spool: %v", err))
		return nil
	}
	return s
}

func concat(lists ...[]cli.Flag) []cli.Flag {
	var all []cli.Flag
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}
