package story

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walden/internal/testkit"
)

// smallVolume mounts a file system for a server's pg_wal, with that many bytes.
func smallVolume(t testing.TB, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a tmpfs")
	}
	dir := testkit.Dir(t)
	if err := syscall.Mount("walden-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		testkit.SkipUnlessCI(t, fmt.Sprintf("cannot mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	testkit.GiveToServer(t, dir)
	return dir
}

// cramped starts a cluster whose pg_wal lies on a volume of 256 MB, and archives with those flags.
func cramped(t testing.TB, h host, flags string) *testkit.Cluster {
	t.Helper()
	volume := smallVolume(t, 256<<20)
	c := testkit.NewCluster(t, testkit.ClusterOptions{SegmentSize: 4, Env: h.env, Conf: map[string]string{
		"archive_mode":    "on",
		"archive_command": testkit.Walden(t) + ` wal-push --timeout 1s ` + flags + ` "%p"`,
		"max_wal_size":    "48MB", "min_wal_size": "8MB", "autovacuum": "off", "fsync": "off",
	}})
	walDir := filepath.Join(c.DataDir, "pg_wal")
	if err := os.CopyFS(filepath.Join(volume, "pg_wal"), os.DirFS(walDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(walDir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(volume, "pg_wal"), walDir); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, volume)
	c.Start(t)
	return c
}

// gapReport is what the stories about gaps read in the JSON of info.
type gapReport struct {
	Clusters []struct {
		Gaps []struct {
			First, Last, Reason, Host string
			Segments                  int
		}
	}
}

// gaps returns what info shows.
func (h host) gaps(t testing.TB) gapReport {
	t.Helper()
	var r gapReport
	res := h.walden(t, "info", "--json")
	if err := json.Unmarshal([]byte(res.Stdout), &r); err != nil || len(r.Clusters) != 1 {
		t.Fatalf("info: exit %d (error: %v)\n%s%s", res.Code, err, res.Stdout, res.Stderr)
	}
	return r
}

// away takes a directory repository away, as a network file system that is not mounted, and returns what
// brings it back.
func away(t testing.TB, repo repository) (back func()) {
	t.Helper()
	hidden := repo.dir + ".away"
	if err := os.Rename(repo.dir, hidden); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Rename(hidden, repo.dir); err != nil {
			t.Fatal(err)
		}
	}
}

// fill writes some 16 MB of WAL.
const fill = `SELECT pg_logical_emit_message(true, 'fill', repeat(md5(random()::text), 16384)) FROM generate_series(1, 32)`

// TestDiskPressure: with the repository away, the database survives more WAL than its volume holds; then
// the gap is in the repository, and info shows it.
func TestDiskPressure(t *testing.T) {
	t.Parallel()
	repo := aDirectory(t)
	h := repo.host()
	c := cramped(t, h, "--drop-when-pg-wal-over 40%")
	c.Exec(t, "CREATE TABLE t (i int)", "INSERT INTO t VALUES (1)")
	archiveAll(t, c)
	back := away(t, repo)
	for range 24 { // 384 MB
		c.Exec(t, fill, "INSERT INTO t VALUES (2)")
		c.WaitFor(t, "SELECT count(*) < 28 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'", "t", limit) // as fast as a disk of its size
	}
	if n := c.QueryValue(t, "SELECT count(*) FROM t"); n != "25" {
		t.Errorf("the table holds %s rows", n)
	}
	if log := c.Log(); !strings.Contains(log, "GAVE UP") || !strings.Contains(log, "more than the limit of 40%") {
		t.Error("the server's log doesn't say what was given up")
	}
	back()
	for range 2 {
		c.Exec(t, "CHECKPOINT", "INSERT INTO t VALUES (3)")
		archiveAll(t, c)
	}

	r := h.gaps(t)
	lost := 0
	for _, g := range r.Clusters[0].Gaps {
		lost += g.Segments
		if g.Host == "" || !strings.Contains(g.Reason, "pg_wal holds") {
			t.Errorf("a gap: %+v", g)
		}
	}
	if lost < 5 {
		t.Errorf("info shows %d segments given up: %+v", lost, r)
	}
	text := h.walden(t, "info").Stdout
	if !strings.Contains(text, "GAP ON TIMELINE") || !strings.Contains(text, "after a gap: given up") {
		t.Errorf("info shows:\n%s", text)
	}
	notes, err := filepath.Glob(filepath.Join(c.DataDir, "pg_wal", ".walden", "gaps", "*", "*"))
	if err != nil || len(notes) != 0 {
		t.Errorf("%d notes are left (error: %v)", len(notes), err)
	}
	// What is neither in the repository nor in a gap would be lost silently.
	mustAccountForAll(t, repo, r)
	h.must(t, "backup-push", c.DataDir)
	h.onlyBackup(t)
}

