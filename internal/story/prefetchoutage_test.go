package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// trouble is what may happen to storage in the middle of a recovery, and be mended.
type trouble struct {
	name  string
	says  string
	shelf func(testing.TB) shelf
	make  func(t testing.TB, s shelf, object string) (mend func())
}

var troubles = []trouble{
	{"outage", "storage unavailable", newS3Shelf, func(t testing.TB, s shelf, _ string) func() {
		server := s.(s3Shelf).server
		server.Stop(t)
		return func() { server.Start(t) }
	}},
	{"hole", "hole in the archive", newDirShelf, func(t testing.TB, s shelf, object string) func() {
		path := filepath.Join(s.repository().dir, object)
		move := func(from, to string) {
			if err := os.Rename(from, to); err != nil {
				t.Fatal(err)
			}
		}
		away := filepath.Join(testkit.Dir(t), "away")
		move(path, away)
		return func() { move(away, path) }
	}},
	{"damage", "the repository's object is damaged", newDirShelf, func(t testing.TB, s shelf, object string) func() {
		path := filepath.Join(s.repository().dir, object)
		flip := func() {
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			body[len(body)/2] ^= 1
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, body, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		flip()
		return flip
	}},
}

// TestTroubleInRecovery: storage fails in the middle of a recovery that prefetches. A recovery stops with
// walden's message and does not promote; started again when all is well, it ends where it should. A standby
// keeps asking, and goes on when all is well.
func TestTroubleInRecovery(t *testing.T) {
	t.Parallel()
	for _, tr := range troubles {
		t.Run(tr.name, func(t *testing.T) {
			w := archiveWAL(t, tr.shelf(t), 60)
			for _, standby := range []bool{false, true} {
				tr.tell(t, w, standby)
			}
		})
	}
}

func (tr trouble) tell(t *testing.T, w archivedWAL, standby bool) {
	env := w.repository().host("WALDEN_TIMEOUT=1s").env
	middle := w.segments[30]
	c := w.recovery(t, env, pausing(t, w.segments[20]), "wal_retrieve_retry_interval", "100ms")
	if standby {
		if err := os.Rename(filepath.Join(c.DataDir, "recovery.signal"), filepath.Join(c.DataDir, "standby.signal")); err != nil {
			t.Fatal(err)
		}
	}
	c.Launch(t)
	testkit.Eventually(t, limit, "recovery is in the middle", func() bool { return strings.Contains(c.Log(), "paused before") })
	mustEndSoon(t, c.DataDir)
	mend := tr.make(t, w.shelf, w.object(middle))
	resume(t, c)
	if !standby {
		c.WaitExit(t, limit)
		mend()
		if log := c.Log(); !strings.Contains(log, tr.says) || strings.Contains(log, "selected new timeline") {
			t.Errorf("%s: the log says\n%s", tr.name, log)
		}
		promotes(t, restored{Cluster: c})
	} else {
		testkit.Eventually(t, limit, "the standby asks in vain", func() bool { return strings.Count(c.Log(), tr.says) >= 2 })
		if !c.Running() {
			t.Fatalf("%s: the standby has ended", tr.name)
		}
		mend()
		c.WaitReady(t, limit)
		c.WaitFor(t, "SELECT count(*) >= 240000 FROM t", "t", limit)
	}
	if got := c.QueryValue(t, contents); got != w.held {
		t.Errorf("%s: recovered %s, there were %s", tr.name, got, w.held)
	}
	c.Stop(t, testkit.Immediate)
}

// pausing is a restore_command that waits before a segment until resume is called.
func pausing(t testing.TB, segment string) fetcher {
	t.Helper()
	script := filepath.Join(testkit.Dir(t), "fetch")
	text := "#!/bin/sh\n" +
		`if [ "$1" = ` + segment + " ] && [ ! -e resume ]; then\n" +
		"  echo paused before $1 >&2\n  while [ ! -e resume ]; do sleep 0.05; done\nfi\n" +
		"exec " + testkit.Walden(t) + ` wal-fetch "$1" "$2"` + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return fetcher{command: script + " %f %p"}
}

// resume lets a recovery go on: restore_command runs in the data directory.
func resume(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.DataDir, "resume"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}
