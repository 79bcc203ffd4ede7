package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestClusterOfEachMajor(t *testing.T) {
	for _, major := range PostgresMajors(t) {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			c := NewCluster(t, ClusterOptions{Major: major, SegmentSize: 64, Checksums: true})
			c.Start(t)
			for sql, want := range map[string]string{
				"SELECT current_setting('server_version_num')::int / 10000": fmt.Sprint(major),
				"SHOW wal_segment_size": "64MB",
				"SHOW data_checksums":   "on",
				"SHOW fsync":            "on",
			} {
				if got := c.QueryValue(t, sql); got != want {
					t.Errorf("%s: got %s, want %s", sql, got, want)
				}
			}
		})
	}
}

func TestClusterSurvivesKill(t *testing.T) {
	c := NewCluster(t, ClusterOptions{Conf: map[string]string{"work_mem": "5MB"}})
	c.Start(t)
	if got := c.QueryValue(t, "SHOW work_mem"); got != "5MB" {
		t.Errorf("work_mem is %s", got)
	}
	c.Exec(t, "CREATE TABLE t (n int)", "INSERT INTO t SELECT generate_series(1, 100)")
	children, err := descendants(c.PID())
	if err != nil || len(children) < 4 {
		t.Fatalf("found %d children of a server (error: %v), expected more", len(children), err)
	}
	c.Kill(t)
	if !children.gone() {
		t.Error("a killed server's children live on")
	}
	c.Start(t)
	c.WaitFor(t, "SELECT count(*) FROM t", "100", readyLimit)
	if !strings.Contains(c.Log(), "was not properly shut down") {
		t.Error("the log doesn't tell of a crash")
	}
	c.Restart(t)
	if out := c.Client(t, "psql", "-AtXc", "SELECT sum(n) FROM t"); out != "5050\n" {
		t.Errorf("psql says %q", out)
	}
}

func TestKillEndsCommandsOfTheServer(t *testing.T) {
	dir := Dir(t)
	c := NewCluster(t, ClusterOptions{Conf: map[string]string{
		"archive_mode":    "on",
		"archive_command": "touch " + filepath.Join(dir, "runs") + "; exec sleep 600",
	}})
	c.Start(t)
	c.Exec(t, "CREATE TABLE t ()", "SELECT pg_switch_wal()")
	Eventually(t, readyLimit, "archive_command runs", func() bool {
		_, err := os.Stat(filepath.Join(dir, "runs"))
		return err == nil
	})
	children, err := descendants(c.PID())
	if err != nil {
		t.Fatal(err)
	}
	c.Kill(t)
	if !children.gone() {
		t.Error("a killed server's commands live on")
	}
}

func TestAttachLeavesTheFilesAlone(t *testing.T) {
	c := NewCluster(t, ClusterOptions{})
	conf := filepath.Join(c.DataDir, "postgresql.conf")
	before, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	attached := Attach(t, c.DataDir, ClusterOptions{Conf: map[string]string{"work_mem": "7MB"}})
	attached.Start(t)
	if got := attached.QueryValue(t, "SHOW work_mem"); got != "7MB" {
		t.Errorf("work_mem is %s", got)
	}
	attached.Stop(t, Fast)
	if after, err := os.ReadFile(conf); err != nil || string(after) != string(before) {
		t.Errorf("postgresql.conf changed (error: %v)", err)
	}
}

func TestServerThatEndsByItself(t *testing.T) {
	c := NewCluster(t, ClusterOptions{})
	c.Configure(t, map[string]string{"shared_buffers": "nonsense"})
	c.Launch(t)
	if code := c.WaitExit(t, readyLimit); code == 0 {
		t.Error("a server with a bad configuration exits with 0")
	}
	if !strings.Contains(c.Log(), "nonsense") {
		t.Errorf("the log doesn't say why:\n%s", c.Log())
	}
}

// TestNothingOutlivesTheTestBinary kills a test binary that runs a server.
func TestNothingOutlivesTheTestBinary(t *testing.T) {
	const announce = "WALDEN_TEST_ANNOUNCE"
	if path := os.Getenv(announce); path != "" {
		c := NewCluster(t, ClusterOptions{})
		c.Start(t)
		text := fmt.Sprintf("%d\n%s\n", c.PID(), c.DataDir)
		if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
		select {} // until killed
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	announced := filepath.Join(Dir(t), "server")
	binary := Start(t, Cmd{
		Path: program,
		Args: []string{"-test.run=^" + t.Name() + "$"},
		Env:  []string{announce + "=" + announced},
		Dir:  Root(t), // where it finds go.mod, and with that PostgreSQL
	})
	var pid int
	var dataDir string
	Eventually(t, readyLimit, "the other test binary's server runs", func() bool {
		text, err := os.ReadFile(announced)
		if err != nil {
			return false
		}
		_, err = fmt.Sscan(string(text), &pid, &dataDir)
		return err == nil
	})
	binary.Kill(t)
	Eventually(t, stopLimit, "the server is gone", func() bool {
		return syscall.Kill(pid, 0) == syscall.ESRCH
	})
	Eventually(t, stopLimit, "its files are gone", func() bool {
		_, err := os.Stat(dataDir)
		return os.IsNotExist(err)
	})
}
