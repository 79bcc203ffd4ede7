package story

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/wal"
)

// receiveCrashes is how often wal-receive is killed in a story.
const receiveCrashes = 8

// TestCrashOfWALReceive kills wal-receive again and again while the server writes. Whenever it is dead, the
// slot keeps all that the spool does not have; when it lives again, it goes on without a hole.
func TestCrashOfWALReceive(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		repo, h := inspect(s), s.repository().host()
		c := testkit.NewCluster(t, receivable(nil)) // which archives nothing itself
		c.Start(t)
		c.Exec(t, "CREATE TABLE t (n int, filler text)")
		a := h.archivistOf(t, c.Port)
		seed := uint64(time.Now().UnixNano())
		random := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		reached := 0
		for round := range receiveCrashes {
			r := a.receive(t, "--partial-interval", "50ms")
			c.WaitFor(t, "SELECT active FROM pg_replication_slots WHERE slot_name = 'walden'", "t", limit)
			after := time.Now().Add(time.Duration(random.Int64N(int64(500 * time.Millisecond))))
			for time.Now().Before(after) {
				c.Exec(t, "INSERT INTO t SELECT n, gen_random_uuid() FROM generate_series(1, 2000) AS n")
				if random.IntN(3) == 0 {
					c.Exec(t, "SELECT pg_switch_wal()")
				}
			}
			r.Kill(t)
			c.WaitFor(t, "SELECT active FROM pg_replication_slots WHERE slot_name = 'walden'", "f", limit)
			_, durable := a.durable(t)
			kept, err := wal.ParseLSN(c.QueryValue(t, "SELECT restart_lsn FROM pg_replication_slots"))
			if err != nil || kept > durable {
				t.Fatalf("round %d: the slot keeps WAL from %s on (error: %v), but the spool has it up to %s only", round, kept, err, durable)
			}
			if n := len(repo.mustBeWhole(t)); n > reached {
				reached = n
			}
		}
		r := a.receive(t)
		last := writeSegments(t, c, 2)
		mustArrive(t, s, last)
		said := stops(t, r)
		repo.mustBeWhole(t)
		segments := mustEqual(t, s, c, last)
		if strings.Contains(said, "error") || len(segments) < 3 {
			t.Errorf("%q; it has said:\n%s", segments, said)
		}
		t.Logf("%d segments; before the last run, there were %d objects", len(segments), reached)
	})
}

// TestReceiveDisaster loses a server and its disk while wal-receive runs elsewhere, and wal-receive with it.
// What had been received is in the repository within a second or, where the host died as well, when it is
// back: also while there is no server to connect to. A base backup and that are all that recovery needs.
func TestReceiveDisaster(t *testing.T) {
	t.Parallel()
	for name, survives := range map[string]bool{"the archivist survives": true, "both die": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newDirShelf(t)
			repo, h := s.repository(), s.repository().host()
			c := testkit.NewCluster(t, receivable(nil))
			c.Start(t)
			c.Exec(t, "CREATE TABLE t (n int)")
			a := h.archivistOf(t, c.Port)
			interval := "1h" // only the loss of the server makes it store what there is
			if !survives {
				interval = "100ms"
			}
			r := a.receive(t, "--partial-interval", interval)
			h.must(t, "backup-push", c.DataDir, "--no-wait") // archive_mode is off
			writeSegments(t, c, 3)
			c.Exec(t, "INSERT INTO t SELECT generate_series(1, 1000)", "INSERT INTO t VALUES (1001)")
			end, err := wal.ParseLSN(c.QueryValue(t, "SELECT pg_current_wal_flush_lsn()"))
			if err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, limit, "the last row is received", func() bool {
				_, durable := a.durable(t)
				return durable >= end
			})
			if !survives {
				r.Kill(t)
			}
			lose(t, c, nil)
			if !survives {
				r = a.receive(t, "--partial-interval", interval)
				testkit.Eventually(t, limit, "the new one has the spool", func() bool { return holdsLock(t, r.PID()) })
			}
			testkit.Eventually(t, limit, "a tail up to the last row is stored", func() bool {
				for _, key := range keysOf(s.list(t)) {
					name, err := wal.ParseFileName(key[strings.LastIndexByte(key, '/')+1:])
					if err == nil && name.Kind == wal.KindTail && name.End >= end {
						return true
					}
				}
				return false
			})
			said := stops(t, r)
			if n := strings.Count(said, "warning"); n != 1 || !strings.Contains(said, "can't receive WAL, and try again") {
				t.Errorf("it has said:\n%s", said)
			}
			inspect(s).mustBeWhole(t)

			back := restore(t, repo, keyPair{})
			promotes(t, back)
			if got := back.QueryValue(t, "SELECT count(*) || ' ' || max(n) FROM t"); got != "1001 1001" {
				t.Errorf("recovered %s", got)
			}
			mustBeOn(t, back.Cluster, 2)
			if log := back.Log(); !strings.Contains(log, "was handed over, and recovery ends there") {
				t.Error("the log doesn't say that a tail was handed over")
			}
		})
	}
}

// TestReceiveSynchronous makes wal-receive the synchronous standby of a server. Commits wait for it, and
// for no longer than it takes to write them down.
func TestReceiveSynchronous(t *testing.T) {
	t.Parallel()
	s := newDirShelf(t)
	c := testkit.NewCluster(t, receivable(map[string]string{"synchronous_standby_names": "walden"}))
	c.Start(t)
	c.Exec(t, "SET synchronous_commit = local; CREATE TABLE t (n int)", "CHECKPOINT") // the checkpointer has seen the setting
	a := s.repository().host().archivistOf(t, c.Port)
	committed := make(chan error, 1)
	go func() {
		_, err := c.TryQuery(t.Context(), "INSERT INTO t VALUES (0)")
		committed <- err
	}()
	c.WaitFor(t, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'", "1", limit)
	r := a.receive(t)
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	c.WaitFor(t, "SELECT sync_state || state FROM pg_stat_replication WHERE application_name = 'walden'", "syncstreaming", limit)

	const commits = 200
	for _, level := range []string{"on", "remote_write"} {
		c.Exec(t, fmt.Sprintf(`CREATE OR REPLACE PROCEDURE many() LANGUAGE plpgsql AS $$
			BEGIN FOR i IN 1..%d LOOP INSERT INTO t VALUES (i); COMMIT; END LOOP; END $$`, commits))
		began := time.Now()
		c.Exec(t, "SET synchronous_commit = "+level, "CALL many()")
		t.Logf("%s: %s a commit", level, time.Since(began)/commits)
	}
	flushed := c.QueryValue(t, "SELECT pg_current_wal_flush_lsn()")
	c.WaitFor(t, "SELECT flush_lsn >= '"+flushed+"' FROM pg_stat_replication", "t", limit)

	// A server that goes down waits until all is received.
	c.Stop(t, testkit.Fast)
	control, _, err := pgdata.ReadControl(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if _, durable := a.durable(t); durable <= control.Checkpoint {
		t.Errorf("received up to %s, but the server's last record is at %s", durable, control.Checkpoint)
	}
	r.Signal(t, syscall.SIGINT)
	if res := r.Wait(t); res.Code != 0 {
		t.Errorf("exit %d\n%s", res.Code, res.Stderr)
	}
}
