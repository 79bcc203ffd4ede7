package story

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"walden/internal/testkit"
)

// enough is what a link moves before it stalls: requests have been answered, and content is on its way.
const enough = 1 << 20

// stopped runs walden until the link stalls, sends it a signal, and returns how it ended.
func stopped(t *testing.T, l *link, cmd testkit.Cmd, s syscall.Signal) testkit.Result {
	t.Helper()
	r := testkit.Start(t, cmd)
	testkit.Eventually(t, limit, "the link stalls while walden works", func() bool {
		if r.Ended(0) {
			t.Fatalf("it has ended before: %+v", r.Wait(t))
		}
		return l.stalled()
	})
	r.Signal(t, s)
	res := r.Wait(t)
	last := res.Stderr[strings.LastIndexByte(strings.TrimSuffix(res.Stderr, "\n"), '\n')+1:]
	if !strings.HasPrefix(last, "walden: error: "+cmd.Args[0]+": stopped, "+s.String()+" signal received: ") {
		t.Errorf("the last line is %q", last)
	}
	return res
}

// TestSignalDuringWALPush asks wal-push to end while a segment is on its way. It says so, the repository
// holds nothing of the segment, and the next run stores it.
func TestSignalDuringWALPush(t *testing.T) {
	t.Parallel()
	s := newS3Shelf(t).(s3Shelf)
	repo, wal := inspect(s), writeWAL(t, 1)
	push := []string{"wal-push", "pg_wal/" + wal.names[0]}
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		stalling := newLink(t, s, 0, enough)
		if res := stopped(t, stalling, wal.command(stalling.repository(s).host(), push...), sig); res.Code != 2 {
			t.Errorf("%s: exit %d", sig, res.Code)
		}
		if there := repo.mustBeWhole(t); slices.Contains(there, wal.object(wal.names[0])) {
			t.Errorf("%s: the repository holds %q", sig, there)
		}
	}
	wal.mustRun(t, s.repository().host(), push...)
	if there := repo.mustBeWhole(t); !slices.Contains(there, wal.object(wal.names[0])) {
		t.Errorf("after the next run the repository holds %q", there)
	}
}

// TestSignalDuringWALFetch asks wal-fetch to end while a segment is on its way. Its answer ends no recovery,
// nothing is handed over or left in the spool, and the next run hands it over.
func TestSignalDuringWALFetch(t *testing.T) {
	t.Parallel()
	s := newS3Shelf(t).(s3Shelf)
	wal, good := writeWAL(t, 1), s.repository().host()
	wal.mustRun(t, good, "wal-push", "pg_wal/"+wal.names[0])
	fetch := []string{"wal-fetch", wal.names[0], "pg_wal/RECOVERYXLOG"}
	for _, code := range []int{200, 2} { // first in recovery, then on a standby
		stalling := newLink(t, s, 0, enough)
		if res := stopped(t, stalling, wal.command(stalling.repository(s).host(), fetch...), syscall.SIGTERM); res.Code != code {
			t.Errorf("exit %d, want %d", res.Code, code)
		}
		if slices.Contains(namesIn(t, wal.path("")), "RECOVERYXLOG") {
			t.Error("it has handed over what it didn't have")
		}
		wal.mustBeSwept(t)
		if err := os.WriteFile(filepath.Join(wal.dataDir, "standby.signal"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wal.mustRun(t, good, fetch...)
}

// TestSignalDuringBackup asks backup-push to end while it copies. The server's backup ends, what is left is
// no complete backup, and the next one is.
func TestSignalDuringBackup(t *testing.T) {
	t.Parallel()
	s := newS3Shelf(t).(s3Shelf)
	repo, good := inspect(s), s.repository().host()
	c := good.cluster(t, testkit.ClusterOptions{})
	cluster := c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")

	stalling := newLink(t, s, 0, enough)
	res := stopped(t, stalling, testkit.Cmd{
		Args: []string{"backup-push", c.DataDir}, Env: stalling.repository(s).host().env, AsServerUser: true,
	}, syscall.SIGTERM)
	if res.Code != 2 {
		t.Errorf("backup-push: exit %d", res.Code)
	}
	c.WaitFor(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walden'", "0", limit)
	if complete := mustShowNoTornBackup(t, repo, good, cluster); len(complete) != 0 {
		t.Errorf("complete are %q", complete)
	}
	good.must(t, "backup-push", c.DataDir)
	if complete := mustShowNoTornBackup(t, repo, good, cluster); len(complete) != 1 {
		t.Errorf("after the next run complete are %q", complete)
	}
}

// TestSlowStorageIsNotDead archives over a line on which a segment takes much longer than --timeout, which
// is for storage that doesn't answer.
func TestSlowStorageIsNotDead(t *testing.T) {
	t.Parallel()
	s := newS3Shelf(t).(s3Shelf)
	wal := writeWAL(t, 1)
	slow := newLink(t, s, 2_500_000, 0).repository(s).host("WALDEN_TIMEOUT=5s", "WALDEN_COMPRESSION=none")
	wal.mustRun(t, slow, "wal-push", "pg_wal/"+wal.names[0])
	inspect(s).mustBeWhole(t)
	wal.mustRun(t, slow, "wal-fetch", wal.names[0], "pg_wal/RECOVERYXLOG")
	want, err := os.ReadFile(wal.path(wal.names[0]))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(wal.path("RECOVERYXLOG")); err != nil || !slices.Equal(got, want) {
		t.Errorf("fetched %d bytes (error: %v), want %d", len(got), err, len(want))
	}
}
