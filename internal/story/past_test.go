package story

import (
	"fmt"
	"testing"

	"walden/internal/testkit"
)

// past is what a cluster went through between its only backup and its end, step by step. Each step is
// one transaction; what held after it was noted.
type past struct {
	repo  repository
	steps []moment // 0 is the backup
}

// moment is a step's transaction, and what held when it was committed.
type moment struct {
	facts     facts
	taken     string // the steps up to here, in their order
	xid       string
	committed string // when
	time      string // between this step and the next
	lsn       string // the same as a place in the WAL
}

// liveThrough runs a cluster, backs it up, takes the steps, and loses it.
func liveThrough(t testing.TB, opts testkit.ClusterOptions) past {
	t.Helper()
	p := past{repo: aDirectory(t)}
	source := p.repo.host()
	opts.Conf = map[string]string{"track_commit_timestamp": "on"}
	c := source.cluster(t, opts)
	load(t, c, fewAccounts)
	run(t, c, "postgres", "CREATE TABLE steps (number int, xid xid)")
	p.steps = []moment{{facts: note(t, c)}} // before the first step
	source.must(t, "backup-push", c.DataDir)
	for number := 1; number <= 5; number++ {
		p.steps = append(p.steps, takeStep(t, c, number))
		archiveAll(t, c) // the steps lie in different segments
	}
	lose(t, c, nil)
	return p
}

// takeStep changes rows of several tables in one transaction. A sequence is moved before, because
// that is no part of any transaction.
func takeStep(t testing.TB, c *testkit.Cluster, number int) moment {
	t.Helper()
	run(t, c, "shop", "SELECT nextval('invoices')")
	xid := c.QueryValue(t, fmt.Sprintf(`WITH changed AS (UPDATE accounts SET balance = balance + 1 WHERE aid %% 50 = %[1]d),
		gone AS (DELETE FROM accounts WHERE aid = 1000 + %[1]d)
		INSERT INTO steps (number, xid) VALUES (%[1]d, pg_current_xact_id()::xid) RETURNING xid`, number))
	m := moment{
		facts:     note(t, c),
		taken:     stepsTaken(t, c),
		xid:       xid,
		committed: c.QueryValue(t, fmt.Sprintf("SELECT pg_xact_commit_timestamp('%s')", xid)),
		time:      c.QueryValue(t, "SELECT clock_timestamp()"),
		lsn:       c.QueryValue(t, "SELECT pg_current_wal_insert_lsn()"),
	}
	c.Exec(t, fmt.Sprintf("SELECT pg_create_restore_point('step %d')", number))
	return m
}

// stepsTaken lists the steps that a cluster holds.
func stepsTaken(t testing.TB, c *testkit.Cluster) string {
	t.Helper()
	return c.QueryValue(t, "SELECT coalesce(string_agg(number::text, ' ' ORDER BY number), '') FROM steps")
}

// mustHoldIn fails the test unless the cluster holds what held at the moment, and nothing later.
func (m moment) mustHoldIn(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	if taken := stepsTaken(t, c); taken != m.taken {
		t.Errorf("holds the steps %q, want %q", taken, m.taken)
	}
	m.facts.mustHoldIn(t, c)
}
