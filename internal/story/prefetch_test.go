package story

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
)

// archivedWAL is a repository with a backup, and the segments of 1 MB that were written since.
type archivedWAL struct {
	shelf
	segments []string // their names
	cluster  string   // system identifier
	held     string   // what the cluster held at the end
}

// contents is a query for what archivedWAL's cluster holds.
const contents = "SELECT count(*) || ' rows, ' || md5(string_agg(i || u::text, ',' ORDER BY i)) FROM t"

// archiveWAL backs up a cluster, has it write that many segments, and loses it.
func archiveWAL(t testing.TB, s shelf, segments int) archivedWAL {
	t.Helper()
	h := s.repository().host()
	c := h.cluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{"full_page_writes": "off", "fsync": "off", "max_wal_size": "4GB"}})
	c.Exec(t, "CREATE TABLE t (i bigserial, u uuid)")
	h.must(t, "backup-push", c.DataDir)
	w := archivedWAL{shelf: s, cluster: c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")}
	for range segments {
		c.Exec(t, "INSERT INTO t (u) SELECT gen_random_uuid() FROM generate_series(1, 4000)")
		w.segments = append(w.segments, c.QueryValue(t, "SELECT pg_walfile_name(pg_switch_wal())"))
	}
	w.held = c.QueryValue(t, contents)
	last := w.segments[len(w.segments)-1]
	c.WaitFor(t, "SELECT last_archived_wal >= '"+last+"' FROM pg_stat_archiver", "t", limit)
	c.Stop(t, testkit.Immediate)
	return w
}

// object is the name of a segment in the repository.
func (w archivedWAL) object(segment string) string {
	return w.cluster + "/wal/" + segment[:8] + "/" + segment[8:16] + "/" + segment
}

// fetcher is a restore_command that writes down how long each call took, and how long the program takes at
// that moment when it does nothing.
type fetcher struct {
	command string
	log     string
}

// call is one call of restore_command.
type call struct {
	file string
	took time.Duration
	idle time.Duration
	code int
	wait int // 0 if it was there already
}

func newFetcher(t testing.TB, flags ...string) fetcher {
	t.Helper()
	dir := testkit.Dir(t)
	f := fetcher{log: filepath.Join(dir, "calls")}
	script := filepath.Join(dir, "fetch")
	text := fmt.Sprintf(`#!/bin/sh
t0=$(date +%%s%%N)
%[1]s --version >/dev/null
t1=$(date +%%s%%N)
said=$(%[1]s wal-fetch -v %[2]s "$1" "$2" 2>&1)
code=$?
t2=$(date +%%s%%N)
echo "$said" >&2
wait=1
case $said in *"was fetched in advance"*) wait=0 ;; esac
echo "$1 $((t2 - t1)) $((t1 - t0)) $code $wait" >>%[3]s
exit $code
`, testkit.Walden(t), strings.Join(flags, " "), f.log)
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	f.command = script + " %f %p"
	return f
}

// calls are those for whole segments that were handed over, in the order in which they came.
func (f fetcher) calls(t testing.TB) (handed, other []call) {
	t.Helper()
	text, err := os.ReadFile(f.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var c call
		if _, err := fmt.Sscan(line, &c.file, &c.took, &c.idle, &c.code, &c.wait); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if c.code == 0 && len(c.file) == 24 {
			handed = append(handed, c)
		} else {
			other = append(other, c)
		}
	}
	return handed, other
}

// recovery is a restored cluster that gets its WAL by a fetcher.
func (w archivedWAL) recovery(t testing.TB, env []string, f fetcher, conf ...string) *testkit.Cluster {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "restored")
	w.repository().host().must(t, "backup-fetch", dir, "latest")
	settings := map[string]string{"restore_command": f.command, "archive_mode": "off"}
	for i := 0; i < len(conf); i += 2 {
		settings[conf[i]] = conf[i+1]
	}
	return testkit.Attach(t, dir, testkit.ClusterOptions{Env: env, Conf: settings})
}

// TestPrefetchHidesLatency recovers twice from storage that is 20 ms away. With prefetching, recovery waits
// for it for less than a tenth of the time. What it takes to start a program that finds its file in the
// spool is no waiting.
func TestPrefetchHidesLatency(t *testing.T) {
	s := newS3Shelf(t).(s3Shelf)
	w := archiveWAL(t, s, 300)
	far := newDelay(t, s, 20*time.Millisecond).repository(s).host()
	run := func(flags ...string) (handed []call, most map[string]int64) {
		f := newFetcher(t, flags...)
		c := w.recovery(t, far.env, f)
		stop := watchMemory(t)
		promotes(t, restored{Cluster: c})
		most = stop()
		if got := c.QueryValue(t, contents); got != w.held {
			t.Errorf("recovered %s, there were %s", got, w.held)
		}
		c.Stop(t, testkit.Fast)
		handed, _ = f.calls(t)
		return handed, most
	}
	without, _ := run("--ahead", "0")
	with, memory := run()
	if len(with) < 300 || len(without) < 300 {
		t.Fatalf("%d and %d segments were handed over", len(with), len(without))
	}
	inAll := func(calls []call) (took, waited time.Duration) {
		for _, c := range calls {
			took += c.took
			waited += time.Duration(c.wait) * max(0, c.took-c.idle)
		}
		return took, waited
	}
	tookWithout, waitedWithout := inAll(without)
	tookWith, waitedWith := inAll(with)
	t.Logf("%d segments: %s without prefetching, %s with it; of that, waiting for storage: %s and %s, %.1f %%; kB in memory: %v",
		len(with), tookWithout, tookWith, waitedWithout, waitedWith, 100*waitedWith.Seconds()/waitedWithout.Seconds(), memory)
	if 10*waitedWith > waitedWithout {
		t.Errorf("waited for %s, and for %s without prefetching", waitedWith, waitedWithout)
	}
	for name, kB := range memory {
		if kB > 64<<10 {
			t.Errorf("%s took %d kB", name, kB)
		}
	}
	if memory["wal-fetch"] == 0 || memory["wal-prefetch"] == 0 {
		t.Errorf("seen were %v", memory)
	}
}

// watchMemory looks at all processes of walden's wal-fetch and wal-prefetch until stop is called, which
// returns the most memory that one of each had (VmHWM in kB).
func watchMemory(t testing.TB) (stop func() map[string]int64) {
	t.Helper()
	most, quit, done := map[string]int64{}, make(chan struct{}), make(chan struct{})
	walden := testkit.Walden(t)
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			for name, kB := range memoryOf(walden) {
				most[name] = max(most[name], kB)
			}
			select {
			case <-quit:
				return
			case <-tick.C:
			}
		}
	}()
	return func() map[string]int64 { close(quit); <-done; return most }
}

func memoryOf(program string) map[string]int64 {
	most := map[string]int64{}
	for _, p := range processesOf(program) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kB, err := strconv.ParseInt(strings.Fields(text)[0], 10, 64)
				if err == nil {
					most[p.command] = max(most[p.command], kB)
				}
			}
		}
	}
	return most
}

// running is a process of walden.
type running struct {
	pid     int
	command string // such as wal-fetch
}

// processesOf lists the processes that run this very file, however they were started; "" stands for walden
// in any place.
func processesOf(program string) (all []running) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil
	}
	for _, link := range links {
		path, err := os.Readlink(link)
		if err != nil || path != program && !(program == "" && filepath.Base(path) == "walden") {
			continue
		}
		dir := filepath.Dir(link)
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		if words := strings.Split(string(line), "\x00"); len(words) > 1 {
			all = append(all, running{pid, words[1]})
		}
	}
	return all
}
