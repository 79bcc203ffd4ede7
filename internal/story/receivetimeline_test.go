package story

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walden/internal/testkit"
	"walden/postgres/wal"
)

// aStandby is a physical standby of a server, which streams from it and archives nothing.
func aStandby(t testing.TB, of *testkit.Cluster) *testkit.Cluster {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "standby")
	of.Client(t, "pg_basebackup", "-D", dir, "-c", "fast", "-X", "stream", "-R")
	testkit.GiveToServer(t, dir)
	return testkit.Attach(t, dir, testkit.ClusterOptions{})
}

// promote opens a standby for writing.
func promote(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	c.Exec(t, "SELECT pg_promote()")
	c.WaitFor(t, "SELECT pg_is_in_recovery()", "f", limit)
}

// tailsOf are the keys of the tails of a timeline.
func tailsOf(t testing.TB, s shelf, timeline string) []string {
	t.Helper()
	return slices.DeleteFunc(keysOf(s.list(t)), func(key string) bool {
		name, err := wal.ParseFileName(path.Base(key))
		return err != nil || name.Kind != wal.KindTail || name.Timeline.String() != timeline
	})
}

// TestReceivePromotion promotes a standby, which takes over the address of its primary. wal-receive follows:
// what there was of the old timeline is stored, with its history, and the new one from its first byte on.
func TestReceivePromotion(t *testing.T) {
	t.Parallel()
	s := newDirShelf(t)
	repo, h := s.repository(), s.repository().host()
	primary := testkit.NewCluster(t, receivable(nil))
	primary.Start(t)
	primary.Exec(t, "CREATE TABLE t (n int)")
	address := newSwitchboard(t, primary.Port)
	a := h.archivistOf(t, address.port)
	r := a.receive(t)
	h.must(t, "backup-push", primary.DataDir, "--no-wait")
	standby := aStandby(t, primary)
	standby.Start(t)

	writeSegments(t, primary, 3)
	primary.Exec(t, "INSERT INTO t VALUES (1)")
	flushed := primary.QueryValue(t, "SELECT pg_current_wal_flush_lsn()")
	standby.WaitFor(t, "SELECT pg_last_wal_replay_lsn() >= '"+flushed+"'", "t", limit)
	testkit.Eventually(t, limit, "all is received", func() bool {
		_, lsn := a.durable(t)
		return primary.QueryValue(t, "SELECT '"+lsn.String()+"' >= pg_current_wal_flush_lsn()") == "t"
	})
	primary.Kill(t)
	promote(t, standby)
	address.lead(standby.Port)
	standby.Exec(t, "INSERT INTO t VALUES (2)")
	last := writeSegments(t, standby, 3)
	mustArrive(t, s, last)
	mustArrive(t, s, "00000002.history")
	standby.Exec(t, "INSERT INTO t VALUES (3)")
	end := standby.QueryValue(t, "SELECT pg_current_wal_flush_lsn()")
	testkit.Eventually(t, limit, "the last row is received", func() bool {
		_, lsn := a.durable(t)
		return standby.QueryValue(t, "SELECT '"+lsn.String()+"' >= '"+end+"'::pg_lsn") == "t"
	})
	address.lead(0)
	standby.Stop(t, testkit.Immediate)
	testkit.Eventually(t, limit, "the tail of the new timeline is stored", func() bool { return len(tailsOf(t, s, "00000002")) > 0 })
	said := stops(t, r)
	for _, want := range []string{"can't receive WAL, and try again", "receiving WAL again", "the server left timeline 1, receiving goes on with timeline 2"} {
		if !strings.Contains(said, want) {
			t.Errorf("it has not said %q:\n%s", want, said)
		}
	}
	inspect(s).mustBeWhole(t)
	h.must(t, "info")
	segments := mustEqual(t, s, standby, last)
	tails := tailsOf(t, s, "00000001")
	if len(tails) == 0 {
		t.Fatal("there is no tail of the old timeline")
	}
	left, err := wal.ParseFileName(path.Base(tails[len(tails)-1]))
	if err != nil || left.Segment.String()[8:] != segments[0][8:] {
		t.Errorf("timeline 1 ends with %s, but timeline 2 begins with %s", left, segments[0])
	}
	original, err := os.ReadFile(filepath.Join(primary.DataDir, "pg_wal", left.Segment.String()))
	if err != nil || !bytes.HasPrefix(original, content(t, s, tails[len(tails)-1])) {
		t.Errorf("%s is no beginning of the old primary's (%v)", left, err)
	}
	history, err := os.ReadFile(filepath.Join(standby.DataDir, "pg_wal", "00000002.history"))
	if err != nil || !slices.ContainsFunc(keysOf(s.list(t)), func(key string) bool {
		return strings.HasSuffix(key, "/00000002.history") && bytes.Equal(content(t, s, key), history)
	}) {
		t.Errorf("the history is not the server's (%v)", err)
	}

	for _, c := range []struct {
		target []string
		rows   string
	}{{nil, "1,2,3"}, {[]string{"--target-timeline", "1"}, "1"}} {
		back := restore(t, repo, keyPair{}, c.target...)
		promotes(t, back)
		if got := back.QueryValue(t, "SELECT string_agg(n::text, ',' ORDER BY n) FROM t"); got != c.rows {
			t.Errorf("%q: recovered %s, want %s", c.target, got, c.rows)
		}
		mustBeOn(t, back.Cluster, 3)
	}
}

// TestReceivePromotionOfLaggard promotes a standby that has not got all that was received from its primary.
// wal-receive says so, keeps what the standby never had, and goes on with what the standby has.
func TestReceivePromotionOfLaggard(t *testing.T) {
	t.Parallel()
	s := newDirShelf(t)
	primary := testkit.NewCluster(t, receivable(nil))
	primary.Start(t)
	address := newSwitchboard(t, primary.Port)
	a := s.repository().host().archivistOf(t, address.port)
	r := a.receive(t)
	standby := aStandby(t, primary)
	standby.Start(t)
	first := writeSegments(t, primary, 2)
	flushed := primary.QueryValue(t, "SELECT pg_current_wal_flush_lsn()")
	standby.WaitFor(t, "SELECT pg_last_wal_replay_lsn() >= '"+flushed+"'", "t", limit)
	standby.Stop(t, testkit.Fast)
	lost := writeSegments(t, primary, 3)
	mustArrive(t, s, lost)
	stops(t, r)
	r = a.receive(t) // also when it has just begun
	primary.Kill(t)
	standby.Configure(t, map[string]string{"wal_keep_size": "8GB"})
	standby.Start(t)
	promote(t, standby)
	address.lead(standby.Port)
	last := writeSegments(t, standby, 5)
	mustArrive(t, s, last)
	said := stops(t, r)
	if !strings.Contains(said, "warning: timeline 1 was received up to") {
		t.Errorf("it has said:\n%s", said)
	}
	inspect(s).mustBeWhole(t)
	mustEqual(t, s, primary, lost)
	if segments := mustEqual(t, s, standby, last); segments[0][8:] > lost[8:] || segments[0][8:] < first[8:] {
		t.Errorf("timeline 2 begins with %s; what is lost of timeline 1 lies between %s and %s", segments[0], first, lost)
	}
}
