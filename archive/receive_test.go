package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"walden/catalog"
	"walden/internal/testkit"
	"walden/postgres/server"
	"walden/postgres/wal"
	"walden/storage"
)

// receiving is a call of Receive on its way.
type receiving struct {
	cancel context.CancelFunc
	ended  chan error
	opts   ReceiveOptions

	mu   sync.Mutex
	said []string
}

func (r *receiving) Debug(text string) { r.say("debug: " + text) }
func (r *receiving) Info(text string)  { r.say("info: " + text) }
func (r *receiving) Warn(text string)  { r.say("warn: " + text) }

func (r *receiving) say(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text)
}

// count is how often something was said.
func (r *receiving) count(text string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.said {
		n += strings.Count(line, text)
	}
	return n
}

func (h *host) receiveOptions(c *testkit.Cluster) ReceiveOptions {
	return ReceiveOptions{
		Server: server.Config{DSN: c.DSN()}, Slot: "walden", CreateSlot: true,
		Spool: h.spool.Dir(), TailInterval: 50 * time.Millisecond,
		Push: PushOptions{Repository: h.dir, Spool: h.spool},
	}
}

// receive calls Receive, by a store that asks before it does anything.
func (h *host) receive(t *testing.T, opts ReceiveOptions, before func(op, key string) error) *receiving {
	t.Helper()
	r := &receiving{ended: make(chan error, 1), opts: opts}
	r.opts.Report = r
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	store := h.repo.Store
	if before != nil {
		store = hooked{store, before}
	}
	go func() { r.ended <- Receive(ctx, store, r.opts) }()
	t.Cleanup(func() {
		r.cancel()
		if t.Failed() {
			t.Logf("it has said:\n%s", strings.Join(r.said, "\n"))
		}
	})
	return r
}

// stop ends it, and it must end well.
func (r *receiving) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := r.wait(t); err != nil {
		t.Fatalf("stopped with %v", err)
	}
}

func (r *receiving) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(time.Minute):
		t.Fatal("it doesn't end")
		return nil
	}
}

// fill writes about n segments of a megabyte and finishes the last.
func fill(t *testing.T, c *testkit.Cluster, n int) string {
	t.Helper()
	for range n {
		c.Exec(t, "SELECT pg_logical_emit_message(false, 'test', repeat('x', 1000000))")
	}
	return c.QueryValue(t, "SELECT pg_walfile_name(pg_switch_wal())")
}

func startSmall(t *testing.T, conf map[string]string) *testkit.Cluster {
	t.Helper()
	if conf == nil {
		conf = map[string]string{"wal_keep_size": "4GB"}
	}
	c := testkit.NewCluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: conf})
	c.Start(t)
	return c
}

// known makes the host that of a cluster.
func (h *host) of(t *testing.T, c *testkit.Cluster) *host {
	t.Helper()
	var id uint64
	if _, err := fmt.Sscan(c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()"), &id); err != nil {
		t.Fatal(err)
	}
	h.repo = catalog.Open(h.repo.Store, id)
	return h
}

func (h *host) mustArrive(t *testing.T, name string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, name+" is stored", func() bool { return h.holds(t, name) })
}

// TestReceiveConflict: the repository holds something else under the name of a
// segment. Receive ends, and keeps what it has.
func TestReceiveConflict(t *testing.T) {
	c := startSmall(t, nil)
	h := newHost(t).of(t, c)
	next := c.QueryValue(t, "SELECT pg_walfile_name(pg_switch_wal())") // one of the next
	seg := fileName(t, next).Segment.Next(small).Next(small).String()
	h.put(t, seg, encode(t, seg, h.repo.SystemID, segmentOf(t, seg, small, 1), PushOptions{}.Codec))
	r := h.receive(t, h.receiveOptions(c), nil)
	fill(t, c, 5)
	err := r.wait(t)
	mustBe(t, err, catalog.ErrConflict)
	left, globErr := filepath.Glob(filepath.Join(h.spool.Dir(), "receive", "*", seg))
	if globErr != nil || len(left) != 1 {
		t.Errorf("%s is gone from the spool: %q, %v", seg, left, globErr)
	}
}

// TestReceiveStoreErrors lets storage fail in all ways for a while. It is told of
// once, and all is stored in the end.
func TestReceiveStoreErrors(t *testing.T) {
	c := startSmall(t, nil)
	for _, fault := range []error{storage.ErrUnavailable, storage.ErrDenied, storage.ErrConfig, storage.ErrCorrupt} {
		h := newHost(t).of(t, c)
		var mu sync.Mutex
		var failing error
		set := func(err error) {
			mu.Lock()
			defer mu.Unlock()
			failing = err
		}
		opts := h.receiveOptions(c)
		opts.Slot = fmt.Sprintf("slot_%d", len(fault.Error()))
		r := h.receive(t, opts, func(string, string) error {
			mu.Lock()
			defer mu.Unlock()
			return failing
		})
		h.mustArrive(t, fill(t, c, 1))
		set(fault)
		last := fill(t, c, 3)
		testkit.Eventually(t, time.Minute, "it says so", func() bool { return r.count("warn: can't store WAL") > 0 })
		set(nil)
		h.mustArrive(t, last)
		testkit.Eventually(t, time.Minute, "it says that it is over", func() bool { return r.count("info: storing WAL again") > 0 })
		r.stop(t)
		if n := r.count("warn: "); n != 1 {
			t.Errorf("%v: %d warnings", fault, n)
		}
	}
}

