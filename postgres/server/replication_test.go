package server_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/server"
	"walden/postgres/wal"
)

// smallSegments is what makes a few megabytes of WAL a matter of many files.
const smallSegments = wal.SegmentSize(1 << 20)

func TestReplicationEveryMajor(t *testing.T) {
	for _, major := range testkit.PostgresMajors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			noLeaks(t)
			cleanEnv(t)
			c := running(t, testkit.ClusterOptions{Major: major, SegmentSize: 1, Conf: map[string]string{
				"wal_level": "logical", "autovacuum": "off", "max_wal_size": "1GB", "wal_keep_size": "1GB",
			}})
			c.Exec(t, createBusy)
			t.Run("identify", func(t *testing.T) { testIdentifySystem(t, c) })
			t.Run("slots", func(t *testing.T) { testSlots(t, c) })
			t.Run("stream", func(t *testing.T) { testStream(t, c) })
			t.Run("refusals", func(t *testing.T) { testRefusals(t, c) })
			t.Run("synchronous", func(t *testing.T) { testSynchronous(t, c) })
			t.Run("promotion", func(t *testing.T) { testPromotion(t, c) })
			t.Run("invalidated slot", func(t *testing.T) { testInvalidatedSlot(t, c) })
			t.Run("shutdown", func(t *testing.T) { testShutdown(t, c) })
		})
	}
}

func testIdentifySystem(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir, AppName: "archive of " + strconv.Itoa(c.Major)})
	before := flushed(t, c)
	sys := system(t, r)
	want := c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")
	if strconv.FormatUint(sys.SystemID, 10) != want || sys.Timeline != 1 || sys.Flushed < before || sys.Flushed > flushed(t, c) {
		t.Errorf("system is %+v, want identifier %s, position from %s", sys, want, before)
	}
	if size, err := r.SegmentSize(bounded(t)); err != nil || size != smallSegments {
		t.Errorf("segment size is %s (error: %v)", size, err)
	}
	if timeout, err := r.Setting(bounded(t), "wal_sender_timeout"); err != nil || timeout != "1min" {
		t.Errorf("wal_sender_timeout is %q (error: %v)", timeout, err)
	}
	_, err := r.Setting(bounded(t), "no such thing")
	wantError(t, err, nil, "read setting", "unrecognized configuration parameter")
	_, err = r.Setting(bounded(t), `a"; DROP_REPLICATION_SLOT "b`)
	wantError(t, err, nil, "read setting", "no setting has such a name")
	_, err = r.TimelineHistory(bounded(t), 1)
	wantError(t, err, server.ErrNoHistory, "history of timeline 1", "00000001.history")
	// After all these errors the session is still good.
	system(t, r)
	name := c.QueryValue(t, "SELECT application_name FROM pg_stat_activity WHERE backend_type = 'walsender'")
	if name != "archive of "+strconv.Itoa(c.Major) {
		t.Errorf("application_name is %q", name)
	}
}

func testSlots(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir})
	for _, name := range []string{"fresh", "physical"} { // the second is a keyword
		_, err := r.ReadSlot(bounded(t), name)
		wantError(t, err, server.ErrNoSlot, "slot "+name, "no such slot")
		if err := r.CreateSlot(bounded(t), name); err != nil {
			t.Fatal(err)
		}
		wantError(t, r.CreateSlot(bounded(t), name), server.ErrSlotExists, "slot "+name, "already exists")
		slot, err := r.ReadSlot(bounded(t), name)
		if err != nil {
			t.Fatal(err)
		}
		row := c.Query(t, "SELECT restart_lsn, temporary, slot_type FROM pg_replication_slots WHERE slot_name = '"+name+"'")[0]
		if slot.RestartLSN.String() != row[0] || slot.Timeline != 1 || row[1] != "f" || row[2] != "physical" || slot.RestartLSN.IsZero() {
			t.Errorf("slot %s is %+v, for the server %q", name, slot, row)
		}
	}
	c.Exec(t, "SELECT pg_create_physical_replication_slot('idle')", "SELECT pg_create_logical_replication_slot('logical', 'pgoutput')")
	if slot, err := r.ReadSlot(bounded(t), "idle"); err != nil || slot != (server.Slot{}) {
		t.Errorf("a slot that keeps nothing is %+v (error: %v)", slot, err)
	}
	_, err := r.ReadSlot(bounded(t), "logical")
	wantError(t, err, server.ErrConfig, "slot logical", "logical")
	wantError(t, r.CreateSlot(bounded(t), "logical"), server.ErrSlotExists)
	for _, bad := range []string{"", "Upper", "a-b", `x" LOGICAL y`, string(make([]byte, 64))} {
		wantError(t, r.CreateSlot(bounded(t), bad), server.ErrConfig, "lower-case letters")
	}
	c.Exec(t, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name <> 'physical'")
}

