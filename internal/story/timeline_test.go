package story

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// mustBeOn fails the test unless a server writes on that timeline, or, in recovery, made its last
// restartpoint there.
func mustBeOn(t testing.TB, c *testkit.Cluster, timeline int) {
	t.Helper()
	got := c.QueryValue(t, `SELECT CASE WHEN pg_is_in_recovery() THEN (SELECT lpad(to_hex(timeline_id), 8, '0') FROM pg_control_checkpoint())
		ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END`)
	if want := fmt.Sprintf("%08x", timeline); !strings.EqualFold(got, want) {
		t.Errorf("on timeline %s, want %s", got, want)
	}
}

// historyReason is what the history file of a promoted server says about the end of its recovery.
func historyReason(t testing.TB, c *testkit.Cluster) string {
	t.Helper()
	history, err := os.ReadFile(filepath.Join(c.DataDir, "pg_wal", "00000002.history"))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.SplitN(strings.TrimSpace(string(history)), "\t", 3)
	if len(fields) != 3 || fields[0] != "1" {
		t.Fatalf("the history of timeline 2 is %q", history)
	}
	return fields[2]
}
