package story

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"walden/codec"
	"walden/internal/testkit"
	"walden/postgres/wal"
)

// smallSegments is the size of segments in these stories, in MB: what takes many segments takes little time.
const smallSegments = 1

// storageTimeout is how long a single attempt to store may take.
const storageTimeout = 2 * time.Second

// archivist is a host that receives WAL, and its spool.
type archivist struct {
	host
	dsn   string
	spool string
}

// archivistOf is on another host than the server, as which it connects.
func (h host) archivistOf(t testing.TB, port int) archivist {
	t.Helper()
	return archivist{h, fmt.Sprintf("host=127.0.0.1 user=postgres port=%d", port), testkit.Dir(t)}
}

// receive starts wal-receive.
func (a archivist) receive(t testing.TB, args ...string) *testkit.Running {
	t.Helper()
	return testkit.Start(t, testkit.Cmd{Args: a.args(args...), Env: a.env, AsServerUser: true})
}

func (a archivist) args(more ...string) []string {
	return append([]string{"wal-receive", "--dsn", a.dsn, "--spool", a.spool, "--create-slot", "--timeout", storageTimeout.String(), "--verbose"}, more...)
}

// stops ends wal-receive by a signal, and returns what it has said. It must end well.
func stops(t testing.TB, r *testkit.Running) string {
	t.Helper()
	r.Signal(t, syscall.SIGTERM)
	res := r.Wait(t)
	if res.Code != 0 {
		t.Fatalf("wal-receive: exit %d\n%s", res.Code, res.Stderr)
	}
	return res.Stderr
}

// holdsLock tells whether a process holds an exclusive lock on any file: what it does before
// that, a signal ends without a word.
func holdsLock(t testing.TB, pid int) bool {
	t.Helper()
	locks, err := os.ReadFile("/proc/locks") // "7: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF"
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(locks)) {
		if f := strings.Fields(line); len(f) > 4 && f[1] == "FLOCK" && f[3] == "WRITE" && f[4] == strconv.Itoa(pid) {
			return true
		}
	}
	return false
}

// waiting lists the finished files in the spool.
func (a archivist) waiting(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(a.spool, "receive", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(found, func(file string) bool {
		name, err := wal.ParseFileName(filepath.Base(file))
		return err != nil || name.Kind == wal.KindPartial
	})
}

// durable is the position up to which the spool says that all is there.
func (a archivist) durable(t testing.TB) (tli string, lsn wal.LSN) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(a.spool, "receive", "*", "position"))
	if err != nil || len(found) != 1 {
		t.Fatalf("positions: %q, %v", found, err)
	}
	record, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(record))
	if len(fields) != 3 {
		t.Fatalf("the position is %q", record)
	}
	n, err := strconv.ParseUint(fields[1], 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return fields[0], wal.LSN(n)
}

// writeSegments fills whole segments of a megabyte, finishes the last one, and returns its name.
func writeSegments(t testing.TB, c *testkit.Cluster, n int) string {
	t.Helper()
	for range n {
		c.Exec(t, `SELECT pg_logical_emit_message(false, 'test', (SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 27000)))`)
	}
	return c.QueryValue(t, "SELECT pg_walfile_name(pg_switch_wal())")
}

// mustArrive waits until the repository holds a WAL file.
func mustArrive(t testing.TB, s shelf, name string) {
	t.Helper()
	testkit.Eventually(t, limit, name+" is in the repository, and nothing before it is missing", func() bool {
		stored := keysOf(s.list(t))
		return slices.ContainsFunc(stored, func(key string) bool { return path.Base(key) == name }) && withoutHole(stored, name)
	})
}