// testStream compares what a busy server sends with what it keeps.
func testStream(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir})
	if err := r.CreateSlot(bounded(t), "stream"); err != nil {
		t.Fatal(err)
	}
	slot, err := r.ReadSlot(bounded(t), "stream")
	if err != nil {
		t.Fatal(err)
	}
	start := wal.SegmentAt(1, slot.RestartLSN, smallSegments).Start(smallSegments)
	v := receive(t, r, "stream", start, 1)
	stop := busy(t, c)
	v.until(t, start+6*wal.LSN(smallSegments))
	stop()
	v.until(t, flushed(t, c))
	if whole := v.compare(t, c, smallSegments); whole < 6 {
		t.Errorf("only %d whole segments came", whole)
	}
	_, err = r.IdentifySystem(bounded(t))
	wantError(t, err, nil, "the session is streaming")

	t.Run("slot in use", func(t *testing.T) {
		other := replicate(t, server.Config{PGData: c.DataDir})
		_, err := other.StartPhysical(bounded(t), "stream", start, 1)
		wantError(t, err, server.ErrSlotInUse, "timeline 1", start.String(), `"stream" is active`)
		system(t, other)
	})
	t.Run("progress", func(t *testing.T) {
		middle := start + wal.LSN(smallSegments) + 12345
		v.report(t, server.Status{Written: v.end(), Flushed: middle})
		c.WaitFor(t, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'stream'", middle.String(), limit)
		err := v.stream.SendStatus(bounded(t), server.Status{Flushed: v.end() + 1})
		wantError(t, err, nil, (v.end() + 1).String(), "only "+v.end().String())
	})
	t.Run("resume", func(t *testing.T) {
		for name, lsn := range map[string]wal.LSN{
			"at a segment": start + 2*wal.LSN(smallSegments), "at an odd byte": start + 3*wal.LSN(smallSegments) + 4097,
		} {
			again := receive(t, replicate(t, server.Config{PGData: c.DataDir}), "", lsn, 1)
			again.until(t, v.end())
			again.compare(t, c, smallSegments)
			if !bytes.Equal(again.data[:v.end()-lsn], v.data[lsn-start:]) {
				t.Errorf("%s: it is not what came before", name)
			}
		}
	})
}

func testRefusals(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir})
	end := flushed(t, c)
	_, err := r.StartPhysical(bounded(t), "missing", end, 1)
	wantError(t, err, server.ErrNoSlot, "timeline 1", `"missing" does not exist`)
	_, err = r.StartPhysical(bounded(t), "NOT a name", end, 1)
	wantError(t, err, server.ErrConfig, "lower-case letters")
	_, err = r.StartPhysical(bounded(t), "", end, 7)
	wantError(t, err, server.ErrNotInHistory, "timeline 7", "not in this server's history")

	c.Exec(t, "SELECT pg_create_logical_replication_slot('logical', 'pgoutput')")
	_, err = r.StartPhysical(bounded(t), "logical", end, 1)
	wantError(t, err, nil, "logical replication slot")
	c.Exec(t, "SELECT pg_drop_replication_slot('logical')")

	far := end + 1<<40
	_, err = receive(t, r, "", far, 1).untilError(t)
	wantError(t, err, server.ErrAhead, far.String(), "ahead of the WAL flush position")
	// initdb's WAL began with segment 1.
	gone := receive(t, r, "", 0x10, 1)
	// The deadline of a report must not outlive it.
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := gone.stream.SendStatus(ctx, server.Status{}); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	for range 2 {
		_, err = gone.untilError(t)
		wantError(t, err, server.ErrWALRemoved, "000000010000000000000000", "already been removed")
	}
	system(t, r)
}

