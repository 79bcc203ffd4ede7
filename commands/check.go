package commands

import (
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"walden/backup"
	"walden/catalog"
	"walden/postgres/server"
	"walden/storage"
)

func (p *program) check() *cli.Command {
	return p.command(&cli.Command{
		Name:  "check",
		Usage: "find out whether backups and archiving work",
		Description: `Checks that the configuration can be used; that the repository is reachable, writable and honours
conditional create; that the server is the one of the data directory; and that archiving works: it
ends a WAL segment and waits until the repository has it. Without a data directory it checks the
repository only.

Exits 0 when all is well, 1 when something is wrong, 2 when it can't be told, 64 for configuration.`,
		Flags: concat(repoFlags(storeTimeout), []cli.Flag{
			pgdataFlag(), clusterFlag(),
			dsnFlag(),
			durationFlag("wait-timeout", time.Minute, "how long to wait for the WAL segment"),
			boolFlag("json", "print JSON (see docs/json.md)"),
		}),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			return p.runChecks(c)
		},
	})
}

// checkReport is what check prints; docs/json.md describes its JSON.
type checkReport struct {
	Version    int         `json:"version"`
	Repository string      `json:"repository"`
	Checks     []checkLine `json:"checks"`
}

// checkLine is the outcome of one check.
type checkLine struct {
	Name   string `json:"name"`
	Result string `json:"result"` // ok, failed, unknown, skipped
	Detail string `json:"detail"`
}

func (r *checkReport) ok(name, format string, args ...any) {
	r.Checks = append(r.Checks, checkLine{name, "ok", fmt.Sprintf(format, args...)})
}

func (r *checkReport) skip(name, why string) {
	r.Checks = append(r.Checks, checkLine{name, "skipped", why})
}

func (r *checkReport) fail(name string, err error) {
	result := "failed"
	if exitCode(err) == exitMaybe {
		result = "unknown"
	}
	r.Checks = append(r.Checks, checkLine{name, result, oneLine(err)})
}

func (r *checkReport) writeText(w io.Writer) error {
	for _, c := range r.Checks {
		if _, err := fmt.Fprintf(w, "%-8s %-19s %s\n", c.Result, c.Name, c.Detail); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) runChecks(c *cli.Context) error {
	if c.Duration("wait-timeout") <= 0 {
		return usagef("--wait-timeout must be more than 0")
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	t, err := p.dataDirectory(c, p.operatorsPlaces())
	if err != nil {
		return err
	}
	if t.dir != "" || c.String("cluster") != "" {
		if t, err = p.clusterOf(c, store, p.operatorsPlaces()); err != nil {
			return err
		}
	}
	report := &checkReport{Version: 1, Repository: loc.String()}
	report.ok("configuration", "repository %s", loc)
	failure := report.checkRepository(c, store, loc, t)
	if err := p.checkArchiving(c, report, t, failure); failure == nil {
		failure = err
	}
	if err := p.print(c, report, report.writeText); err != nil {
		return err
	}
	return verdictOf(failure)
}

// verdictOf gives the exit code of a failure that the report has printed.
func verdictOf(failure error) error {
	if failure == nil {
		return nil
	}
	return &reported{failure}
}

// checkRepository reads, writes, and writes again what must not be replaced.
func (r *checkReport) checkRepository(c *cli.Context, store storage.Store, loc storage.Location, t target) error {
	ids, err := catalog.Clusters(c.Context, store)
	if err != nil {
		r.fail("repository", err)
		return err
	}
	r.ok("repository", "reachable, holds %d clusters", len(ids))
	if t.repo.SystemID == 0 && len(ids) > 0 {
		t.repo = catalog.Open(store, ids[0])
	}
	if t.repo.SystemID == 0 {
		r.skip("writing", "no data directory here, and no cluster in the repository yet: nothing may be written")
		return nil
	}
	if t.dir != "" {
		err = t.repo.EnsureIdentity(c.Context, catalog.Identity{SegmentSize: t.control.SegmentSize, PostgresVersion: t.control.Major})
		if err != nil {
			r.fail("writing", err)
			return err
		}
	}
	if err := t.repo.ProbeConditional(c.Context); err != nil {
		r.fail("writing", err)
		return err
	}
	if !loc.Conditional() {
		r.ok("writing", "possible; conditional=off: two hosts that write the same name at the same moment are not told apart")
		return nil
	}
	r.ok("writing", "possible, and nothing can be replaced: conditional create is honoured")
	return nil
}

func (p *program) checkArchiving(c *cli.Context, r *checkReport, t target, before error) error {
	const name = "archiving"
	switch {
	case t.dir == "":
		r.skip(name, "no data directory here (--pgdata, PGDATA)")
		return nil
	case before != nil:
		r.skip(name, "the repository can't be used")
		return nil
	}
	a, err := backup.CheckArchiving(c.Context, t.repo, t.dir,
		server.Config{DSN: c.String("dsn"), Env: p.env.Getenv}, c.Duration("wait-timeout"))
	if err != nil {
		r.fail(name, err)
		return err
	}
	r.ok(name, "segment %s arrived after %s; PostgreSQL %d on port %d is cluster %d of %s",
		a.Segment, a.Took.Round(time.Millisecond), a.Server.Major, a.Server.Port, a.Server.SystemID, t.dir)
	return nil
}
