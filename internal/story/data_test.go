package story

import (
	"fmt"
	"testing"

	"walden/internal/testkit"
)

const (
	// demoAccounts make a file of more than 32 MiB, which a backup cuts into several slices.
	demoAccounts = 300_000
	// fewAccounts are enough where size doesn't matter.
	fewAccounts = 5_000

	largeObject = 4711
)

// load fills a new cluster with what databases hold: tables with indexes, values so large that they are
// stored out of line, sequences, unlogged tables, a large object, a second database. All B-trees can be
// verified by amcheck.
func load(t testing.TB, c *testkit.Cluster, accounts int) {
	t.Helper()
	run(t, c, "template1", "CREATE EXTENSION amcheck")
	run(t, c, "postgres",
		"CREATE EXTENSION amcheck",
		fmt.Sprintf(`CREATE TABLE accounts AS
			SELECT aid, 0 AS balance, rpad(md5(aid::text), 84) AS filler FROM generate_series(1, %d) AS aid`, accounts),
		"ALTER TABLE accounts ADD PRIMARY KEY (aid)",
		"CREATE TABLE history (id bigserial PRIMARY KEY, aid int, delta int, at timestamptz DEFAULT clock_timestamp())",
		"CREATE DATABASE shop")
	run(t, c, "shop",
		"CREATE TABLE documents (id int PRIMARY KEY, title text, body text)",
		"ALTER TABLE documents ALTER body SET STORAGE EXTERNAL",
		`INSERT INTO documents SELECT i, 'title ' || i, (SELECT string_agg(md5(i || ' ' || j), '') FROM generate_series(1, 600) AS j)
			FROM generate_series(1, 60) AS i`,
		"CREATE INDEX documents_title ON documents (title)",
		"CREATE UNLOGGED TABLE sessions AS SELECT i AS id, md5(i::text) AS token FROM generate_series(1, 1000) AS i",
		"CREATE INDEX sessions_token ON sessions (token)",
		"CREATE SEQUENCE invoices",
		"SELECT nextval('invoices') FROM generate_series(1, 50)",
		fmt.Sprintf(`SELECT lo_from_bytea(%d, string_agg(sha256(i::text::bytea), ''::bytea)) FROM generate_series(1, 5000) AS i`, largeObject))
}
