package story

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// neighbours are two clusters on one host, whose sockets lie in one directory, as packages set them up.
type neighbours struct {
	ours, theirs *testkit.Cluster
	sockets      string
}

func startNeighbours(t testing.TB) neighbours {
	t.Helper()
	n := neighbours{sockets: testkit.Dir(t)}
	for _, c := range []**testkit.Cluster{&n.ours, &n.theirs} {
		*c = testkit.NewCluster(t, testkit.ClusterOptions{})
		(*c).Configure(t, map[string]string{"unix_socket_directories": n.sockets + "," + (*c).SocketDir})
		(*c).Start(t)
	}
	return n
}

// identity is what people recognise a cluster by.
func identity(t testing.TB, c *testkit.Cluster) []string {
	t.Helper()
	return []string{
		c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()"),
		c.DataDir,
		strconv.Itoa(c.Port),
	}
}

// mustRefuse runs a command that must notice that it talks to the wrong server: it exits 1, shows both
// identities, and leaves nothing in the repository.
func mustRefuse(t *testing.T, repo repository, env []string, both []string, args ...string) {
	t.Helper()
	res := repo.host(env...).walden(t, args...)
	if res.Code != 1 {
		t.Errorf("%q with %q: exit %d", args, env, res.Code)
	}
	text := res.Stdout + res.Stderr
	for _, part := range append(both, "started", "process ID") {
		if !strings.Contains(text, part) {
			t.Errorf("%q with %q doesn't show %s:\n%s", args, env, part, text)
		}
	}
	if !strings.Contains(text, "does not run") || strings.Contains(text, "hunter2") {
		t.Errorf("%q with %q says:\n%s", args, env, text)
	}
	if left := repo.files(t); left != "" {
		t.Errorf("%q with %q has left in the repository:\n%s", args, env, left)
	}
}

// TestWrongCluster has two clusters on a host, and everything that leads to a server pointing to the wrong
// one, one after the other.
func TestWrongCluster(t *testing.T) {
	t.Parallel()
	n := startNeighbours(t)
	repo := aDirectory(t)
	both := append(identity(t, n.ours), identity(t, n.theirs)...)
	port := strconv.Itoa(n.theirs.Port)
	user := []string{"PGUSER=postgres"}
	for _, c := range []struct {
		env  []string
		args []string
	}{
		{env: []string{"PGPORT=" + port}},
		{env: []string{"PGHOST=" + n.theirs.SocketDir, "PGPORT=" + port}},
		{env: []string{"PGHOST=127.0.0.1", "PGPORT=" + port}},
		{args: []string{"--dsn", "port=" + port}},
		{args: []string{"--dsn", "postgres://postgres:hunter2@127.0.0.1:" + port + "/postgres"}},
		{args: []string{"--dsn", "host=" + n.theirs.SocketDir + " password=hunter2 port=" + port}},
		{env: []string{"WALDEN_DSN=host=127.0.0.1 password=hunter2 port=" + port}},
	} {
		mustRefuse(t, repo, append(c.env, user...), both, append([]string{"backup-push", n.ours.DataDir}, c.args...)...)
		mustRefuse(t, repo, append(c.env, user...), both, append([]string{"backup-push", "--no-wait", n.ours.DataDir, "-v"}, c.args...)...)
	}

	// Without them, postmaster.pid leads to the right one; and what is given wins where it is right.
	source := repo.host(user...)
	source.must(t, "backup-push", "--no-wait", n.ours.DataDir)
	repo.host(append(user, "PGPORT="+port)...).must(t, "backup-push", "--no-wait", n.ours.DataDir, "--dsn", "port="+strconv.Itoa(n.ours.Port))
	if got := filepath.Base(repo.clusterDir(t)); got != both[0] {
		t.Errorf("the repository holds cluster %s, want %s", got, both[0])
	}
}

// TestWrongServerForCheck leads check to the wrong one of two clusters. Its report says so, and ends no WAL
// segment there.
func TestWrongServerForCheck(t *testing.T) {
	t.Parallel()
	n := startNeighbours(t)
	repo := aDirectory(t)
	const segment = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())"
	before := n.theirs.QueryValue(t, segment)
	res := repo.host("PGUSER=postgres", "PGPORT="+strconv.Itoa(n.theirs.Port)).walden(t, "check", "--pgdata", n.ours.DataDir)
	if res.Code != 1 {
		t.Errorf("exit %d", res.Code)
	}
	for _, part := range append(identity(t, n.ours), identity(t, n.theirs)...) {
		if !strings.Contains(res.Stdout, part) {
			t.Errorf("it doesn't show %s:\n%s%s", part, res.Stdout, res.Stderr)
		}
	}
	if after := n.theirs.QueryValue(t, segment); after != before {
		t.Errorf("the other cluster went from segment %s to %s", before, after)
	}
}

