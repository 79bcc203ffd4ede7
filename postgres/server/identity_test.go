package server_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/server"
)

func testIdentity(t *testing.T, c *testkit.Cluster) {
	id := identify(t, connect(t, server.Config{PGData: c.DataDir, DSN: adverse}))
	if err := prove(t, id, c.DataDir); err != nil {
		t.Errorf("the right server is refused: %v", err)
	}
	ctl, _, err := pgdata.ReadControl(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if id.Major != c.Major || id.VersionNum/10000 != c.Major || id.SystemID != ctl.SystemID || id.InRecovery ||
		id.Port != c.Port || id.DataDirectory != c.DataDir || id.SegmentSize != 64<<20 || id.Timeline != 1 ||
		id.WALLevel != "logical" || id.ArchiveMode != "on" || !strings.HasPrefix(id.ArchiveCommand, "test %f") || id.ArchiveLibrary != "" {
		t.Errorf("identity is %+v", id)
	}
	file, err := os.ReadFile(filepath.Join(c.DataDir, "postmaster.pid"))
	if err != nil || string(id.PostmasterPIDFile) != string(file) {
		t.Errorf("postmaster.pid through the server is %q, want %q (error: %v)", id.PostmasterPIDFile, file, err)
	}
}

// The incident that this is for: two clusters on one host, and PGPORT names
// the wrong one.
func TestProveOtherCluster(t *testing.T) {
	cleanEnv(t)
	ours, other := running(t, testkit.ClusterOptions{}), running(t, testkit.ClusterOptions{})
	t.Setenv("PGPORT", strconv.Itoa(other.Port))
	id := identify(t, connect(t, server.Config{PGData: ours.DataDir}))
	err := prove(t, id, ours.DataDir)
	wantOther(t, err, "system identifier", "data directory", "port", "started", "process ID")
	for _, word := range []string{
		systemID(ours, t), systemID(other, t), ours.DataDir, other.DataDir, strconv.Itoa(ours.Port), strconv.Itoa(other.Port),
		strconv.Itoa(ours.PID()), strconv.Itoa(other.PID()), "PGPORT",
	} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in: %s", word, err)
		}
	}
}

// A copy of a cluster has the same system identifier.
func TestProveCopiedDirectory(t *testing.T) {
	cleanEnv(t)
	original := testkit.NewCluster(t, testkit.ClusterOptions{})
	dir := filepath.Join(testkit.Dir(t), "copy")
	if out, err := exec.Command("cp", "-a", original.DataDir, dir).CombinedOutput(); err != nil {
		t.Fatalf("copy the cluster: %v: %s", err, out)
	}
	replica := testkit.Attach(t, dir, testkit.ClusterOptions{})
	original.Start(t)
	replica.Start(t)
	id := identify(t, connect(t, server.Config{DSN: original.DSN()}))
	if err := prove(t, id, original.DataDir); err != nil {
		t.Errorf("the right server is refused: %v", err)
	}
	wantOther(t, prove(t, id, dir), "data directory", "port", "process ID")

	t.Run("with its postmaster.pid", func(t *testing.T) {
		replica.Stop(t, testkit.Fast)
		pidFile, err := os.ReadFile(filepath.Join(original.DataDir, "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), pidFile, 0o600); err != nil {
			t.Fatal(err)
		}
		wantOther(t, prove(t, id, dir), "data directory")
	})
	t.Run("through a link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(original.DataDir, link); err != nil {
			t.Fatal(err)
		}
		if err := prove(t, id, link); err != nil {
			t.Errorf("a link to the right directory is refused: %v", err)
		}
	})
	t.Run("restarted since", func(t *testing.T) {
		original.Restart(t)
		wantOther(t, prove(t, id, original.DataDir), "process ID")
	})
}

func TestProveLowlyRole(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	c.Exec(t, "CREATE ROLE lowly LOGIN")
	conn := connect(t, server.Config{PGData: c.DataDir, DSN: "user=lowly"})
	id := identify(t, conn)
	if id.DataDirectory != "" || id.PostmasterPIDFile != nil || id.SystemID == 0 {
		t.Errorf("a lowly role sees %+v", id)
	}
	wantError(t, prove(t, id, c.DataDir), server.ErrDenied, "pg_read_all_settings")
	_, err := conn.StartBackup(bounded(t), "lowly", true)
	wantError(t, err, server.ErrDenied, "start backup", "permission denied", "superuser")
	_, err = conn.Setting(bounded(t), "data_directory")
	wantError(t, err, server.ErrDenied, "data_directory")

	c.Exec(t, "GRANT pg_read_all_settings TO lowly")
	if err := prove(t, identify(t, conn), c.DataDir); err != nil {
		t.Errorf("the right server is refused: %v", err)
	}
}

// wantOther checks that exactly the named traits are marked, or at least them
// where two servers may have started in the same second.
func wantOther(t *testing.T, err error, traits ...string) {
	t.Helper()
	if !errors.Is(err, server.ErrOtherCluster) {
		t.Fatalf("the error is not ErrOtherCluster: %v", err)
	}
	for _, trait := range traits {
		if trait != "started" && !strings.Contains(err.Error(), "\n  * "+trait) {
			t.Errorf("%s is not marked in: %s", trait, err)
		}
	}
}

func systemID(c *testkit.Cluster, t *testing.T) string {
	return c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")
}
