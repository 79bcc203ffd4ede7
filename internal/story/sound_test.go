package story

import (
	"testing"

	"walden/internal/testkit"
)

// mustBeSound fails the test unless a recovered cluster, which is open for writing, is one that can be
// worked with: heaps and indexes are whole and agree with each other, unlogged tables are empty and
// usable, sequences go on, and a checkpoint succeeds.
func mustBeSound(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	for _, database := range databases(t, c) {
		run(t, c, database, `SELECT bt_index_check(pg_class.oid, true) FROM pg_class JOIN pg_am ON pg_am.oid = relam
			WHERE amname = 'btree' AND relkind = 'i'`)
		damage := ask(t, c, database, `SELECT relname, blkno, msg FROM pg_class, LATERAL verify_heapam(pg_class.oid) WHERE relkind IN ('r', 't')`)
		if len(damage) > 0 {
			t.Errorf("database %s is damaged: %q", database, damage)
		}
		for _, row := range ask(t, c, database, `SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relpersistence = 'u'`) {
			if rows := ask(t, c, database, "SELECT count(*) FROM "+row[0])[0][0]; rows != "0" {
				t.Errorf("the unlogged table %s of %s has %s rows after recovery", row[0], database, rows)
			}
		}
	}
	run(t, c, "shop", "INSERT INTO sessions VALUES (1, 'new')",
		"INSERT INTO documents SELECT 1000 + nextval('invoices'), 'new', 'new'",
		"CHECKPOINT")
}
