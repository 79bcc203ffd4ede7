package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walden/archive"
	"walden/catalog"
	"walden/codec"
	"walden/postgres/pgdata"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

// walTimeout is how long wal-push and wal-fetch keep trying: PostgreSQL tries
// again by itself.
const walTimeout = 30 * time.Second

const (
	aheadFlag    = "ahead"
	backfillFlag = "backfill"
	dropFlag     = "drop-when-pg-wal-over"
)

// defaultMostAhead bounds how many files are stored at once where nobody says how
// many, and mostAhead where somebody does.
const (
	defaultMostAhead = 8
	mostAhead        = 64
)

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
name that the repository holds; the same content again is a success. Nothing is ever replaced.

Where PostgreSQL waits with more files, it stores several at once, and records those that it was
not asked for yet in the spool, for the calls that will ask for them.

--` + backfillFlag + ` (without %p) looks at all of pg_wal, and stores what is complete there and lacking in
the repository although PostgreSQL takes it for archived, as after a failover.

--` + dropFlag + ` keeps the database alive at the price of its history: when the repository
can't take a segment, and the segments in pg_wal together are larger than that, it exits 0 and the
segment is lost. Recovery can't pass the gap, which 'walden info' shows: when storage is back, try
--backfill at once, and take a backup if a gap is left.
Without it nothing is ever given up.`,
		Flags: concat(repoFlags(walTimeout), encryptFlags(codec.LevelFastest), []cli.Flag{
			serverDataFlag(), clusterFlag(), spoolFlag(),
			&cli.UintFlag{Name: aheadFlag, EnvVars: []string{envName(aheadFlag)}, DefaultText: "by cores",
				Usage: "`N`how many files to store at once, the requested one included"},
			stringFlag(dropFlag, "", "`LIMIT`give up segments while the repository is away and pg_wal is larger than this: a size such as 20GB, or a percentage of its volume such as 80%"),
			boolFlag(backfillFlag, "store what pg_wal holds and the repository lacks"),
		}),
		Action: func(c *cli.Context) error {
			if c.Bool(backfillFlag) {
				if err := arguments(c, 0, 0); err != nil {
					return err
				}
				return p.backfillWAL(c)
			}
			p.log.quiet()
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			return p.pushWAL(c, c.Args().First())
		},
	})
}

// aheadOf returns how many files are stored at once: where nobody says it, one
// more than there are cores, because they wait for the store most of the time.
func aheadOf(c *cli.Context) int {
	if c.IsSet(aheadFlag) {
		return int(min(max(1, c.Uint(aheadFlag)), mostAhead))
	}
	return min(1+runtime.GOMAXPROCS(0), defaultMostAhead)
}

const (
	// pushMemory bounds the compressed files in memory, of all that are stored at
	// once, in bytes. What is larger goes to temporary files.
	pushMemory = 48 << 20

	// collectFrom is how many bytes the program takes before it rather spends
	// processor time than more memory, which is the database's.
	collectFrom = 100 << 20
)

// pushOptions collects what it takes to store files that lie beside path.
func (p *program) pushOptions(c *cli.Context, t target, loc storage.Location, path string) (archive.PushOptions, error) {
	codecOptions, err := objectOptions(c)
	if err != nil {
		return archive.PushOptions{}, err
	}
	debug.SetMemoryLimit(collectFrom)
	size, err := t.segmentSize(c.Context)
	return archive.PushOptions{
		SegmentSize: size,
		Major:       t.major(),
		Codec:       codecOptions,
		Repository:  loc.ID(),
		Spool:       p.optionalSpool(c, t, path),
		Memory:      pushMemory / aheadOf(c),
	}, err
}

func (p *program) pushWAL(c *cli.Context, path string) error {
	if _, err := wal.ParseFileName(filepath.Base(path)); err != nil {
		return fmt.Errorf("%s: %w: %w", path, archive.ErrRefused, errNotWAL)
	}
	drop, err := p.dropOptions(c)
	if err != nil {
		return err
	}
	store, loc, err := p.openStore(c)
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
	opts, err := p.pushOptions(c, t, loc, path)
	if err != nil {
		return err
	}
	if opts.Spool != nil && t.control.State == pgdata.StateInProduction {
		_ = archive.DropWindows(opts.Spool.Dir(), t.repo.SystemID) // what stays only takes room
	}
	later, _, err := p.openStore(c, func(o *storage.Options) { o.Tries = 1 })
	if err != nil {
		return err
	}
	res, err := archive.PushOrDrop(c.Context, t.repo, path, archive.AheadOptions{PushOptions: opts, Ahead: aheadOf(c), Later: later}, drop)
	if err != nil {
		return err
	}
	p.reportPush(filepath.Base(path), res)
	return nil
}

// hastyTimeout is how long storage may leave a segment without an answer while
// others are being given up.
const hastyTimeout = time.Second

// dropOptions reads what may be given up.
func (p *program) dropOptions(c *cli.Context) (drop archive.DropOptions, err error) {
	raw := c.String(dropFlag)
	if raw == "" {
		return drop, nil
	}
	if drop.Over, err = archive.ParseLimit(raw); err != nil {
		return drop, usagef("--%s: %w", dropFlag, err)
	}
	drop.Host, _ = os.Hostname() // a record without it is better than none
	drop.Hasty, _, err = p.openStore(c, func(o *storage.Options) { o.Timeout = min(o.Timeout, hastyTimeout) })
	return drop, err
}

// reportPush says what was done. What was given up must not go unnoticed.
func (p *program) reportPush(name string, res archive.DropResult) {
	switch {
	case res.Dropped != nil:
		p.log.Warn().Msg(fmt.Sprintf("GAVE UP %s, which is NOT in the repository: %s; recovery can't pass this gap: "+
			"when storage is back, run 'walden wal-push --backfill' while the segment is still in pg_wal, else take a backup", name, oneLine(res.Dropped)))
	case res.Recorded:
		p.log.Info().Msg(fmt.Sprintf("%s was stored by an earlier call", name))
	case res.Existed:
		p.log.Info().Msg(fmt.Sprintf("already stored %s, %d bytes in the repository", name, res.StoredSize))
	default:
		p.log.Info().Msg(fmt.Sprintf("stored %s, %d bytes in the repository", name, res.StoredSize))
	}
	if len(res.Ahead) > 0 {
		p.log.Info().Msg("stored ahead: " + strings.Join(res.Ahead, ", "))
	}
	p.reportGaps(res.Gaps, res.GapsError)
}

// reportGaps says what the repository knows now of WAL that was given up.
func (p *program) reportGaps(gaps []catalog.Gap, failed error) {
	for _, g := range gaps {
		p.log.Warn().Msg(fmt.Sprintf("storage is back; the WAL from %s to %s that was given up is a gap now in the repository: "+
			"run 'walden wal-push --backfill' at once, which stores what is still in pg_wal, and take a backup if 'walden info' shows a gap then", g.First, g.Last))
	}
	if failed != nil {
		p.log.Warn().Msg(oneLine(failed))
	}
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
