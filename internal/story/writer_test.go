package story

import (
	"context"
	"strconv"
	"testing"

	"walden/internal/testkit"
)

// writer is somebody who goes on writing while a backup is taken.
type writer struct {
	c       *testkit.Cluster
	cancel  context.CancelFunc
	ended   chan error
	atStart int // transactions
}

// startWriting lets somebody change accounts, one transaction after the other, and make and drop tables,
// until stop.
func startWriting(t testing.TB, c *testkit.Cluster) *writer {
	t.Helper()
	run(t, c, "postgres", `CREATE PROCEDURE trade(n int) LANGUAGE plpgsql AS $$
		DECLARE
			accounts_there int := (SELECT max(aid) FROM accounts);
			picked int;
		BEGIN
			FOR i IN 1..n LOOP
				picked := 1 + floor(random() * accounts_there);
				UPDATE accounts SET balance = balance + i WHERE aid = picked;
				INSERT INTO history (aid, delta) VALUES (picked, i);
				COMMIT;
			END LOOP;
			CREATE TABLE passing AS SELECT * FROM accounts LIMIT 1000;
			COMMIT;
			DROP TABLE passing;
		END $$`)
	ctx, cancel := context.WithCancel(t.Context())
	w := &writer{c: c, cancel: cancel, ended: make(chan error, 1)}
	go func() {
		for ctx.Err() == nil {
			if _, err := c.TryQuery(t.Context(), "CALL trade(100)"); err != nil {
				w.ended <- err
				return
			}
		}
		w.ended <- nil
	}()
	testkit.Eventually(t, limit, "the writer writes", func() bool { return w.transactions(t) > 0 })
	w.atStart = w.transactions(t)
	return w
}

// stop ends the writing, and fails the test if there was none since startWriting returned.
func (w *writer) stop(t testing.TB) {
	t.Helper()
	meanwhile := w.transactions(t) - w.atStart
	w.cancel()
	if err := <-w.ended; err != nil {
		t.Fatalf("write: %v", err)
	}
	if meanwhile == 0 {
		t.Fatal("nothing was written meanwhile")
	}
}

// transactions counts those that were committed.
func (w *writer) transactions(t testing.TB) int {
	t.Helper()
	n, err := strconv.Atoi(w.c.QueryValue(t, "SELECT count(*) FROM history"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
