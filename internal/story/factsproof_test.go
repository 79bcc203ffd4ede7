package story

import (
	"strings"
	"testing"

	"walden/internal/testkit"
)

// TestFactsTell proves that no story can pass unnoticed when something comes back other than it was:
// whatever is changed, the facts differ.
func TestFactsTell(t *testing.T) {
	t.Parallel()
	c := testkit.NewCluster(t, testkit.ClusterOptions{})
	c.Start(t)
	load(t, c, fewAccounts)
	loadTablespaces(t, c)
	before := note(t, c)
	before.mustHoldIn(t, c)
	for _, change := range []struct{ database, sql, what string }{
		{"postgres", "UPDATE accounts SET balance = balance + 1 WHERE aid = 4999", "postgres: public.accounts"},
		{"postgres", "INSERT INTO history (id, delta) VALUES (1, 1)", "postgres: public.history"},
		{"postgres", "DELETE FROM orders WHERE id = 77", "postgres: public.orders"},
		{"postgres", "CREATE TABLE more ()", "postgres: public.more"},
		{"postgres", "CREATE ROLE somebody", "cluster: roles"},
		{"shop", "UPDATE documents SET body = body || '!' WHERE id = 60", "shop: public.documents"},
		{"shop", "UPDATE documents SET title = 'title 3' WHERE id = 60", "shop: by index"},
		{"shop", "SELECT lo_put(4711, 159999, 'x')", "shop: pg_catalog.pg_largeobject"},
		{"shop", "SELECT lo_put(4711, 0, 'x')", "shop: large object"},
		{"shop", "SELECT setval('invoices', 49)", "shop: public.invoices"},
		{"shop", "SELECT setval('invoices', 83)", "shop: public.invoices"},
		{"attic", "UPDATE boxes SET content = 'other' WHERE id = 2000", "attic: public.boxes"},
	} {
		run(t, c, change.database, change.sql)
		after := note(t, c)
		if differences := strings.Join(before.differences(after), "\n"); !strings.Contains(differences, change.what) {
			t.Errorf("%s: not noticed, but %q", change.sql, differences)
		}
		before = after
	}
}
