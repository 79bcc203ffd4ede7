package story

import (
	"maps"
	"testing"
	"time"

	"walden/internal/testkit"
)

// limit is far above what any step takes, also on a slow machine.
const limit = 2 * time.Minute

// host is a machine on which walden runs. All that it knows of the repository is in its environment.
type host struct{ env []string }

// walden runs the binary as the user of the server.
func (h host) walden(t testing.TB, args ...string) testkit.Result {
	t.Helper()
	return testkit.Run(t, testkit.Cmd{Args: args, Env: h.env, AsServerUser: true})
}

// must runs walden and returns what it prints. Any exit code but 0 fails the test.
func (h host) must(t testing.TB, args ...string) string {
	t.Helper()
	res := h.walden(t, args...)
	if res.Code != 0 {
		t.Fatalf("walden %q: exit %d\n%s%s", args, res.Code, res.Stdout, res.Stderr)
	}
	return res.Stdout
}

// cluster starts a new cluster on the host, which archives its WAL with walden.
func (h host) cluster(t testing.TB, opts testkit.ClusterOptions) *testkit.Cluster {
	t.Helper()
	conf := map[string]string{
		"archive_mode":    "on",
		"archive_command": testkit.Walden(t) + ` wal-push "%p"`,
	}
	maps.Copy(conf, opts.Conf)
	opts.Conf, opts.Env = conf, append(opts.Env, h.env...)
	c := testkit.NewCluster(t, opts)
	c.Start(t)
	return c
}
