package server_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/server"
	"walden/postgres/wal"
)

// startBackup begins a backup and fails the test when it can't.
func startBackup(t *testing.T, conn *server.Conn, label string) wal.LSN {
	t.Helper()
	lsn, err := conn.StartBackup(bounded(t), label, true)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// stopBackup ends it, and fails the test when that waits for anything.
func stopBackup(t *testing.T, conn *server.Conn) server.Stop {
	t.Helper()
	stop, err := conn.StopBackup(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return stop
}

// testBackup begins and ends a backup of a cluster with tablespaces.
func testBackup(t *testing.T, c *testkit.Cluster) {
	places := map[string]string{
		"plain":    serverDir(t, "plain"),
		"accented": serverDir(t, "Père Noël"),
		"escaped":  serverDir(t, `back\slash and  spaces`),
		"lines":    serverDir(t, "two\nlines"),
	}
	for name, dir := range places {
		c.Exec(t, "CREATE TABLESPACE "+name+" LOCATION '"+dir+"'")
	}
	// Conversion from this encoding would garble the UTF-8 in a path.
	c.Exec(t, "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
	conn := connect(t, server.Config{PGData: c.DataDir, DSN: "user=postgres dbname=latin"})

	start := startBackup(t, conn, `night's "backup" \ 100%`)
	xid := c.QueryValue(t, "SELECT pg_current_xact_id()::text::bigint")
	stop := stopBackup(t, conn)

	checkLabel(t, stop, start, c.DataDir)
	checkTablespaces(t, stop, places)
	checkPosition(t, c, stop, xid)
	if len(stop.Warnings) > 0 {
		t.Errorf("warnings: %q", stop.Warnings)
	}
}

func checkLabel(t *testing.T, stop server.Stop, start wal.LSN, dataDir string) {
	t.Helper()
	label, err := wal.ParseBackupLabel([]byte(stop.Label))
	if err != nil {
		t.Fatal(err)
	}
	if label.Start != start || label.Label != `night's "backup" \ 100%` || label.Method != "streamed" || label.Timeline != 1 {
		t.Errorf("start %s, label %+v", start, label)
	}
	if !strings.HasSuffix(stop.Label, "\n") || stop.LSN <= start {
		t.Errorf("stop %s after start %s, label ends in %q", stop.LSN, start, stop.Label[len(stop.Label)-5:])
	}
	if _, err := os.Stat(filepath.Join(dataDir, "backup_label")); err == nil {
		t.Error("the server left a backup_label: the backup was exclusive")
	}
}

// checkTablespaces compares with the links, which are what counts.
func checkTablespaces(t *testing.T, stop server.Stop, places map[string]string) {
	t.Helper()
	spaces, err := pgdata.ParseTablespaceMap([]byte(stop.TablespaceMap))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, s := range spaces {
		got = append(got, s.Location)
	}
	for _, dir := range places {
		want = append(want, dir)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("tablespaces are %q, want %q", got, want)
	}
}

func checkPosition(t *testing.T, c *testkit.Cluster, stop server.Stop, earlier string) {
	t.Helper()
	before, err := strconv.ParseUint(earlier, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if stop.NextXID <= before {
		t.Errorf("transaction %d completed before the end, but the next one is %d", before, stop.NextXID)
	}
	after, err := strconv.ParseUint(c.QueryValue(t, "SELECT pg_current_xact_id()::text::bigint"), 10, 64)
	if err != nil || stop.NextXID > after {
		t.Errorf("transaction %d came after the end, but the next one is %d (error: %v)", after, stop.NextXID, err)
	}
	if age := time.Since(stop.Time); age < 0 || age > limit {
		t.Errorf("the end was %s ago by the server's clock", age)
	}
}

// With archiving off, psql's user would be told to copy WAL by other means.
func TestBackupWithoutArchiving(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	conn := connect(t, server.Config{PGData: c.DataDir})
	startBackup(t, conn, "no archive")
	stop := stopBackup(t, conn)
	if stop.TablespaceMap != "" || len(stop.Warnings) > 0 {
		t.Errorf("tablespace_map %q, warnings %q", stop.TablespaceMap, stop.Warnings)
	}
	// The session is free for the next one.
	startBackup(t, conn, "again")
	stopBackup(t, conn)
	_, err := conn.StopBackup(bounded(t))
	wantError(t, err, server.ErrBackupVoid, "not in progress")
	_, err = conn.StartBackup(bounded(t), "two\nlines", true)
	wantError(t, err, server.ErrConfig, "line break")
}

// testConnectionKilled ends the session between start and stop.
func testConnectionKilled(t *testing.T, c *testkit.Cluster) {
	conn := connect(t, server.Config{PGData: c.DataDir, AppName: "victim"})
	startBackup(t, conn, "killed")
	c.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")
	c.WaitFor(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'victim'", "0", limit)
	_, err := conn.StopBackup(bounded(t))
	wantError(t, err, server.ErrBackupVoid, "stop backup", "session that began it is gone", "take a new one")
	wantError(t, err, server.ErrUnavailable)
	wantError(t, conn.Ping(bounded(t)), server.ErrUnavailable)
}

func TestBackupServerKilled(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	conn := connect(t, server.Config{PGData: c.DataDir})
	startBackup(t, conn, "killed")
	c.Kill(t)
	_, err := conn.StopBackup(bounded(t))
	wantError(t, err, server.ErrBackupVoid, "session that began it is gone")
}

func TestBackupCancelled(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	conn := connect(t, server.Config{PGData: c.DataDir})
	startBackup(t, conn, "cancelled")
	ctx, cancel := context.WithCancel(bounded(t))
	cancel()
	_, err := conn.StopBackup(ctx)
	wantError(t, err, context.Canceled)
	wantError(t, err, server.ErrBackupVoid)
}

func TestStandby(t *testing.T) {
	cleanEnv(t)
	primary := running(t, testkit.ClusterOptions{})
	standby := makeStandby(t, primary)
	conn := connect(t, server.Config{PGData: standby.DataDir})
	id := identify(t, conn)
	if err := prove(t, id, standby.DataDir); err != nil {
		t.Errorf("the right server is refused: %v", err)
	}
	if !id.InRecovery || id.Timeline != 1 {
		t.Errorf("identity is %+v", id)
	}

	t.Run("backup", func(t *testing.T) {
		start := startBackup(t, conn, "standby")
		stop := stopBackup(t, conn)
		label, err := wal.ParseBackupLabel([]byte(stop.Label))
		if err != nil || !label.FromStandby() || label.Start != start || stop.NextXID == 0 {
			t.Errorf("label %+v, stop %+v (error: %v)", label, stop, err)
		}
	})
	t.Run("primary by URL", func(t *testing.T) {
		url := "postgresql://postgres@127.0.0.1:" + strconv.Itoa(primary.Port) + "/postgres"
		upstream := connect(t, server.Config{DSN: url})
		if up := identify(t, upstream); up.SystemID != id.SystemID || up.InRecovery {
			t.Errorf("the primary is %+v, the standby %+v", up, id)
		}
		lsn, err := upstream.LogicalMessage(bounded(t), "walden", "nudge")
		if err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, limit, "the standby replays the message", func() bool {
			replayed, err := conn.CurrentLSN(bounded(t))
			return err == nil && replayed >= lsn
		})
	})
	t.Run("no writing", func(t *testing.T) {
		_, err := conn.SwitchWAL(bounded(t))
		wantError(t, err, nil, "switch to a new WAL segment", "recovery is in progress")
		_, err = conn.LogicalMessage(bounded(t), "walden", "x")
		wantError(t, err, nil, "logical message", "recovery")
	})
	t.Run("promotion", func(t *testing.T) {
		startBackup(t, conn, "promoted")
		standby.Exec(t, "SELECT pg_promote()")
		_, err := conn.StopBackup(bounded(t))
		wantError(t, err, server.ErrBackupVoid, "promoted during online backup", "take a new one")
		if id := identify(t, conn); id.InRecovery || id.Timeline != 2 {
			t.Errorf("after promotion the identity is %+v", id)
		}
	})
}

// makeStandby backs the primary up with nothing but StartBackup, cp and
// StopBackup, which shows that what they return is what recovery needs.
func makeStandby(t *testing.T, primary *testkit.Cluster) *testkit.Cluster {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "standby")
	conn := connect(t, server.Config{PGData: primary.DataDir})
	startBackup(t, conn, "makes a standby")
	if out, err := exec.Command("cp", "-a", primary.DataDir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the cluster: %v: %s", err, out)
	}
	stop := stopBackup(t, conn)
	for name, content := range map[string]string{"backup_label": stop.Label, "standby.signal": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, dir)
	standby := testkit.Attach(t, dir, testkit.ClusterOptions{Conf: map[string]string{"primary_conninfo": primary.DSN()}})
	standby.Start(t)
	return standby
}

// testSwitchWAL ends the first and the second segment.
func testSwitchWAL(t *testing.T, c *testkit.Cluster) {
	conn := connect(t, server.Config{PGData: c.DataDir, DSN: adverse})
	before, err := conn.CurrentLSN(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		message, err := conn.LogicalMessage(bounded(t), "walden", "it's a nudge")
		if err != nil || message < before {
			t.Fatalf("message at %s, after %s (error: %v)", message, before, err)
		}
		end, err := conn.SwitchWAL(bounded(t))
		if err != nil || end < message {
			t.Fatalf("switched at %s, message at %s (error: %v)", end, message, err)
		}
	}
	checkArchiver(t, conn)
}

// checkArchiver expects an archive that took the first segment, and no other.
func checkArchiver(t *testing.T, conn *server.Conn) {
	t.Helper()
	var a server.Archiver
	testkit.Eventually(t, limit, "one segment archived, one refused", func() bool {
		var err error
		if a, err = conn.Archiver(bounded(t)); err != nil {
			t.Fatal(err)
		}
		return a.Archived == 1 && a.Failed > 0
	})
	if a.LastArchived != "000000010000000000000001" || a.LastFailed != "000000010000000000000002" || !a.Failing() ||
		a.LastArchivedTime.IsZero() || time.Since(a.LastFailedTime) > limit {
		t.Errorf("archiver is %+v", a)
	}
}
