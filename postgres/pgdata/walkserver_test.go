package pgdata_test

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/pgdata"
)

// TestWalkAgreesWithServer compares what Walk yields with what the server's own base backup of a busy-looking cluster has.
func TestWalkAgreesWithServer(t *testing.T) {
	c := testkit.NewCluster(t, testkit.ClusterOptions{Major: 15, Conf: map[string]string{"autovacuum": "off", "logging_collector": "on"}})
	spread(t, c)
	c.Start(t)
	spaces := map[string]string{} // location -> where pg_basebackup puts it
	for name, location := range map[string]string{"outside": filepath.Join(testkit.Dir(t), "space"), "inside": filepath.Join(c.DataDir, "space")} {
		mkdir(t, location)
		spaces[location] = filepath.Join(testkit.Dir(t), "copy")
		c.Exec(t, "create tablespace "+name+" location '"+location+"'")
	}
	for _, space := range []string{"pg_default", "outside", "inside"} {
		c.Exec(t, "create table logged_"+space+"(i int primary key) tablespace "+space,
			"create unlogged table unlogged_"+space+"(i int primary key, t text) tablespace "+space,
			"insert into unlogged_"+space+" select g, repeat('x', 1000) from generate_series(1, 1000) g",
			"vacuum unlogged_"+space)
	}
	holdTemporaryTable(t, c)
	litter(t, c.DataDir)
	c.Exec(t, "checkpoint")

	dest := filepath.Join(testkit.Dir(t), "backup")
	args := []string{"-D", dest, "-X", "none", "-c", "fast", "--no-manifest"}
	for from, to := range spaces {
		args = append(args, "-T", from+"="+to)
	}
	c.Client(t, "pg_basebackup", args...)

	ctl, _, err := pgdata.ReadControl(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	got, want := ourList(t, c.DataDir, ctl), serverList(t, dest)
	if len(got) < 900 {
		t.Errorf("only %d entries", len(got))
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			t.Errorf("the server leaves %s out", path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if mode, ok := got[path]; !ok {
			t.Errorf("Walk leaves %s out", path)
		} else if mode != want[path] {
			t.Errorf("%s is %v, the server has %v", path, mode, want[path])
		}
	}
}

// spread moves pg_wal out of PGDATA, as administrators do.
func spread(t *testing.T, c *testkit.Cluster) {
	t.Helper()
	from, to := filepath.Join(c.DataDir, "pg_wal"), filepath.Join(testkit.Dir(t), "wal")
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(to, from); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, dir)
}

// holdTemporaryTable keeps a session with a temporary table open until the end of the test.
func holdTemporaryTable(t *testing.T, c *testkit.Cluster) {
	t.Helper()
	psql := testkit.Start(t, testkit.Cmd{Path: testkit.Tool(t, "psql"), Env: c.ClientEnv(), AsServerUser: true,
		Args: []string{"-Xq", "-c", "create temporary table held as select generate_series(1, 1000) i", "-c", "vacuum held", "-c", "select pg_sleep(3600)"}})
	t.Cleanup(func() { psql.Kill(t) })
	c.WaitFor(t, "select count(*) from pg_stat_activity where query like '%pg_sleep(3600)' and pid <> pg_backend_pid()", "1", time.Minute)
	if found, err := filepath.Glob(filepath.Join(c.DataDir, "base", "*", "t[0-9]*_[0-9]*")); err != nil || len(found) == 0 {
		t.Fatalf("no temporary relations: %v", err)
	}
}

// litter leaves files behind as crashes and other tools do.
func litter(t *testing.T, dir string) {
	t.Helper()
	databases, err := filepath.Glob(filepath.Join(dir, "base", "[0-9]*"))
	if err != nil || len(databases) == 0 {
		t.Fatal("no databases", err)
	}
	versions, err := filepath.Glob(filepath.Join(dir, "pg_tblspc", "*", "PG_*"))
	if err != nil || len(versions) != 2 {
		t.Fatal("not two tablespaces", versions, err)
	}
	for _, line := range []string{"base/pgsql_tmp/pgsql_tmp123.0", "pg_notify/leftover", "pg_snapshots/leftover", "pg_replslot/leftover/state",
		"postgresql.auto.conf.tmp", "backup_manifest", "backup_label.old", "current_logfiles.tmp", "notes/pgsql_tmp_of_mine", "notes/t1_1", "notes/pg_subtrans/x",
		"notes/16400", "notes/16400_init"} {
		grow(t, dir, line)
	}
	for _, name := range []string{"t77_99999", "t77_99999.1", "t77_99999_vm", "t77_99999_foo", "88888", "88888.1", "88888_fsm", "88888_init", "pg_internal.init.99"} {
		grow(t, databases[0], name)
	}
	for _, version := range versions {
		grow(t, version, "pgsql_tmp/pgsql_tmp123.1", "5/88888", "5/88888_init", "5/t77_99999", "readme")
	}
	testkit.GiveToServer(t, dir)
	for _, version := range versions {
		real, err := filepath.EvalSymlinks(version)
		if err != nil {
			t.Fatal(err)
		}
		testkit.GiveToServer(t, real)
	}
}

func ourList(t *testing.T, dir string, ctl pgdata.Control) map[string]fs.FileMode {
	t.Helper()
	list := map[string]fs.FileMode{}
	for e, err := range pgdata.Walk(dir, ctl) {
		if err != nil {
			t.Fatal(err)
		}
		list[e.Path] = e.Mode
		if e.Type == pgdata.Dir {
			list[e.Path] |= fs.ModeDir
		}
		if e.Type == pgdata.Symlink {
			t.Errorf("%s is a symbolic link", e.Path)
		}
	}
	return list
}

// serverList lists a base backup with its tablespaces, but for what the server makes for it.
func serverList(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	list := map[string]fs.FileMode{}
	add := func(root, prefix string) {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Stat(path) // through the links to tablespaces
			if err != nil {
				return err
			}
			list[prefix+strings.TrimPrefix(path, root+"/")] = info.Mode()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		delete(list, prefix+root)
	}
	add(dir, "")
	tablespaces, err := pgdata.Tablespaces(dir)
	if err != nil || len(tablespaces) != 2 {
		t.Fatalf("tablespaces of the backup: %v, %v", tablespaces, err)
	}
	links, err := filepath.Glob(filepath.Join(dir, "pg_tblspc", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		add(target, "pg_tblspc/"+filepath.Base(link)+"/")
	}
	delete(list, "backup_label")
	delete(list, pgdata.ControlPath)
	return list
}
