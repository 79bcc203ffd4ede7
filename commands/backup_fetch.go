package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"walden/backup"
	"walden/catalog"
	"walden/codec"
	"walden/storage"
)

func (p *program) backupFetch() *cli.Command {
	return p.command(&cli.Command{
		Name:      "backup-fetch",
		Usage:     "restore a backup and set up recovery",
		ArgsUsage: "DIR [BACKUP or latest]",
		Description: `DIR must be absent or empty. Every file is verified and on disk when the command exits 0; pg_control
is written last. Recovery settings, with walden as restore_command, go into postgresql.auto.conf;
without a target, recovery goes to the end of the WAL and the server is promoted. latest is the
newest complete backup from which recovery can reach the target.

archive_mode is turned off in the restored cluster, so that a copy cannot write into the repository
of its source; --archive-mode keep leaves it as it was.`,
		Flags: concat(repoFlags(storeTimeout), []cli.Flag{
			clusterFlag(),
			identityFlag(),
			listFlag("tablespace", "`OID=DIR`restore a tablespace to another place; "+repeatable),
			intFlag("jobs", "how many slices to restore at once"),
			stringFlag("archive-mode", "off", "`MODE`archive_mode in the restored cluster: off, or keep as it was"),
		}, targetFlags()),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 1, 2); err != nil {
				return err
			}
			return p.fetchBackup(c)
		},
	})
}

func (p *program) fetchBackup(c *cli.Context) error {
	aim, err := parseTarget(c)
	if err != nil {
		return err
	}
	opts, err := p.fetchOptions(c, aim)
	if err != nil {
		return err
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	t, err := p.clusterOf(c, store, []string{p.env.Getenv("PGDATA")})
	if err != nil {
		return err
	}
	b, err := chooseBackup(c, t.repo, aim, opts.Identities)
	if err != nil {
		return fmt.Errorf("cluster %d: %w", t.repo.SystemID, err) // PGDATA may have chosen it
	}
	command, err := restoreCommand(c, loc)
	if err != nil {
		return err
	}
	opts.Recovery.RestoreCommand = command
	report := newProgress(p.log)
	defer report.close()
	opts.Report = report
	if err := backup.Fetch(c.Context, t.repo, b, opts); err != nil {
		return err
	}
	report.Step(p.nextSteps(opts, b, loc))
	return nil
}

func (p *program) fetchOptions(c *cli.Context, aim catalog.Target) (backup.FetchOptions, error) {
	opts := backup.FetchOptions{Dir: c.Args().First(), Jobs: c.Int("jobs"), Tablespaces: map[uint32]string{}}
	var err error
	if opts.Identities, err = identities(c); err != nil {
		return opts, err
	}
	for _, pair := range c.StringSlice("tablespace") {
		oid, dir, ok := strings.Cut(pair, "=")
		n, err := strconv.ParseUint(oid, 10, 32)
		if err != nil || !ok || dir == "" {
			return opts, usagef("--tablespace: %q is not OID=DIR, such as 16385=/srv/data", pair)
		}
		if opts.Tablespaces[uint32(n)], err = filepath.Abs(dir); err != nil {
			return opts, err
		}
	}
	switch c.String("archive-mode") {
	case "off":
	case "keep":
		opts.Recovery.KeepArchiving = true
	default:
		return opts, usagef("--archive-mode is off or keep, not %q", c.String("archive-mode"))
	}
	opts.Recovery.Target, opts.Recovery.Exclusive = aim, c.Bool("target-exclusive")
	opts.Recovery.Action, err = targetAction(c, aim)
	return opts, err
}

// chooseBackup finds the backup that is asked for, and makes sure that recovery
// from it can reach the target.
func chooseBackup(c *cli.Context, repo catalog.Cluster, aim catalog.Target, ids []codec.Identity) (catalog.Backup, error) {
	backups, err := repo.Backups(c.Context)
	if err != nil {
		return catalog.Backup{}, err
	}
	timelines, err := repo.Lineage(c.Context, ids)
	if err != nil {
		return catalog.Backup{}, err
	}
	id := c.Args().Get(1)
	if id == "" || id == "latest" {
		return catalog.Choose(backups, timelines, aim)
	}
	for _, b := range backups {
		if b.ID == id {
			return b, catalog.CheckReach(b, backups, timelines, aim)
		}
	}
	return catalog.Backup{}, fmt.Errorf("no backup %s (see 'walden info'): %w", id, storage.ErrNotExist)
}

// restoreCommand returns the restore_command by which the restored server gets
// its WAL from the same repository.
func restoreCommand(c *cli.Context, loc storage.Location) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the path of this program: %w", err)
	}
	words := []string{exe, walFetchName, "--repo", loc.String()}
	if c.IsSet("timeout") {
		words = append(words, "--timeout", c.Duration("timeout").String())
	}
	for _, file := range c.StringSlice("identity") {
		abs, err := filepath.Abs(file)
		if err != nil {
			return "", err
		}
		words = append(words, "--identity", abs)
	}
	return serverCommand(words) + ` "%f" "%p"`, nil
}

// serverCommand makes a command for PostgreSQL's configuration, which gives it to
// a shell after it has replaced its placeholders.
func serverCommand(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strings.ReplaceAll(shellQuote(w), "%", "%%")
	}
	return strings.Join(quoted, " ")
}

// shellQuote makes s one word of a shell command.
func shellQuote(s string) string {
	plain := strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:=@%+,") == ""
	if plain && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// nextSteps says what an operator does now.
func (p *program) nextSteps(opts backup.FetchOptions, b catalog.Backup, loc storage.Location) string {
	dir := opts.Dir
	var s strings.Builder
	fmt.Fprintf(&s, "restored %s into %s: every file is verified and on disk\n", b.ID, dir)
	fmt.Fprintf(&s, "next: start the server, and watch its log: pg_ctl -D %s -l logfile start\n", shellQuote(dir))
	fmt.Fprintf(&s, "  it replays WAL by %s from %s\n", walFetchName, loc)
	if names := p.credentialNames(); strings.HasPrefix(loc.String(), "s3:") && names != "" {
		fmt.Fprintf(&s, "  which needs credentials: here they come from %s, which the server's environment must have, too\n", names)
	}
	switch opts.Recovery.Action {
	case "pause":
		s.WriteString("  at the target it pauses, open for reading: look whether the data is right, then run SELECT pg_wal_replay_resume()\n")
		s.WriteString("  if it is not, restore again with another target\n")
	case "shutdown":
		s.WriteString("  at the target it shuts down; to go on from there, append recovery_target_action = 'promote' to postgresql.auto.conf and start it again\n" +
			"  (leave recovery.signal and the target: without them it would replay all WAL at hand, past the target)\n")
	default:
		s.WriteString("  at the end of recovery it is promoted to a new timeline\n")
	}
	if !opts.Recovery.KeepArchiving {
		s.WriteString("  archiving is off in it (archive_mode in postgresql.auto.conf), so that a copy cannot write into the repository of its source:\n" +
			"  when it takes the source's place, run ALTER SYSTEM RESET archive_mode, restart it, and take a new backup")
	}
	return strings.TrimRight(s.String(), "\n")
}

// credentialNames lists the AWS variables that are set here, without values.
func (p *program) credentialNames() string {
	var names []string
	for _, pair := range p.env.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "AWS_") {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}
