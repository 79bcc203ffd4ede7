package story

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
)

// TestAheadMemory: eight segments of 16 MB at once, of data that hardly compresses, take less than 150 MB.
func TestAheadMemory(t *testing.T) {
	t.Parallel()
	const memory = 150 << 20
	s := newS3Shelf(t)
	w := writeWAL(t, 9)
	h := s.repository().host()
	w.mustRun(t, h, "wal-push", "pg_wal/"+w.names[0])
	for _, name := range w.names {
		status := filepath.Join(w.path("archive_status"), name+".ready")
		if res := testkit.Run(t, testkit.Cmd{Path: "/bin/touch", Args: []string{status}, AsServerUser: true}); res.Code != 0 {
			t.Fatal(res.Stderr)
		}
	}
	began := time.Now()
	run := testkit.Start(t, w.command(h, "wal-push", "--ahead", "8", "pg_wal/"+w.names[1]))
	most := 0
	for !run.Ended(time.Millisecond) {
		most = max(most, mostMemory(run.PID()))
	}
	if res := run.Wait(t); res.Code != 0 {
		t.Fatal(res.Stderr)
	}
	took := time.Since(began)
	stored := 0
	for name := range s.list(t) {
		if isSegmentName(filepath.Base(name)) {
			stored++
		}
	}
	t.Logf("%d segments were stored in %s, with %d MB", stored-1, took.Round(time.Millisecond), most>>20)
	if most == 0 || most > memory {
		t.Errorf("it took %d bytes of memory", most)
	}
}

// mostMemory returns the most that a process that runs has had in memory so far; 0 when that is not known.
func mostMemory(pid int) (bytes int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}
