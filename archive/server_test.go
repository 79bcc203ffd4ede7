package archive

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walden/catalog"
	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/wal"
)

// TestFilesOfAServer archives what a real server writes, of all kinds, and takes
// nothing of another cluster for it.
func TestFilesOfAServer(t *testing.T) {
	for _, c := range []struct{ major, segmentMB int }{{testkit.DefaultMajor, 0}, {18, 64}} {
		t.Run(wal.SegmentSize(max(c.segmentMB, 16)<<20).String(), func(t *testing.T) {
			t.Parallel()
			// Without an archive_command everything waits in pg_wal.
			server := testkit.NewCluster(t, testkit.ClusterOptions{Major: c.major, SegmentSize: c.segmentMB,
				Conf: map[string]string{"archive_mode": "on", "archive_command": "", "restore_command": "exit 1"}})
			server.Start(t)
			writeWAL(t, server)
			server.Stop(t, testkit.Fast)
			h, stored := newHost(t), map[wal.Kind]int{}
			archiveAll(t, h, server.DataDir, stored) // recovery removes old segments, archived or not
			promote(t, server)
			server.Exec(t, "CREATE TABLE u AS SELECT 1", "SELECT pg_switch_wal()", "CREATE TABLE v AS SELECT 1", "SELECT pg_switch_wal()")
			server.Stop(t, testkit.Fast)
			archiveAll(t, h, server.DataDir, stored)
			for _, kind := range []wal.Kind{wal.KindSegment, wal.KindPartial, wal.KindBackupHistory, wal.KindHistory} {
				if stored[kind] == 0 {
					t.Errorf("no %s was archived: %v", kind, stored)
				}
			}
			checkTimelines(t, h, server.DataDir)
		})
	}
}

// writeWAL makes whole segments and a backup history file.
func writeWAL(t *testing.T, server *testkit.Cluster) {
	start, stop := "pg_backup_start('b', true)", "pg_backup_stop(false)"
	if server.Major < 15 {
		start, stop = "pg_start_backup('b', true, false)", "pg_stop_backup(false, false)"
	}
	server.Exec(t, "CREATE TABLE t AS SELECT g, md5(g::text) FROM generate_series(1, 50000) g", "SELECT pg_switch_wal()",
		"SELECT "+start, "INSERT INTO t SELECT 1, 'x'", "SELECT "+stop, "SELECT pg_switch_wal()", "CREATE TABLE w AS SELECT 1")
}

// promote makes the server recover to a new timeline, which leaves a history
// file and the partial segment of the old one.
func promote(t *testing.T, server *testkit.Cluster) {
	signal := filepath.Join(server.DataDir, "recovery.signal")
	if err := os.WriteFile(signal, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, signal)
	server.Start(t)
	server.WaitFor(t, "SELECT pg_is_in_recovery()", "f", time.Minute)
}

// archiveAll pushes and fetches every file of pg_wal that belongs to an archive.
func archiveAll(t *testing.T, h *host, dataDir string, stored map[wal.Kind]int) {
	ctl, _, err := pgdata.ReadControl(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	repo := catalog.Open(h.repo.Store, ctl.SystemID)
	entries, err := os.ReadDir(filepath.Join(dataDir, "pg_wal"))
	if err != nil {
		t.Fatal(err)
	}
	opts := PushOptions{SegmentSize: ctl.SegmentSize, Major: ctl.Major, Spool: h.spool, Repository: h.dir}
	for _, e := range entries {
		name, err := wal.ParseFileName(e.Name())
		if err != nil || !isReady(t, dataDir, e.Name()) {
			continue // archive_status, segments for the future
		}
		path, dst := filepath.Join(dataDir, "pg_wal", e.Name()), filepath.Join(h.pgWAL, "RECOVERYXLOG")
		if _, err := Push(ctx, repo, path, opts); err != nil {
			t.Error(err)
			continue
		}
		stored[name.Kind]++
		if err := Fetch(ctx, repo, name, dst, FetchOptions{SegmentSize: ctl.SegmentSize, Spool: h.spool}); err != nil {
			t.Error(err)
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, want)
		_, err = Push(ctx, h.repo, path, opts) // as if it were of another cluster
		if isSegment(name) {
			mustBe(t, err, ErrRefused)
		}
	}
}

// checkTimelines: the archive shows what the server did.
func checkTimelines(t *testing.T, h *host, dataDir string) {
	ctl, _, err := pgdata.ReadControl(dataDir)
	if err != nil {
		t.Fatal(err)
	}
	timelines, err := catalog.Open(h.repo.Store, ctl.SystemID).Timelines(context.Background(), ctl.SegmentSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(timelines) != 2 || timelines[1].History == nil || len(timelines[0].Ranges) != 1 || len(timelines[1].Ranges) != 1 {
		t.Errorf("timelines: %+v", timelines)
	}
}

// isReady reports whether the server wants the file archived.
func isReady(t *testing.T, dataDir, name string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dataDir, "pg_wal", "archive_status", name+".ready"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return err == nil
}
