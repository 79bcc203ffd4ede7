package story

import (
	"fmt"
	"os"
	"testing"

	"walden/internal/testkit"
)

// lose kills the server as a crash of the machine would, and removes its files and its tablespaces.
func lose(t testing.TB, c *testkit.Cluster, places map[string]string) {
	t.Helper()
	c.Kill(t)
	dirs := []string{c.DataDir}
	for _, dir := range places {
		dirs = append(dirs, dir)
	}
	for _, dir := range dirs {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// archiveAll ends the current WAL segment and waits until it is archived: a cluster that is lost now
// takes nothing with it.
func archiveAll(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	segment := c.QueryValue(t, "SELECT pg_walfile_name(pg_switch_wal())")
	c.WaitFor(t, fmt.Sprintf(`SELECT last_archived_wal ~ '^[0-9A-F]{24}$' AND last_archived_wal >= '%s' FROM pg_stat_archiver`, segment),
		"t", limit)
}
