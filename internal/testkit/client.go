package testkit

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// Tool returns the path of a command-line tool that tests need, such as zstd or strace.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		SkipOrFail(t, fmt.Sprintf("%s is not installed: make setup installs it", name))
	}
	return path
}

// Client runs one of PostgreSQL's client programs (psql, pgbench, pg_waldump) against the server, as
// the superuser, and returns its standard output. It fails the test when the program does.
func (c *Cluster) Client(t testing.TB, name string, args ...string) string {
	t.Helper()
	res := Run(t, Cmd{Path: clientProgram(t, c.bin, name), Args: args, Env: c.ClientEnv(), AsServerUser: true})
	if res.Code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", name, args, res.Code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// ClientEnv are the PG* variables that lead libpq's clients, and walden, to the server.
func (c *Cluster) ClientEnv() []string {
	return []string{
		"PGHOST=" + c.SocketDir,
		"PGPORT=" + strconv.Itoa(c.Port),
		"PGUSER=postgres",
		"PGDATABASE=postgres",
	}
}

// clientProgram looks next to the server first: some programs (pg_waldump) read only the formats of
// their own major, and others (psql) are not part of every installation.
func clientProgram(t testing.TB, bin, name string) string {
	t.Helper()
	others, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(others)
	for _, path := range append([]string{filepath.Join(bin, name)}, others...) {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	return Tool(t, name)
}
