package story

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// diskSuffix comes behind a tablespace's name in the path of its directory.
const diskSuffix = " disk"

// loadTablespaces makes two tablespaces, both with data: tables with their indexes, an unlogged table,
// and a database whose home is a tablespace. It returns their locations by name.
func loadTablespaces(t testing.TB, c *testkit.Cluster) map[string]string {
	t.Helper()
	places := makePlaces(t)
	for name, dir := range places {
		run(t, c, "postgres", fmt.Sprintf("CREATE TABLESPACE %s LOCATION '%s'", name, dir))
	}
	run(t, c, "postgres",
		"CREATE TABLE orders (id int PRIMARY KEY USING INDEX TABLESPACE slow, what text) TABLESPACE fast",
		"INSERT INTO orders SELECT i, md5(i::text) FROM generate_series(1, 10000) AS i",
		"CREATE UNLOGGED TABLE carts TABLESPACE fast AS SELECT i AS id FROM generate_series(1, 100) AS i",
		"CREATE DATABASE attic TABLESPACE slow")
	run(t, c, "attic", "CREATE TABLE boxes AS SELECT i AS id, md5(i::text) AS content FROM generate_series(1, 2000) AS i")
	return places
}

// makePlaces makes an empty directory, with a space in its path, for each tablespace.
func makePlaces(t testing.TB) map[string]string {
	t.Helper()
	top := testkit.Dir(t)
	places := map[string]string{}
	for _, name := range []string{"fast", "slow"} {
		places[name] = filepath.Join(top, name+diskSuffix)
		if err := os.Mkdir(places[name], 0o700); err != nil {
			t.Fatal(err)
		}
	}
	testkit.GiveToServer(t, top)
	return places
}

// remap returns the options that send each tablespace of the only backup to another place. What OIDs
// they have, info says.
func remap(t testing.TB, h host, places map[string]string) []string {
	t.Helper()
	var options []string
	for _, ts := range h.onlyBackup(t).Tablespaces {
		name := strings.TrimSuffix(filepath.Base(ts.Location), diskSuffix)
		options = append(options, "--tablespace", fmt.Sprintf("%d=%s", ts.OID, places[name]))
	}
	if len(options) != 2*len(places) {
		t.Fatalf("info tells of these tablespaces only: %q", options)
	}
	return options
}

// mustLieIn fails the test unless the cluster's tablespaces lie in these places, with their data.
func mustLieIn(t testing.TB, c *testkit.Cluster, places map[string]string) {
	t.Helper()
	rows := c.Query(t, "SELECT spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname !~ '^pg_'")
	if len(rows) != len(places) {
		t.Errorf("%d tablespaces, want %d", len(rows), len(places))
	}
	for _, row := range rows {
		name, location := row[0], row[1]
		if location != places[name] {
			t.Errorf("tablespace %s lies in %s, want %s", name, location, places[name])
		}
		if files, err := filepath.Glob(filepath.Join(places[name], "PG_*", "*", "*")); err != nil || len(files) == 0 {
			t.Errorf("tablespace %s has no files in %s (error: %v)", name, places[name], err)
		}
	}
}