// mustAccountForAll fails the test unless every segment between the first and the last in the repository
// is there or in a gap.
func mustAccountForAll(t testing.TB, repo repository, r gapReport) {
	t.Helper()
	there := map[string]bool{}
	var first, last string
	for name := range (dirShelf{dir: repo.dir}).list(t) {
		if file := filepath.Base(name); isSegmentName(file) {
			there[file] = true
			if first == "" || file < first {
				first = file
			}
			last = max(last, file)
		}
	}
	for name := first; name < last; name = nextSegment(t, name) {
		explained := there[name]
		for _, g := range r.Clusters[0].Gaps {
			explained = explained || g.First <= name && name <= g.Last
		}
		if !explained {
			t.Errorf("%s is neither in the repository nor in a gap", name)
		}
	}
}

// nextSegment is for segments of 4 MB.
func nextSegment(t testing.TB, name string) string {
	t.Helper()
	var timeline, log, seg uint32
	if _, err := fmt.Sscanf(name, "%08X%08X%08X", &timeline, &log, &seg); err != nil {
		t.Fatal(err)
	}
	if seg++; seg == 1024 {
		log, seg = log+1, 0
	}
	return fmt.Sprintf("%08X%08X%08X", timeline, log, seg)
}

// TestDiskPressureWithoutTheOption: PostgreSQL stops by itself when the volume is full. Nothing was reported
// archived that is not.
func TestDiskPressureWithoutTheOption(t *testing.T) {
	t.Parallel()
	repo := aDirectory(t)
	h := repo.host()
	c := cramped(t, h, "")
	c.Exec(t, "CREATE TABLE t (i int)")
	archiveAll(t, c)
	archived := c.QueryValue(t, "SELECT archived_count FROM pg_stat_archiver")
	away(t, repo)
	for range 24 {
		if !c.Running() {
			break
		}
		if _, err := c.TryQuery(t.Context(), fill); err != nil {
			break
		}
		if got := c.QueryValue(t, "SELECT archived_count FROM pg_stat_archiver"); got != archived {
			t.Fatalf("%s files are archived, %s were before", got, archived)
		}
	}
	testkit.Eventually(t, limit, "the server finds its disk full", func() bool {
		return strings.Contains(c.Log(), "No space left on device")
	})
	if strings.Contains(c.Log(), "GAVE UP") {
		t.Error("something was given up")
	}
	if notes, err := filepath.Glob(filepath.Join(c.DataDir, "pg_wal", ".walden", "gaps")); err != nil || len(notes) != 0 {
		t.Errorf("notes: %v, %v", notes, err)
	}
	if c.Running() {
		c.Stop(t, testkit.Immediate)
	}
	hidden := dirShelf{dir: repo.dir + ".away"}
	stored := map[string]bool{}
	for name := range hidden.list(t) {
		stored[filepath.Base(name)] = true
	}
	done, err := filepath.Glob(filepath.Join(c.DataDir, "pg_wal", "archive_status", "*.done"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range done {
		if name := strings.TrimSuffix(filepath.Base(path), ".done"); !stored[name] {
			t.Errorf("%s was reported archived", name)
		}
	}
}
