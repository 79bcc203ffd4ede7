package story

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// facts are what a cluster held at a moment: the rows and the checksum of each table, and whatever else
// can be compared, by "database: what".
type facts struct {
	values    map[string]string
	sequences map[string]int64 // last values
}

// note takes down the facts of a running cluster, which may be in recovery. Nobody writes meanwhile.
func note(t testing.TB, c *testkit.Cluster) facts {
	t.Helper()
	f := facts{values: map[string]string{}, sequences: map[string]int64{}}
	for _, database := range databases(t, c) {
		for _, row := range ask(t, c, database, checksums(t, c, database)) {
			f.values[database+": "+row[0]] = row[1] + " rows, " + row[2]
		}
		for _, row := range ask(t, c, database, "SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL") {
			last, err := strconv.ParseInt(row[2], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			f.sequences[database+": "+row[0]+"."+row[1]] = last
		}
	}
	f.values["cluster: roles and tablespaces"] = c.QueryValue(t, `SELECT string_agg(name, ' ' ORDER BY name)
		FROM (SELECT rolname AS name FROM pg_roles UNION ALL SELECT spcname FROM pg_tablespace) AS all_names`)
	f.values["shop: large object"] = ask(t, c, "shop", fmt.Sprintf("SELECT md5(lo_get(%d))", largeObject))[0][0]
	f.values["shop: by index"] = byIndex(t, c)
	return f
}

// databases lists all that can be connected to. template0 can't; nobody changes it.
func databases(t testing.TB, c *testkit.Cluster) []string {
	t.Helper()
	var names []string
	for _, row := range c.Query(t, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname") {
		names = append(names, row[0])
	}
	return names
}

// checksums returns a query for name, number of rows and checksum of every table with content that
// survives a crash, the one that holds large objects included.
func checksums(t testing.TB, c *testkit.Cluster, database string) string {
	t.Helper()
	tables := ask(t, c, database, `SELECT format('%I.%I', nspname, relname)
		FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
		WHERE relkind = 'r' AND relpersistence = 'p' AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`)
	queries := make([]string, 0, len(tables)+1)
	for _, row := range append(tables, []string{"pg_catalog.pg_largeobject"}) {
		queries = append(queries, fmt.Sprintf(`SELECT '%[1]s', count(*), md5(string_agg(r::text, E'\n' ORDER BY r::text COLLATE "C")) FROM %[1]s AS r`, row[0]))
	}
	return strings.Join(queries, " UNION ALL ")
}

// byIndex reads documents through an index, and nothing but that.
func byIndex(t testing.TB, c *testkit.Cluster) string {
	t.Helper()
	const query = "SELECT md5(string_agg(title || md5(body), ' ' ORDER BY title)) FROM documents WHERE title >= 'title 2'"
	const onlyIndexes = "SET enable_seqscan = off; SET enable_bitmapscan = off; "
	plan := fmt.Sprint(ask(t, c, "shop", onlyIndexes+"EXPLAIN "+query))
	if !strings.Contains(plan, "Index Scan using documents_title") {
		t.Fatalf("the index is not used: %s", plan)
	}
	return ask(t, c, "shop", onlyIndexes+query)[0][0]
}

// mustHoldIn fails the test unless the cluster holds exactly these facts.
func (f facts) mustHoldIn(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	for _, difference := range f.differences(note(t, c)) {
		t.Error(difference)
	}
}

// differences says what is not as it was.
func (f facts) differences(now facts) []string {
	var list []string
	for _, name := range allKeys(f.values, now.values) {
		if was, is := f.values[name], now.values[name]; was != is {
			list = append(list, fmt.Sprintf("%s: %q, but it was %q", name, is, was))
		}
	}
	for _, name := range allKeys(f.sequences, now.sequences) {
		// A server logs that a sequence is used 32 values ahead (SEQ_LOG_VALS, src/backend/commands/sequence.c).
		if was, is := f.sequences[name], now.sequences[name]; is < was || is > was+32 {
			list = append(list, fmt.Sprintf("%s: sequence at %d, but it was at %d", name, is, was))
		}
	}
	return list
}

// allKeys are the keys of both maps, sorted.
func allKeys[V any](a, b map[string]V) []string {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	return slices.Sorted(maps.Keys(keys))
}