// TestReceiveBegins: what is wrong from the beginning ends it, unless waiting may
// help; and no server gets a slot before storage has said yes.
func TestReceiveBegins(t *testing.T) {
	c := startSmall(t, nil)
	for _, fault := range []error{storage.ErrDenied, storage.ErrConfig} {
		h := newHost(t).of(t, c)
		r := h.receive(t, h.receiveOptions(c), func(string, string) error { return fault })
		mustBe(t, r.wait(t), fault)
	}
	for what, change := range map[string]func(*ReceiveOptions){
		"no such role":   func(o *ReceiveOptions) { o.Server.DSN += " user=nobody" },
		"no such slot":   func(o *ReceiveOptions) { o.CreateSlot = false },
		"no slot's name": func(o *ReceiveOptions) { o.Slot = "A" },
	} {
		h := newHost(t).of(t, c)
		opts := h.receiveOptions(c)
		change(&opts)
		if err := h.receive(t, opts, nil).wait(t); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := c.QueryValue(t, "SELECT count(*) FROM pg_replication_slots"); n != "0" {
		t.Errorf("%s slots were made", n)
	}
	h := newHost(t).of(t, c)
	c.Stop(t, testkit.Fast)
	r := h.receive(t, h.receiveOptions(c), nil)
	testkit.Eventually(t, time.Minute, "it waits for the server", func() bool { return r.count("warn: can't receive WAL") == 1 })
	c.Start(t)
	h.mustArrive(t, fill(t, c, 1))
	r.stop(t)
}

// TestReceiveLostSpool: a spool was lost, and the slot. Receiving begins anew, and
// tells of the hole.
func TestReceiveLostSpool(t *testing.T) {
	c := startSmall(t, nil)
	h := newHost(t).of(t, c)
	for _, holes := range []int{0, 1} {
		r := h.receive(t, h.receiveOptions(c), nil)
		h.mustArrive(t, fill(t, c, 3))
		r.stop(t)
		if n := r.count("warn: the repository lacks segment"); n != holes || r.count("warn: ") != holes {
			t.Errorf("it warned %d times, want %d", n, holes)
		}
		if err := os.RemoveAll(filepath.Join(h.spool.Dir(), "receive")); err != nil {
			t.Fatal(err)
		}
		c.Exec(t, "SELECT pg_drop_replication_slot('walden')")
		fill(t, c, 4)
		c.Exec(t, "CHECKPOINT")
	}
}

// TestReceiveSetBack: a server is set back to an earlier state without a new
// timeline. What it writes then is not what was received, and nothing of it may be
// mixed with that.
func TestReceiveSetBack(t *testing.T) {
	c := startSmall(t, nil)
	h := newHost(t).of(t, c)
	r := h.receive(t, h.receiveOptions(c), nil)
	h.mustArrive(t, fill(t, c, 1))
	r.stop(t)
	c.Stop(t, testkit.Fast)
	snapshot := filepath.Join(testkit.Dir(t), "snapshot")
	if err := os.CopyFS(snapshot, os.DirFS(c.DataDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(snapshot, 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, snapshot)
	c.Start(t)
	r = h.receive(t, h.receiveOptions(c), nil)
	c.Exec(t, "CREATE TABLE one (n int)", "INSERT INTO one SELECT generate_series(1, 1000)")
	end := c.QueryValue(t, "SELECT pg_current_wal_flush_lsn()")
	c.WaitFor(t, "SELECT flush_lsn >= '"+end+"' FROM pg_stat_replication", "t", time.Minute)
	r.stop(t)
	c.Stop(t, testkit.Fast)

	back := testkit.Attach(t, snapshot, testkit.ClusterOptions{})
	back.Start(t)
	back.Exec(t, "CREATE TABLE other (n int)", "INSERT INTO other SELECT generate_series(1, 5000)")
	err := h.receive(t, h.receiveOptions(back), nil).wait(t)
	mustSay(t, err, "differs from what was received before")
}

// TestReceiveSpoolFull: the disk of the spool is full for a while.
func TestReceiveSpoolFull(t *testing.T) {
	c := startSmall(t, nil)
	h := newHost(t).of(t, c)
	opts := h.receiveOptions(c)
	opts.Spool = smallDisk(t, 8<<20)
	ballast := filepath.Join(opts.Spool, "ballast")
	r := h.receive(t, opts, nil)
	h.mustArrive(t, fill(t, c, 1))
	if err := os.WriteFile(ballast, make([]byte, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for n := 0; r.count("no space left on device") == 0; n++ {
		if err := appendTo(ballast, make([]byte, 100<<10)); err == nil && n > 1000 {
			t.Fatal("the disk is never full")
		}
		c.Exec(t, "SELECT pg_logical_emit_message(false, 'test', repeat('x', 10000))")
	}
	last := fill(t, c, 2)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	h.mustArrive(t, last)
	testkit.Eventually(t, time.Minute, "nothing before it is missing", func() bool { // they may overtake each other
		names := 0
		for s := fileName(t, last).Segment; h.holds(t, s.String()); s = wal.NumberedSegment(s.Timeline, s.Number(small)-1, small) {
			names++
		}
		return names >= 3
	})
	r.stop(t)
}

func appendTo(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// smallDisk mounts a file system of that many bytes.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("walden-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		testkit.SkipUnlessCI(t, fmt.Sprintf("cannot mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}