// testSynchronous is a standby in the eyes of the server: a commit waits for it.
func testSynchronous(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir, AppName: "archive"})
	v := receive(t, r, "", system(t, r).Flushed, 1)
	v.report(t, server.Status{Written: v.end(), Flushed: v.end()})
	c.WaitFor(t, "SELECT state FROM pg_stat_replication WHERE application_name = 'archive'", "streaming", limit)
	c.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'archive'", "SELECT pg_reload_conf()")
	c.WaitFor(t, "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'archive'", "sync", limit)
	c.Exec(t, "CHECKPOINT") // commits wait only when the checkpointer has seen the setting, too
	defer func() {
		c.Exec(t, "SET synchronous_commit = local", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
		c.WaitFor(t, "SHOW synchronous_standby_names", "", limit)
	}()

	committed := make(chan error, 1)
	go func() {
		_, err := c.TryQuery(t.Context(), "INSERT INTO busy VALUES (0, 'waits')")
		committed <- err
	}()
	const waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
	c.WaitFor(t, waiting, "1", limit)
	v.until(t, flushed(t, c))
	v.report(t, server.Status{Written: v.end()})
	c.WaitFor(t, "SELECT write_lsn FROM pg_stat_replication WHERE application_name = 'archive'", v.end().String(), limit)
	if c.QueryValue(t, waiting) != "1" {
		t.Error("the commit did not wait for more than writing")
	}
	v.report(t, server.Status{Written: v.end(), Flushed: v.end()})
	select {
	case err := <-committed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(limit):
		t.Fatal("the commit does not return after the report")
	}
}

// testPromotion follows a standby to the timeline that it opens.
func testPromotion(t *testing.T, primary *testkit.Cluster) {
	standby := makeStandby(t, primary)
	r := replicate(t, server.Config{PGData: standby.DataDir})
	if err := r.CreateSlot(bounded(t), "follow"); err != nil {
		t.Fatal(err)
	}
	slot, err := r.ReadSlot(bounded(t), "follow")
	if err != nil || slot.Timeline != 1 {
		t.Fatalf("slot is %+v (error: %v)", slot, err)
	}
	v := receive(t, r, "follow", slot.RestartLSN, 1)
	primary.Exec(t, writeWAL)
	v.until(t, flushed(t, primary))
	standby.Exec(t, "SELECT pg_promote()")
	end, err := v.untilError(t)
	if err != nil || end.Next != 2 || end.Switch != v.end() {
		t.Fatalf("the end of the timeline is %+v, after %s (error: %v)", end, v.end(), err)
	}
	if again, err := v.untilError(t); again != end || err != nil {
		t.Errorf("later it is %+v (error: %v)", again, err)
	}
	v.report(t, server.Status{Flushed: v.end()}) // too late, and harmless
	checkHistory(t, r, standby, end)

	// The new timeline, from where its first segment begins: the other part is a copy.
	from := wal.SegmentAt(2, end.Switch, smallSegments).Start(smallSegments)
	standby.Exec(t, writeWAL)
	w := receive(t, r, "follow", from, 2)
	w.until(t, flushed(t, standby))
	w.compare(t, standby, smallSegments)
	w.report(t, server.Status{Flushed: w.end()})
	standby.WaitFor(t, "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'follow'", w.end().String(), limit)

	other := replicate(t, server.Config{PGData: standby.DataDir})
	if slot, err := other.ReadSlot(bounded(t), "follow"); err != nil || slot != (server.Slot{RestartLSN: w.end(), Timeline: 2}) {
		t.Errorf("slot is %+v (error: %v)", slot, err)
	}
	if got, err := receive(t, other, "", end.Switch, 1).untilError(t); err != nil || got != end {
		t.Errorf("a stream from the switch on brings %+v (error: %v)", got, err)
	}
	old := receive(t, other, "", from, 1)
	old.report(t, server.Status{ReplyRequested: true}) // the answer may come behind the end
	if got, err := old.untilError(t); err != nil || got != end {
		t.Errorf("the old timeline ends with %+v (error: %v)", got, err)
	}
	_, err = other.StartPhysical(bounded(t), "", end.Switch+1, 1)
	wantError(t, err, server.ErrNotInHistory, "timeline 1", "forked from timeline 1 at "+end.Switch.String())
}

