package story

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// backlog is WAL of a real cluster that waits to be archived, and what PostgreSQL would do about it.
type backlog struct {
	walFiles
	content map[string][]byte
}

// newBacklog makes a cluster that has written segments of 1 MB, and says that all are ready.
func newBacklog(t testing.TB, segments int) backlog {
	t.Helper()
	c := testkit.NewCluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{
		"archive_mode": "on", "archive_command": "false", "fsync": "off", "max_wal_size": "1GB",
	}})
	c.Start(t)
	b := backlog{content: map[string][]byte{}}
	b.dataDir, b.systemID = c.DataDir, c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")
	keepBusy(t, c, segments)
	c.QueryValue(t, "SELECT pg_switch_wal()")
	c.Stop(t, testkit.Immediate)
	for _, name := range b.status(t, ".ready") {
		data, err := os.ReadFile(b.path(name))
		if err != nil {
			t.Fatal(err)
		}
		b.names, b.content[name] = append(b.names, name), data
	}
	if len(b.names) < segments {
		t.Fatalf("only %d segments wait", len(b.names))
	}
	return b
}

// status lists the files that have that mark.
func (b backlog) status(t testing.TB, suffix string) (names []string) {
	t.Helper()
	for _, e := range namesIn(t, b.path("archive_status")) {
		if name, ok := strings.CutSuffix(e, suffix); ok {
			names = append(names, name)
		}
	}
	return names
}

func (b backlog) mark(t testing.TB, name, from, to string) {
	t.Helper()
	status := filepath.Join(b.path("archive_status"), name)
	if err := os.Rename(status+from, status+to); err != nil {
		t.Fatal(err)
	}
}

// mustBeTrue fails the test unless each record in the spool is about an object that the repository holds,
// with the content of that file. It returns how many there are.
func (b backlog) mustBeTrue(t testing.TB, repo *inspector) int {
	t.Helper()
	there := repo.mustBeWhole(t)
	records, err := filepath.Glob(filepath.Join(b.spool(), "pushed", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range records {
		text, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		var r struct{ Name, SHA256 string }
		if err := json.Unmarshal(text, &r); err != nil {
			t.Errorf("%s is torn: %v", record, err)
		}
		sum := sha256.Sum256(b.content[r.Name])
		if !slices.Contains(there, b.object(r.Name)) || r.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s is on record, and not in the repository", r.Name)
		}
	}
	for _, name := range b.status(t, ".done") {
		if !slices.Contains(there, b.object(name)) {
			t.Errorf("%s was reported stored, and is not in the repository", name)
		}
	}
	return len(records)
}

// TestCrashOfWALPushAhead kills wal-push again and again while it stores more than it was asked for. What
// is on record is in the repository, and in the end all is there, as it was.
func TestCrashOfWALPushAhead(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		b := newBacklog(t, 20)
		repo, h := inspect(s), s.repository().host()
		next := func() testkit.Cmd {
			return b.command(h, "wal-push", "--ahead", "4", "pg_wal/"+b.status(t, ".ready")[0])
		}
		done := func() {
			b.mark(t, b.status(t, ".ready")[0], ".ready", ".done")
		}
		round := func() { // begins anew when all is archived
			if len(b.status(t, ".ready")) > 0 {
				return
			}
			for _, name := range b.names {
				if !bytes.Equal(unpacked(t, s, b.object(name)), b.content[name]) {
					t.Errorf("%s is not what it was", name)
				}
				repo.forget(t, b.object(name))
				b.mark(t, name, ".done", ".ready")
			}
			if err := os.RemoveAll(filepath.Join(b.spool(), "pushed")); err != nil {
				t.Fatal(err)
			}
		}
		undisturbed := func() {
			for range 4 { // the others are on record
				round()
				if res := testkit.Run(t, next()); res.Code != 0 {
					t.Fatalf("exit %d\n%s", res.Code, res.Stderr)
				}
				done()
			}
		}
		k := newKiller(t, undisturbed)
		for k.killed < max(25, crashes(t)) && !t.Failed() {
			round()
			killed := k.killed
			k.kill(t, next())
			k.found[fmt.Sprintf("%d records", b.mustBeTrue(t, repo))]++
			if k.killed == killed {
				done()
			}
		}
		for len(b.status(t, ".ready")) > 0 {
			if res := testkit.Run(t, next()); res.Code != 0 || res.Stderr != "" {
				t.Fatalf("exit %d\n%s", res.Code, res.Stderr)
			}
			done()
		}
		round()
	})
}
