package commands

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"walden/archive"
	"walden/postgres/pgdata"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

const (
	walPrefetchName = "wal-prefetch"

	// prefetchTimeout is how long a prefetcher keeps trying storage that doesn't
	// answer: it is for good weather.
	prefetchTimeout = 5 * time.Second

	// defaultAhead is how many segments are prefetched.
	defaultAhead = 8
)

// walPrefetch is what wal-fetch starts in the background.
func (p *program) walPrefetch() *cli.Command {
	return p.command(&cli.Command{
		Name:      walPrefetchName,
		Hidden:    true,
		Usage:     "fetch the segments that follow one in advance (wal-fetch starts it)",
		ArgsUsage: "SEGMENT",
		Description: `Brings the segments that follow SEGMENT into the spool, for the next calls of wal-fetch, as long as
the server of --pgdata asks for them. Nothing depends on it.`,
		Flags: concat(repoFlags(prefetchTimeout), []cli.Flag{serverDataFlag(), identityFlag(), spoolFlag(), fetchAheadFlag()}),
		Action: func(c *cli.Context) error {
			p.log.quiet()
			if err := arguments(c, 1, 1); err != nil {
				return err
			}
			return p.prefetchWAL(c, c.Args().First())
		},
	})
}

func fetchAheadFlag() cli.Flag {
	return &cli.UintFlag{Name: "ahead", Value: defaultAhead, EnvVars: []string{envName("ahead")},
		Usage: "how many segments to fetch in advance, but at most 256 MiB of them; 0 for none"}
}

func (p *program) prefetchWAL(c *cli.Context, segment string) error {
	handed, err := wal.ParseSegment(segment)
	if err != nil {
		return usagef("%w", err)
	}
	ids, err := identities(c)
	if err != nil {
		return err
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	t, err := p.clusterOf(c, store, []string{"."})
	if err != nil {
		return err
	}
	if t.dir == "" || c.String("spool") == "" {
		return usagef("--pgdata and --spool are needed")
	}
	w, err := archive.OpenWindow(c.String("spool"), windowOptions(c, t, loc))
	if err != nil {
		return err
	}
	return archive.Prefetch(c.Context, t.repo, handed, archive.PrefetchOptions{
		Window: w, Identities: ids, Alive: func() bool { return serverLives(t.dir) },
	})
}

func windowOptions(c *cli.Context, t target, loc storage.Location) archive.WindowOptions {
	return archive.WindowOptions{
		Repository: loc.ID(), SystemID: t.repo.SystemID, SegmentSize: t.control.SegmentSize, Ahead: int(c.Uint("ahead")),
	}
}

// serverLives reports whether a server works with the data directory: one that
// recovers, where it has called this program.
func serverLives(dir string) bool {
	pid, err := pgdata.ReadPostmasterPID(dir)
	if err != nil {
		return false
	}
	err = syscall.Kill(max(pid.PID, -pid.PID), 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// ahead is what wal-fetch has to do with what was, and is to be, fetched in advance.
// Whatever goes wrong with it, wal-fetch goes on.
type ahead struct {
	*program
	c      *cli.Context
	target target
	spool  string          // where the window lies
	window *archive.Window // nil where nothing is prefetched
	beside *walspool.Spool // remembers what was warned of
}

// openAhead opens the window. Without a running server there is nobody to prefetch
// for: pg_rewind and operators fetch single segments.
func (p *program) openAhead(c *cli.Context, t target, loc storage.Location, name wal.FileName, path string, beside *walspool.Spool) *ahead {
	a := &ahead{program: p, c: c, target: t, spool: spoolDir(c, path), beside: beside}
	if name.Kind != wal.KindSegment || c.Uint("ahead") == 0 || t.dir == "" || !serverLives(t.dir) {
		return a
	}
	w, err := archive.OpenWindow(a.spool, windowOptions(c, t, loc))
	if err != nil {
		a.warn(err)
		return a
	}
	a.window = w
	return a
}

// goOn starts a prefetcher if it is time, now that a segment was handed over.
func (a *ahead) goOn(handed wal.Segment) {
	if a.window == nil {
		return
	}
	if a.window.Ready() {
		a.log.Debug().Msg(fmt.Sprintf("%s: %s was fetched in advance", walFetchName, handed))
	}
	due, err := a.window.WantsPrefetch(handed)
	if err == nil && due {
		err = startPrefetcher(a.c, a.target, handed, a.spool)
	}
	if err != nil {
		a.warn(err)
	}
}

const (
	noPrefetch = "no-prefetch"

	// warnAgain is after what time the same trouble is told again.
	warnAgain = time.Hour
)

// warn tells once in a while that nothing is prefetched.
func (a *ahead) warn(err error) {
	if a.beside.Marked(noPrefetch, warnAgain) {
		return
	}
	_ = a.beside.Mark(noPrefetch) // without it, this is told more often
	a.log.Warn().Msg(fmt.Sprintf("%s: nothing is fetched in advance: %s", walFetchName, oneLine(err)))
}

// startPrefetcher starts this program anew, in the background: in a session of its
// own, so that no signal to the server's processes reaches it, and with none of the
// descriptors that this process was given. Whoever waits for the end of this process
// or of what it prints does not wait for that one.
func startPrefetcher(c *cli.Context, t target, handed wal.Segment, dir string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	spool, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	args := []string{walPrefetchName, "--repo", c.String("repo"), "--timeout", min(c.Duration("timeout"), prefetchTimeout).String(),
		"--pgdata", t.dir, "--spool", spool, "--ahead", strconv.FormatUint(uint64(c.Uint("ahead")), 10)}
	for _, file := range c.StringSlice("identity") {
		args = append(args, "--identity", file)
	}
	cmd := exec.Command(program, append(args, handed.String())...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	keepDescriptors()
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// keepDescriptors keeps all descriptors but the first three from the programs that
// this one starts: servers up to 15 pass on those of their own files.
func keepDescriptors() {
	entries, err := os.ReadDir("/dev/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
}
