package story

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/wal"
)

// TestReceiveStorageAway takes storage away while WAL is received, and the server too. One line tells of
// each, one line that it is over, and nothing is missing in the end.
func TestReceiveStorageAway(t *testing.T) {
	t.Parallel()
	s := newS3Shelf(t).(s3Shelf)
	c := testkit.NewCluster(t, receivable(nil))
	c.Start(t)
	address := newSwitchboard(t, c.Port)
	a := s.repository().host().archivistOf(t, address.port)
	r := a.receive(t, "--partial-interval", "200ms")
	mustArrive(t, s, writeSegments(t, c, 2))
	s.server.Stop(t)
	away := time.Now()
	last := writeSegments(t, c, 4)
	testkit.Eventually(t, limit, "all gathers in the spool", func() bool { return strings.Contains(fmt.Sprint(a.waiting(t)), last) })
	address.lead(0)
	writeSegments(t, c, 2)
	address.lead(c.Port)
	last = writeSegments(t, c, 1)
	testkit.Eventually(t, limit, "all gathers in the spool", func() bool { return strings.Contains(fmt.Sprint(a.waiting(t)), last) })
	testkit.Eventually(t, limit, "storage is given up for the moment", func() bool { return time.Since(away) > 2*storageTimeout })
	s.server.Start(t)
	mustArrive(t, s, last)
	testkit.Eventually(t, limit, "the spool is empty", func() bool { return len(a.waiting(t)) == 0 })
	said := stops(t, r)
	for what, want := range map[string]int{
		"can't store WAL, and try again": 1, "storing WAL again after": 1, "can't receive WAL, and try again": 1, "receiving WAL again after": 1, "walden: warning": 2,
	} {
		if got := strings.Count(said, what); got != want {
			t.Errorf("it has said %q %d times, want %d", what, got, want)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
	inspect(s).mustBeWhole(t)
	mustEqual(t, s, c, last)
}

// TestReceiveBackpressure takes storage away for so long that the spool is full. Nothing more is received
// then, and nothing is dropped: the server keeps it, and the session that doesn't read goes on for longer
// than the server waits for those who are dead.
func TestReceiveBackpressure(t *testing.T) {
	t.Parallel()
	s := newS3Shelf(t).(s3Shelf)
	c := testkit.NewCluster(t, receivable(map[string]string{"wal_sender_timeout": "3s"}))
	c.Start(t)
	a := s.repository().host().archivistOf(t, c.Port)
	r := a.receive(t, "--spool-limit", "4MB", "--partial-interval", "0s")
	mustArrive(t, s, writeSegments(t, c, 1))
	session := func() string {
		return c.QueryValue(t, "SELECT string_agg(pid::text, ' ') FROM pg_stat_replication WHERE application_name = 'walden'")
	}
	was := session()
	s.server.Stop(t)
	last := writeSegments(t, c, 12)
	testkit.Eventually(t, limit, "the spool is full", func() bool { return len(a.waiting(t)) == 4 })
	full := time.Now()
	testkit.Eventually(t, limit, "the server would have given up twice", func() bool {
		kept, err := wal.ParseLSN(c.QueryValue(t, "SELECT restart_lsn FROM pg_replication_slots"))
		_, durable := a.durable(t)
		if n := len(a.waiting(t)); n != 4 || err != nil || kept > durable {
			t.Fatalf("%d files wait, the slot keeps WAL from %s on (error: %v), it is received up to %s", n, kept, err, durable)
		}
		return time.Since(full) > 6*time.Second
	})
	if now := session(); now != was {
		t.Errorf("the session %s is gone, now it is %s", was, now)
	}
	s.server.Start(t)
	mustArrive(t, s, last)
	testkit.Eventually(t, limit, "all is stored", func() bool { return len(a.waiting(t)) == 0 }) // they may overtake each other
	said := stops(t, r)
	for _, want := range []string{"the spool has reached its limit", "receiving goes on after", "can't store WAL"} {
		if strings.Count(said, want) != 1 {
			t.Errorf("it has not said %q once:\n%s", want, said)
		}
	}
	inspect(s).mustBeWhole(t)
	mustEqual(t, s, c, last)
}

// TestReceiveRefuses shows the reasons for which wal-receive doesn't begin, or doesn't go on: nothing is
// stored then, and no server gets a slot.
func TestReceiveRefuses(t *testing.T) {
	t.Parallel()
	s := newDirShelf(t)
	h := s.repository().host()
	c := testkit.NewCluster(t, receivable(map[string]string{"wal_keep_size": "0", "max_wal_size": "2MB", "min_wal_size": "2MB"}))
	c.Start(t)
	other := testkit.NewCluster(t, testkit.ClusterOptions{})
	id := c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")
	a := h.archivistOf(t, c.Port)
	refuses := func(code int, parts []string, args ...string) {
		t.Helper()
		res := h.walden(t, args...)
		if res.Code != code {
			t.Errorf("%q: exit %d, want %d", args, res.Code, code)
		}
		for _, part := range append(parts, "walden: error: wal-receive: ") {
			if !strings.Contains(res.Stderr, part) {
				t.Errorf("%q doesn't say %q:\n%s", args, part, res.Stderr)
			}
		}
	}
	refuses(1, []string{id, "is meant"}, a.args("--pgdata", other.DataDir)...)
	refuses(1, []string{id, "123 is meant"}, a.args("--cluster", "123")...)
	refuses(64, []string{"123"}, a.args("--pgdata", c.DataDir, "--cluster", "123")...)
	refuses(64, []string{"--spool"}, "wal-receive", "--dsn", a.dsn)
	refuses(64, []string{"--spool-limit", "20GB"}, a.args("--spool-limit", "1")...)
	refuses(64, []string{"--partial-interval"}, a.args("--partial-interval", "-1s")...)
	refuses(64, []string{"Not/A_Slot"}, a.args("--slot", "Not/A_Slot")...)
	refuses(1, []string{"no such"}, "wal-receive", "--dsn", a.dsn, "--spool", a.spool)
	refuses(64, []string{"does not exist"}, a.args("--repo", "file:///nowhere")...)
	refuses(2, []string{"nobody"}, "wal-receive", "--dsn", a.dsn+" user=nobody", "--spool", a.spool)
	if n := c.QueryValue(t, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s slots were made", n)
	}
	for _, key := range keysOf(s.list(t)) {
		if key != id+"/cluster.json" {
			t.Errorf("%s was stored", key)
		}
	}

	a.spool = testkit.Dir(t)
	r := a.receive(t)
	mustArrive(t, s, writeSegments(t, c, 2))
	refuses(2, []string{"in use by another process"}, a.args()...)
	stops(t, r)
	// Somebody drops the slot, and the server removes what wasn't received yet.
	c.Exec(t, "SELECT pg_drop_replication_slot('walden')")
	_, durable := a.durable(t)
	next := wal.SegmentAt(1, durable, smallSegments<<20).String()
	testkit.Eventually(t, limit, "the server has removed "+next, func() bool {
		writeSegments(t, c, 3)
		c.Exec(t, "CHECKPOINT")
		_, err := os.Stat(filepath.Join(c.DataDir, "pg_wal", next))
		return os.IsNotExist(err)
	})
	refuses(1, []string{"WAL is missing from segment " + next + " to 0000", "wal-push", a.spool}, a.args()...)
}

// TestReceiveMemory receives segments of the usual size and of the largest that people use, which hardly
// compress, as fast as it can.
func TestReceiveMemory(t *testing.T) {
	for _, megabytes := range []int{16, 64} {
		t.Run(fmt.Sprint(megabytes), func(t *testing.T) {
			t.Parallel()
			s := newS3Shelf(t)
			c := testkit.NewCluster(t, testkit.ClusterOptions{SegmentSize: megabytes, Conf: map[string]string{"wal_keep_size": "4GB"}})
			c.Start(t)
			a := s.repository().host().archivistOf(t, c.Port)
			r := a.receive(t, "--partial-interval", "100ms")
			var last string
			for range 128 / megabytes {
				last = writeSegments(t, c, megabytes)
			}
			mustArrive(t, s, last)
			peak := peakMemory(t, r.PID())
			t.Logf("%d MB at most", peak>>20)
			if peak > 64<<20 {
				t.Errorf("it took %d MB", peak>>20)
			}
			stops(t, r)
		})
	}
}