func checkHistory(t *testing.T, r *server.Replication, standby *testkit.Cluster, end server.EndOfTimeline) {
	t.Helper()
	file, err := r.TimelineHistory(bounded(t), end.Next)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(standby.DataDir, "pg_wal", "00000002.history"))
	if err != nil {
		t.Fatal(err)
	}
	if file.Name != "00000002.history" || !bytes.Equal(file.Content, content) {
		t.Errorf("file %s holds %q, want %q", file.Name, file.Content, content)
	}
	history, err := wal.ParseHistory(2, file.Content)
	if err != nil {
		t.Fatal(err)
	}
	if at, ok := history.SwitchPoint(1); !ok || at != end.Switch {
		t.Errorf("switch at %s by the file, at %s by the stream", at, end.Switch)
	}
}

// testInvalidatedSlot asks for WAL that the server did not wait for.
func testInvalidatedSlot(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir})
	if err := r.CreateSlot(bounded(t), "late"); err != nil {
		t.Fatal(err)
	}
	slot, err := r.ReadSlot(bounded(t), "late")
	if err != nil {
		t.Fatal(err)
	}
	c.Exec(t, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'", "ALTER SYSTEM SET wal_keep_size = '0'",
		"ALTER SYSTEM SET max_wal_size = '2MB'", "ALTER SYSTEM SET min_wal_size = '2MB'", "SELECT pg_reload_conf()")
	c.WaitFor(t, "SHOW max_slot_wal_keep_size", "1MB", limit)
	first := wal.SegmentAt(1, slot.RestartLSN, smallSegments)
	testkit.Eventually(t, limit, "the slot's first segment is gone", func() bool {
		c.Exec(t, writeWAL, writeWAL, "CHECKPOINT")
		_, err := os.Stat(filepath.Join(c.DataDir, "pg_wal", first.String()))
		return os.IsNotExist(err)
	})
	if now, err := r.ReadSlot(bounded(t), "late"); err != nil || now != (server.Slot{}) {
		t.Errorf("the slot is %+v (error: %v)", now, err)
	}
	// Without a slot, and with it: some majors notice at the start.
	_, err = receive(t, r, "", slot.RestartLSN, 1).untilError(t)
	wantError(t, err, server.ErrWALRemoved, first.String())
	stream, err := r.StartPhysical(bounded(t), "late", slot.RestartLSN, 1)
	if err == nil {
		_, err = stream.Next(bounded(t))
	}
	wantError(t, err, server.ErrWALRemoved, "timeline 1")
	system(t, r)
}

// testShutdown gets all there is, and the server doesn't wait in vain.
func testShutdown(t *testing.T, c *testkit.Cluster) {
	r := replicate(t, server.Config{PGData: c.DataDir})
	v := receive(t, r, "", system(t, r).Flushed, 1)
	c.Exec(t, "CREATE TABLE last_words ()")
	if err := syscall.Kill(c.PID(), syscall.SIGINT); err != nil { // a fast shutdown
		t.Fatal(err)
	}
	_, err := v.untilError(t)
	wantError(t, err, server.ErrUnavailable, "shutting down")
	c.WaitExit(t, limit)
	ctl, _, err := pgdata.ReadControl(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	if v.end() <= ctl.Checkpoint {
		t.Errorf("the shutdown checkpoint at %s is missing: WAL came up to %s", ctl.Checkpoint, v.end())
	}
	v.compare(t, c, smallSegments)
	_, err = r.IdentifySystem(bounded(t))
	wantError(t, err, server.ErrUnavailable)
}
