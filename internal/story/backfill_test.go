package story

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// TestBackfill: for a while archive_command was /bin/true. What PostgreSQL takes for archived since, and
// still has, is stored later.
func TestBackfill(t *testing.T) {
	t.Parallel()
	s := newDirShelf(t)
	h := s.repository().host()
	c := h.cluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{"wal_keep_size": "1GB", "fsync": "off"}})
	c.Exec(t, "CREATE TABLE t (i int)")
	h.must(t, "backup-push", c.DataDir)
	c.Exec(t, "INSERT INTO t VALUES (0)")
	archiveAll(t, c)
	c.Configure(t, map[string]string{"archive_command": "/bin/true"})
	c.Restart(t)
	keepBusy(t, c, 12)
	archiveAll(t, c)
	c.Configure(t, map[string]string{"archive_command": testkit.Walden(t) + ` wal-push "%p"`})
	c.Restart(t)
	c.Exec(t, "INSERT INTO t VALUES (1)")
	archiveAll(t, c)
	if text := h.must(t, "info"); !strings.Contains(text, "after a hole") {
		t.Errorf("info shows no hole:\n%s", text)
	}
	out := h.must(t, "wal-push", "--backfill", "--pgdata", c.DataDir)
	if n := strings.Count(out, "stored 0"); n < 12 {
		t.Errorf("stored %d:\n%s", n, out)
	}
	if text := h.must(t, "info"); strings.Contains(text, "after a hole") {
		t.Errorf("info shows a hole:\n%s", text)
	}
	if again := h.must(t, "wal-push", "--backfill", "--pgdata", c.DataDir); !strings.Contains(again, "; 0 were lacking") {
		t.Errorf("again: %s", again)
	}
	cluster := c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")
	w := walFiles{dataDir: c.DataDir, systemID: cluster}
	done, err := filepath.Glob(filepath.Join(w.path("archive_status"), "*.done"))
	if err != nil || len(done) < 12 {
		t.Fatalf("%d files are archived (error: %v)", len(done), err)
	}
	for _, path := range done {
		name := strings.TrimSuffix(filepath.Base(path), ".done")
		if !isSegmentName(name) {
			continue
		}
		want, err := os.ReadFile(w.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(unpacked(t, s, w.object(name)), want) {
			t.Errorf("%s is another file in the repository", name)
		}
	}
	rows := c.QueryValue(t, "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM busy)")
	lose(t, c, nil)
	back := restore(t, s.repository(), keyPair{})
	promotes(t, back)
	if got := back.QueryValue(t, "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM busy)"); got != rows {
		t.Errorf("recovered %s rows, want %s", got, rows)
	}
}