// withoutHole tells whether all segments are stored between the first of a timeline and the one of that
// name: they may overtake each other. It looks no further than the log number.
func withoutHole(stored []string, name string) bool {
	last, err := wal.ParseSegment(name)
	if err != nil {
		return true // a history file
	}
	first, n := last.Seg, uint32(0)
	for _, key := range stored {
		found, err := wal.ParseSegment(path.Base(key))
		if err == nil && found.Timeline == last.Timeline && found.Log == last.Log && found.Seg <= last.Seg {
			first, n = min(first, found.Seg), n+1
		}
	}
	return n == last.Seg-first+1
}

func keysOf(m map[string]string) []string { return allKeys(m, nil) }

// content is what a WAL object holds.
func content(t testing.TB, s shelf, key string) []byte {
	t.Helper()
	r, err := codec.NewObjectReader(bytes.NewReader(s.read(t, key)), nil)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return data
}

// mustEqual fails the test unless the repository holds all segments of a timeline from the first one that
// it holds up to the last, byte for byte as in pg_wal. Tails must be beginnings. It returns the segments.
func mustEqual(t testing.TB, s shelf, c *testkit.Cluster, last string) (segments []string) {
	t.Helper()
	timeline := last[:8]
	size := wal.SegmentSize(smallSegments << 20)
	for _, key := range keysOf(s.list(t)) {
		name, err := wal.ParseFileName(path.Base(key))
		if err != nil || name.Timeline.String() != timeline || name.Kind != wal.KindSegment && name.Kind != wal.KindTail {
			continue
		}
		stored := content(t, s, key)
		original, err := os.ReadFile(filepath.Join(c.DataDir, "pg_wal", name.Segment.String()))
		switch {
		case err != nil:
			t.Errorf("%s has no original: %v", key, err)
		case name.Kind == wal.KindTail && bytes.HasPrefix(original, stored):
		case name.Kind == wal.KindTail:
			t.Errorf("%s is no beginning of the server's segment", key)
		case !bytes.Equal(original, stored):
			t.Errorf("%s differs from the server's", key)
		}
		if name.Kind == wal.KindSegment {
			segments = append(segments, name.String())
		}
	}
	if len(segments) == 0 || segments[len(segments)-1] < last {
		t.Fatalf("the last of %d segments is not %s: %q", len(segments), last, segments)
	}
	for i := 1; i < len(segments); i++ {
		before, err := wal.ParseSegment(segments[i-1])
		if err != nil {
			t.Fatal(err)
		}
		if want := before.Next(size).String(); segments[i] != want {
			t.Errorf("a hole: %s comes after %s", segments[i], before)
		}
	}
	return segments
}

// switchboard is an address that leads to one server or another.
type switchboard struct {
	port int
	to   atomic.Int64 // port; 0: nobody answers

	mu    sync.Mutex
	conns []net.Conn
}

func newSwitchboard(t testing.TB, to int) *switchboard {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &switchboard{port: socket.Addr().(*net.TCPAddr).Port}
	b.to.Store(int64(to))
	var all sync.WaitGroup
	t.Cleanup(func() {
		socket.Close()
		b.cut()
		all.Wait()
	})
	all.Go(func() {
		for {
			near, err := socket.Accept()
			if err != nil {
				return
			}
			all.Go(func() { b.carry(near) })
		}
	})
	return b
}

// lead makes the address lead elsewhere, and ends all that went over it.
func (b *switchboard) lead(to int) {
	b.to.Store(int64(to))
	b.cut()
}

func (b *switchboard) cut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.conns {
		conn.Close()
	}
	b.conns = nil
}

func (b *switchboard) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", b.to.Load()))
	if err != nil {
		return
	}
	defer far.Close()
	b.mu.Lock()
	b.conns = append(b.conns, near, far)
	b.mu.Unlock()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			_, _ = io.Copy(way[1], way[0])
			way[0].Close()
			way[1].Close()
			ended <- struct{}{}
		}()
	}
	<-ended
	<-ended
}

// peakMemory is how much memory a process has ever used, in bytes.
func peakMemory(t testing.TB, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kB, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kB << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
