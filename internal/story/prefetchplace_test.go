package story

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walden/internal/testkit"
)

// mounted mounts a small file system of its own that belongs to the server's user.
func mounted(t testing.TB, size string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a file system")
	}
	dir := testkit.Dir(t)
	if err := syscall.Mount("walden-test", dir, "tmpfs", 0, "size="+size); err != nil {
		testkit.SkipUnlessCI(t, fmt.Sprintf("can't mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		testkit.Eventually(t, limit, "nobody uses the mounted file system", func() bool { return syscall.Unmount(dir, 0) == nil })
	})
	testkit.GiveToServer(t, dir)
	return dir
}

// TestSpoolElsewhere recovers with the spool on another file system: a good one, one that is too small, and
// one that nobody can write to. The last two only mean that nothing is fetched in advance, which is said
// once.
func TestSpoolElsewhere(t *testing.T) {
	t.Parallel()
	w := archiveWAL(t, newDirShelf(t), 40)
	const warning = "nothing is fetched in advance"
	for _, c := range []struct {
		name     string
		place    func() string
		prefetch bool
	}{
		{"another disk", func() string { return mounted(t, "64m") }, true},
		{"full", func() string { return mounted(t, "4m") }, false},
		{"read-only", func() string {
			dir := mounted(t, "64m")
			if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			return dir
		}, false},
		{"no such place", func() string { return "/proc/spool" }, false},
	} {
		f := newFetcher(t, "--spool", c.place())
		server := w.recovery(t, w.repository().host().env, f)
		promotes(t, restored{Cluster: server})
		if got := server.QueryValue(t, contents); got != w.held {
			t.Errorf("%s: recovered %s, there were %s", c.name, got, w.held)
		}
		warnings := strings.Count(server.Log(), warning)
		if want := map[bool]int{false: 1}[c.prefetch]; warnings != want {
			t.Errorf("%s: %d warnings, want %d", c.name, warnings, want)
		}
		handed, _ := f.calls(t)
		ready := 0
		for _, call := range handed {
			ready += 1 - call.wait
		}
		if (ready > 0) != c.prefetch {
			t.Errorf("%s: %d of %d segments were fetched in advance", c.name, ready, len(handed))
		}
		t.Logf("%s: %d of %d segments were fetched in advance", c.name, ready, len(handed))
		mustEndSoon(t, server.DataDir)
		server.Stop(t, testkit.Immediate)
	}
}

// TestToolsOnStandbyThatFetches: pg_basebackup takes nothing of the spool along, and pg_rewind works on a
// cluster with one, also where it fetches WAL by itself from elsewhere than the data directory.
func TestToolsOnStandbyThatFetches(t *testing.T) {
	t.Parallel()
	repo := aDirectory(t)
	h := repo.host()
	restoreCommand := testkit.Walden(t) + ` wal-fetch %f "%p"`
	old := h.cluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{"wal_log_hints": "on", "restore_command": restoreCommand}})
	old.Exec(t, "CREATE TABLE t (i bigserial, u uuid)")
	h.must(t, "backup-push", old.DataDir)

	// A standby that gets all its WAL from the archive.
	dir := filepath.Join(testkit.Dir(t), "standby")
	h.must(t, "backup-fetch", dir, "latest", "--archive-mode", "keep")
	if err := os.Rename(filepath.Join(dir, "recovery.signal"), filepath.Join(dir, "standby.signal")); err != nil {
		t.Fatal(err)
	}
	standby := testkit.Attach(t, dir, testkit.ClusterOptions{Env: h.env, Conf: map[string]string{
		"restore_command": restoreCommand, "wal_retrieve_retry_interval": "100ms", "primary_conninfo": ""}})
	standby.Start(t)
	for range 30 {
		old.Exec(t, "INSERT INTO t (u) SELECT gen_random_uuid() FROM generate_series(1, 3000)", "SELECT pg_switch_wal()")
	}
	archiveAll(t, old)
	standby.WaitFor(t, "SELECT count(*) FROM t", "90000", limit)
	mustEndSoon(t, dir)

	copied := filepath.Join(testkit.Dir(t), "copy")
	standby.Client(t, "pg_basebackup", "--pgdata", copied, "--wal-method=fetch", "--checkpoint=fast")
	if _, err := os.Stat(filepath.Join(copied, "pg_wal", ".walden")); !os.IsNotExist(err) {
		t.Errorf("pg_basebackup has taken the spool along (error: %v)", err)
	}

	// The standby takes over while the old primary goes on: their ways part.
	standby.Exec(t, "SELECT pg_promote()", "INSERT INTO t (u) SELECT gen_random_uuid() FROM generate_series(1, 1000)", "CHECKPOINT")
	archiveAll(t, standby)
	if left, err := filepath.Glob(filepath.Join(dir, "pg_wal", ".walden", "fetch", "*-*")); err != nil || len(left) > 0 {
		t.Errorf("after its recovery, %q is left (error: %v)", left, err)
	}
	for range 3 {
		old.Exec(t, "UPDATE t SET u = gen_random_uuid() WHERE i % 20 = 0", "SELECT pg_switch_wal()", "CHECKPOINT")
	}
	archiveAll(t, old)
	old.Stop(t, testkit.Fast)
	rewind := func(args ...string) testkit.Result {
		return testkit.Run(t, testkit.Cmd{Path: clientOf(t, "pg_rewind"), AsServerUser: true, Env: append(standby.ClientEnv(), h.env...),
			Args: append([]string{"--target-pgdata", old.DataDir, "--source-server", standby.DSN()}, args...)})
	}
	if res := rewind("--dry-run"); res.Code == 0 {
		t.Error("pg_rewind needs nothing of the archive")
	}
	if res := rewind("-c"); res.Code != 0 {
		t.Fatalf("pg_rewind -c: exit %d\n%s%s", res.Code, res.Stdout, res.Stderr)
	}
	if err := os.WriteFile(filepath.Join(old.DataDir, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, old.DataDir)
	back := testkit.Attach(t, old.DataDir, testkit.ClusterOptions{Env: h.env, Conf: map[string]string{
		"primary_conninfo": standby.DSN(), "restore_command": restoreCommand, "recovery_target_timeline": "latest"}})
	back.Start(t)
	back.WaitFor(t, contents, standby.QueryValue(t, contents), limit)
}

// clientOf returns a program of the default major.
func clientOf(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(testkit.Binaries(t, testkit.DefaultMajor), name)
	if found, err := exec.LookPath(path); err == nil {
		return found
	}
	return testkit.Tool(t, name)
}
