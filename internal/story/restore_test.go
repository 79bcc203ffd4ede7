package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// restored is a cluster that backup-fetch has made, and what it said about how to go on.
type restored struct {
	*testkit.Cluster
	advice string
}

// restore gets the latest backup that can reach a target onto another host, which is the first that has
// the private key. It doesn't start the server.
func restore(t testing.TB, repo repository, keys keyPair, options ...string) restored {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "restored")
	elsewhere := repo.host(keys.restoreEnv(t)...)
	res := elsewhere.walden(t, append([]string{"backup-fetch", dir, "latest"}, options...)...)
	if res.Code != 0 {
		t.Fatalf("backup-fetch %q: exit %d\n%s", options, res.Code, res.Stderr)
	}
	return restored{Cluster: testkit.Attach(t, dir, testkit.ClusterOptions{Env: repo.env}), advice: res.Stderr}
}

// mustAdvise fails the test unless backup-fetch said this.
func (r restored) mustAdvise(t testing.TB, what string) {
	t.Helper()
	if !strings.Contains(r.advice, what) {
		t.Errorf("backup-fetch doesn't speak of %s:\n%s", what, r.advice)
	}
}

// on is the same cluster with a server that runs on that host.
func (r restored) on(t testing.TB, h host) restored {
	t.Helper()
	r.Cluster = testkit.Attach(t, r.DataDir, testkit.ClusterOptions{Env: h.env})
	return r
}

// configure appends a line to postgresql.auto.conf of a server that is down.
func (r restored) configure(t testing.TB, line string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(r.DataDir, "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// promotes starts a server and sees it through a recovery that ends by itself, open for writing.
func promotes(t testing.TB, c restored) {
	t.Helper()
	c.Start(t)
	c.waitPromoted(t)
}

func (r restored) waitPromoted(t testing.TB) {
	t.Helper()
	testkit.Eventually(t, limit, "the server is promoted", func() bool {
		if !r.Running() {
			t.Fatalf("the server in %s ended in recovery", r.DataDir)
		}
		rows, err := r.TryQuery(t.Context(), "SELECT 1 WHERE NOT pg_is_in_recovery()")
		return err == nil && len(rows) == 1
	})
}