// TestCopiedCluster has a copy of a cluster on the same host: the system identifier is the same.
func TestCopiedCluster(t *testing.T) {
	t.Parallel()
	ours := testkit.NewCluster(t, testkit.ClusterOptions{})
	copied := filepath.Join(testkit.Dir(t), "copy")
	copyCluster(t, ours.DataDir, copied)
	theirs := testkit.Attach(t, copied, testkit.ClusterOptions{})
	ours.Start(t)
	theirs.Start(t)
	repo := aDirectory(t)
	both := append(identity(t, ours), identity(t, theirs)...)
	if both[0] != both[3] {
		t.Fatalf("the copy has another system identifier: %q", both)
	}
	mustRefuse(t, repo, nil, both, "backup-push", ours.DataDir, "--dsn", theirs.DSN())
	mustRefuse(t, repo, nil, both, "backup-push", theirs.DataDir, "--dsn", ours.DSN())
	mustRefuse(t, repo, theirs.ClientEnv(), both, "backup-push", ours.DataDir)

	// A copy that was made while the server ran has its postmaster.pid, which leads to the server.
	theirs.Stop(t, testkit.Fast)
	running := filepath.Join(testkit.Dir(t), "running")
	copyCluster(t, ours.DataDir, running)
	mustRefuse(t, repo, []string{"PGUSER=postgres"}, append(identity(t, ours), running), "backup-push", running)

	repo.host("PGUSER=postgres").must(t, "backup-push", "--no-wait", ours.DataDir)
}

// copyCluster copies a data directory, as the server's user.
func copyCluster(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
	testkit.GiveToServer(t, to)
}

// TestSecretsOfTheServerStaySecret fails to connect in several ways. Passwords never show.
func TestSecretsOfTheServerStaySecret(t *testing.T) {
	t.Parallel()
	c := testkit.NewCluster(t, testkit.ClusterOptions{})
	c.Start(t)
	repo := aDirectory(t)
	config := filepath.Join(testkit.Dir(t), "walden.toml")
	if err := os.WriteFile(config, []byte("dsn = \"postgres://postgres:hunter2@127.0.0.1:1/postgres\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		code int
		env  string
		args []string
	}{
		{2, "", []string{"--dsn", "postgres://postgres:hunter2@127.0.0.1:1/postgres"}},
		{2, "", []string{"--dsn", "host=127.0.0.1 port=1 user=postgres password=hunter2"}},
		{2, "", []string{"--dsn", "postgres://nobody:hunter2@127.0.0.1:" + strconv.Itoa(c.Port) + "/postgres"}},
		{64, "", []string{"--dsn", "postgres://postgres:hunter2@127.0.0.1:port/postgres"}},
		{64, "", []string{"--dsn", "host=127.0.0.1 password='hunter2"}},
		{64, "", []string{"--dsn", "hunter2"}},
		{2, "WALDEN_DSN=host=127.0.0.1 port=1 password=hunter2", nil},
		{2, "PGPASSWORD=hunter2", []string{"--dsn", "host=127.0.0.1 port=1"}},
		{2, "WALDEN_CONFIG=" + config, nil},
	} {
		for _, command := range [][]string{{"backup-push", "-v", c.DataDir}, {"check", "-v", "--pgdata", c.DataDir}} {
			var env []string
			if k.env != "" {
				env = []string{k.env}
			}
			res := repo.host(env...).walden(t, append(command, k.args...)...)
			if res.Code != k.code {
				t.Errorf("%s %q %q: exit %d, want %d\n%s%s", k.env, command, k.args, res.Code, k.code, res.Stdout, res.Stderr)
			}
			if strings.Contains(res.Stdout+res.Stderr, "hunter2") {
				t.Errorf("%s %q %q shows the password:\n%s%s", k.env, command, k.args, res.Stdout, res.Stderr)
			}
		}
	}
}
