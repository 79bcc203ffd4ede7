package commands

import (
	"os"
	"path/filepath"
	"testing"

	"walden/internal/testkit"
)

// archiveFiles are files of a real cluster, as archive_command finds them: a data
// directory with pg_control and what lies in pg_wal.
type archiveFiles struct {
	dir      string
	systemID string
	segments []string // names, of 1 MiB each, one after the other
	label    string   // name of a backup history file
}

// newArchive makes a cluster and lets it write some WAL.
func newArchive(t *testing.T) archiveFiles {
	t.Helper()
	// What could not be archived yet stays where it is.
	conf := map[string]string{"archive_mode": "on", "archive_command": "false"}
	c := testkit.NewCluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: conf})
	c.Start(t)
	a := archiveFiles{dir: testkit.Dir(t), systemID: c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")}
	for range 5 {
		c.Exec(t, "SELECT pg_logical_emit_message(true, 'test', repeat('wal', 1000))")
		a.segments = append(a.segments, c.QueryValue(t, "SELECT pg_walfile_name(pg_switch_wal())"))
	}
	c.Exec(t, "SELECT pg_backup_start('test', true); SELECT pg_backup_stop(false)")
	c.Stop(t, testkit.Immediate) // Fast would try to archive
	keep := []string{"global/pg_control"}
	for _, segment := range a.segments {
		keep = append(keep, "pg_wal/"+segment)
	}
	labels, err := filepath.Glob(filepath.Join(c.DataDir, "pg_wal/*.backup"))
	if err != nil || len(labels) != 1 {
		t.Fatalf("found backup history files %q (error: %v), want one", labels, err)
	}
	a.label = filepath.Base(labels[0])
	a.take(t, c.DataDir, append(keep, "pg_wal/"+a.label))
	return a
}

// take copies files of the data directory from.
func (a archiveFiles) take(t *testing.T, from string, names []string) {
	t.Helper()
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(a.dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
