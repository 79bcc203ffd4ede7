package story

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walden/codec"
	"walden/internal/testkit"
)

// plain returns what the segments of an archive hold, by name.
func (w archivedWAL) plain(t testing.TB) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name := range w.list(t) {
		base := filepath.Base(name)
		if len(base) != 24 || !strings.Contains(name, "/wal/") {
			continue
		}
		r, err := codec.NewObjectReader(bytes.NewReader(w.read(t, name)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if all[base], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// mustBeWholeIn fails the test unless every file that stands under a final name in the window of a data
// directory, or waits for the server, is one of those segments.
func mustBeWholeIn(t testing.TB, walDir string, want map[string][]byte) (seen int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(walDir, ".walden", "fetch"), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (e.IsDir() || len(e.Name()) != 24) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) { // it was handed over meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		seen++
		if !bytes.Equal(content, want[e.Name()]) {
			t.Errorf("%s holds %d bytes that are not those of the segment", path, len(content))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	content, err := os.ReadFile(filepath.Join(walDir, "RECOVERYXLOG"))
	if err == nil {
		seen++
		whole := false
		for _, segment := range want {
			whole = whole || bytes.Equal(content, segment)
		}
		if !whole {
			t.Errorf("RECOVERYXLOG holds %d bytes that are no segment's", len(content))
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return seen
}

// TestCrashOfPrefetch kills prefetchers and calls of wal-fetch at random moments of a recovery, and now and
// then the whole server. What has a final name is always whole, and recovery ends with identical data.
func TestCrashOfPrefetch(t *testing.T) {
	t.Parallel()
	w := archiveWAL(t, newDirShelf(t), 120)
	segments := w.plain(t)
	h := w.repository().host()
	// The server takes a killed restore_command for a signal to end: a shell says that nothing was handed over.
	dir := testkit.Dir(t)
	script := filepath.Join(dir, "fetch")
	text := "#!/bin/sh\n" + testkit.Walden(t) + ` wal-fetch "$1" "$2"` + "\ncode=$?\n" +
		`while [ $code -gt 128 ]; do ` + testkit.Walden(t) + ` wal-fetch "$1" "$2"; code=$?; done` + "\nexit $code\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	c := w.recovery(t, h.env, fetcher{command: script + " %f %p"})
	walDir := filepath.Join(c.DataDir, "pg_wal")
	c.Launch(t)
	want, killed, seen := crashes(t)+5, map[string]int{}, 0
	rnd := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	promoted := func() bool {
		rows, err := c.TryQuery(t.Context(), "SELECT 1 WHERE NOT pg_is_in_recovery()")
		return err == nil && len(rows) == 1
	}
	for deadline := time.Now().Add(limit); killed["wal-prefetch"]+killed["wal-fetch"] < want && !promoted(); {
		if time.Now().After(deadline) {
			t.Fatalf("killed only %v", killed)
		}
		if !c.Running() {
			t.Fatal("the server has ended")
		}
		pause := time.NewTimer(time.Duration(rnd.IntN(40)) * time.Millisecond)
		<-pause.C
		for _, p := range processesIn(c.DataDir) {
			if rnd.IntN(2) == 0 && syscall.Kill(p.pid, syscall.SIGKILL) == nil {
				killed[p.command]++
			}
		}
		seen += mustBeWholeIn(t, walDir, segments)
		if n := killed["wal-prefetch"] + killed["wal-fetch"]; n >= want/2 && killed["server"] == 0 {
			killed["server"]++
			c.Kill(t)
			seen += mustBeWholeIn(t, walDir, segments)
			c.Launch(t)
		}
	}
	c.WaitReady(t, limit)
	restored{Cluster: c}.waitPromoted(t)
	if got := c.QueryValue(t, contents); got != w.held {
		t.Errorf("recovered %s, there were %s", got, w.held)
	}
	t.Logf("killed %v; looked at %d whole files", killed, seen)
	if killed["wal-prefetch"] == 0 || killed["wal-fetch"] == 0 {
		t.Errorf("killed were only %v", killed)
	}
	mustEndSoon(t, c.DataDir)
	if temps, err := filepath.Glob(filepath.Join(walDir, ".walden", "fetch", "*", "tmp-*")); err != nil || len(temps) > atMostKilled {
		t.Errorf("left over: %q (error: %v)", temps, err)
	}
}

// atMostKilled is what the last killed prefetcher may leave, which nobody came after.
const atMostKilled = 4

// processesIn lists walden's processes that work in or for a data directory.
func processesIn(dataDir string) (all []running) {
	for _, p := range processesOf("") {
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", p.pid)); err == nil && cwd == dataDir && strings.HasPrefix(p.command, "wal-") {
			all = append(all, p)
		}
	}
	return all
}

// mustEndSoon fails the test unless the prefetchers of a data directory end by themselves.
func mustEndSoon(t testing.TB, dataDir string) {
	t.Helper()
	testkit.Eventually(t, limit, "the prefetcher ends", func() bool { return len(processesIn(dataDir)) == 0 })
}
