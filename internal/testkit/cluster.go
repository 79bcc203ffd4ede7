package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// ClusterOptions say what cluster a test wants. The zero value is a cluster of DefaultMajor with
// PostgreSQL's own defaults.
type ClusterOptions struct {
	Major       int               // 0: DefaultMajor; for Attach what PG_VERSION says
	SegmentSize int               // WAL segment size in MB; 0: 16. Of no effect in Attach
	Conf        map[string]string // settings, unquoted; in Attach they override the files of the directory
	Env         []string          // NAME=value, added to the server's otherwise clean environment
	Dir         string            // the data directory to make; "": below a Dir of its own. Of no effect in Attach
	Checksums   bool              // asks for page checksums, which are the default from 18 on
}

// Cluster is a PostgreSQL cluster, and its server when that runs. The superuser is postgres, who
// needs no password; it listens on a unix socket and on 127.0.0.1.
type Cluster struct {
	DataDir   string
	Port      int
	SocketDir string
	Major     int

	bin    string
	log    string   // the server's output goes to this file
	flags  []string // settings given on the command line
	env    []string
	server *process // nil: never started
}

// NewCluster makes a cluster with a system identifier of its own, by initdb. It doesn't start it.
// The server, if started, goes down at the end of the test, and its log is shown if the test failed.
func NewCluster(t testing.TB, opts ClusterOptions) *Cluster {
	t.Helper()
	if opts.Major == 0 {
		opts.Major = DefaultMajor
	}
	c := newCluster(t, opts)
	c.DataDir = opts.Dir
	if c.DataDir == "" {
		c.DataDir = filepath.Join(c.SocketDir, "data")
	}
	args := []string{"-D", c.DataDir, "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"}
	if opts.SegmentSize != 0 {
		args = append(args, "--wal-segsize="+strconv.Itoa(opts.SegmentSize))
	}
	if opts.Checksums {
		args = append(args, "--data-checksums")
	}
	cmd := exec.Command(filepath.Join(c.bin, "initdb"), args...)
	cmd.Env = c.env
	cmd.Dir = c.SocketDir
	if out, err := combinedOutputAs(mustServerUser(t), cmd); err != nil {
		t.Fatalf("make a cluster of PostgreSQL %d: initdb: %v\n%s", opts.Major, err, out)
	}
	c.Configure(t, c.settings())
	c.Configure(t, opts.Conf)
	return c
}

// Attach takes a data directory that exists, for instance a restored one, as a cluster. The port,
// the socket and opts.Conf are given on the command line: no file in dir is touched.
func Attach(t testing.TB, dir string, opts ClusterOptions) *Cluster {
	t.Helper()
	if opts.Major == 0 {
		version, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
		if err != nil {
			t.Fatalf("attach to a cluster: %v", err)
		}
		if opts.Major, err = strconv.Atoi(strings.TrimSpace(string(version))); err != nil {
			t.Fatalf("attach to %s: PG_VERSION: %v", dir, err)
		}
	}
	c := newCluster(t, opts)
	c.DataDir = dir
	for _, settings := range []map[string]string{c.settings(), opts.Conf} {
		for _, name := range sortedNames(settings) {
			c.flags = append(c.flags, "-c", name+"="+settings[name])
		}
	}
	return c
}

// newCluster is what new and attached clusters have in common.
func newCluster(t testing.TB, opts ClusterOptions) *Cluster {
	t.Helper()
	bin := Binaries(t, opts.Major)
	dir := Dir(t)
	c := &Cluster{
		Port:      FreePort(t),
		SocketDir: dir,
		Major:     opts.Major,
		bin:       bin,
		log:       filepath.Join(dir, "server.log"),
		env:       append(cleanEnv(dir), opts.Env...),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the log of the server in %s:\n%s", c.DataDir, lastLines(c.Log(), 100))
		}
	})
	return c
}

// settings are those without which clusters would get into each other's way, and a log that helps.
// Shared memory in files below the data directory can't be left over by a killed server.
func (c *Cluster) settings() map[string]string {
	return map[string]string{
		"listen_addresses":           "127.0.0.1",
		"port":                       strconv.Itoa(c.Port),
		"unix_socket_directories":    c.SocketDir,
		"dynamic_shared_memory_type": "mmap",
		"log_line_prefix":            "%m [%p] %b ",
	}
}

// Configure appends settings to postgresql.conf. A running server takes no notice until it is
// reloaded or restarted.
func (c *Cluster) Configure(t testing.TB, settings map[string]string) {
	t.Helper()
	var lines strings.Builder
	for _, name := range sortedNames(settings) {
		fmt.Fprintf(&lines, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(c.DataDir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatalf("configure a cluster: %v", err)
	}
	defer f.Close()
	if _, err := f.WriteString(lines.String()); err != nil {
		t.Fatalf("configure a cluster: %v", err)
	}
}

// Log returns what the server has written so far, over all its starts.
func (c *Cluster) Log() string {
	text, err := os.ReadFile(c.log)
	if err != nil {
		return "" // never started
	}
	return string(text)
}

func sortedNames(settings map[string]string) []string {
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "")
}
