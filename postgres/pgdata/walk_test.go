package pgdata_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"walden/postgres/pgdata"
)

// ctl15 is what the walk needs to know of the clusters that grow makes.
var ctl15 = pgdata.Control{Major: 15, CatalogVersion: 202209061}

// grow makes a tree below dir. A line is "path/" for a directory, "path -> target" for a link, and "path" for a file.
func grow(t *testing.T, dir string, lines ...string) string {
	t.Helper()
	for _, line := range lines {
		name, target, isLink := strings.Cut(line, " -> ")
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o700)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(target, path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o700)
		default:
			err = os.WriteFile(path, []byte(line), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// walked lists what Walk yields, in the form of grow.
func walked(pgdataDir string, ctl pgdata.Control) ([]string, error) {
	var lines []string
	for e, err := range pgdata.Walk(pgdataDir, ctl) {
		switch {
		case err != nil:
			return lines, err
		case e.Source != filepath.Join(pgdataDir, e.Path):
			return lines, fmt.Errorf("%s is at %s", e.Path, e.Source)
		case e.Type == pgdata.Dir:
			lines = append(lines, e.Path+"/")
		case e.Type == pgdata.Symlink:
			lines = append(lines, e.Path+" -> "+e.Link)
		default:
			lines = append(lines, e.Path)
		}
	}
	return lines, nil
}

func checkWalk(t *testing.T, dir string, want ...string) {
	t.Helper()
	got, err := walked(dir, ctl15)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestWalkLeavesOut(t *testing.T) {
	dir := grow(t, t.TempDir(),
		"PG_VERSION", "backup_label", "backup_label.old", "tablespace_map", "backup_manifest", "postmaster.pid", "postmaster.opts",
		"postgresql.auto.conf", "postgresql.auto.conf.tmp", "current_logfiles", "current_logfiles.tmp", ".DS_Store", "log/backup_label", "log/a.log",
		"t3_16385", // a relation's name, but no place for relations
		"base/pgsql_tmp/pgsql_tmp1.0", "base/t3_16385",
		"base/5/1259", "base/5/1259.1", "base/5/1259_fsm", "base/5/1259_vm", "base/5/PG_VERSION", "base/5/pg_filenode.map",
		"base/5/pg_internal.init", "base/5/pg_internal.init.123", "base/5/pgsql_tmp99.1",
		"base/5/16400", "base/5/16400.1", "base/5/16400_fsm", "base/5/16400_vm.1", "base/5/16400_init", "base/5/16400_init.1",
		"base/5/16400.txt", "base/5/16401", "base/5/164001", "base/5/x_init", "base/5/x",
		"base/5/t3_16500", "base/5/t3_16500.1", "base/5/t3_16500_fsm", "base/5/t3_16500_foo", "base/5/table",
		"base/x5/16400", "base/x5/16400_init", "base/x5/t3_1",
		"global/1260", "global/1700", "global/1700_init", "global/pg_control", "global/pg_internal.init", "global/t1_1",
		"pg_control", "base/5/pg_control",
		"pg_commit_ts/0000", "pg_dynshmem/mmap.1", "pg_logical/replorigin_checkpoint", "pg_logical/mappings/", "pg_multixact/members/0000",
		"pg_notify/0000", "pg_replslot/slot/state", "pg_serial/0000", "pg_snapshots/1", "pg_stat/pgstat.stat", "pg_stat_tmp/x.stat",
		"pg_subtrans/0000", "pg_tblspc/", "pg_twophase/00000001", "pg_xact/0000",
		"pg_wal/000000010000000000000001", "pg_wal/archive_status/000000010000000000000001.ready", "pg_wal/summaries/x.summary", "pg_wal/other/x",
	)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(dir, ".s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	checkWalk(t, dir,
		"PG_VERSION", "backup_label.old",
		"base/", "base/5/", "base/5/1259", "base/5/1259.1", "base/5/1259_fsm", "base/5/1259_vm",
		"base/5/16400.txt", "base/5/164001", "base/5/16400_init", "base/5/16400_init.1", "base/5/16401",
		"base/5/PG_VERSION", "base/5/pg_control", "base/5/pg_filenode.map", "base/5/t3_16500_foo", "base/5/table", "base/5/x", "base/5/x_init",
		"base/t3_16385", "base/x5/", "base/x5/16400", "base/x5/16400_init", "base/x5/t3_1",
		"current_logfiles", "global/", "global/1260", "global/1700_init", "global/t1_1", "log/", "log/a.log",
		"pg_commit_ts/", "pg_commit_ts/0000", "pg_control", "pg_dynshmem/", "pg_logical/", "pg_logical/mappings/", "pg_logical/replorigin_checkpoint",
		"pg_multixact/", "pg_multixact/members/", "pg_multixact/members/0000", "pg_notify/", "pg_replslot/", "pg_serial/", "pg_snapshots/",
		"pg_stat/", "pg_stat/pgstat.stat", "pg_stat_tmp/", "pg_subtrans/", "pg_tblspc/", "pg_twophase/", "pg_twophase/00000001",
		"pg_wal/", "pg_wal/archive_status/", "pg_wal/summaries/", "pg_xact/", "pg_xact/0000",
		"postgresql.auto.conf", "t3_16385",
	)
}

func TestWalkTablespaces(t *testing.T) {
	outside := grow(t, t.TempDir(),
		"PG_15_202209061/5/16400", "PG_15_202209061/5/16401", "PG_15_202209061/5/16401_init", "PG_15_202209061/5/t1_2",
		"PG_15_202209061/pgsql_tmp/pgsql_tmp1.0", "PG_14_202107181/5/16400", "unrelated", "lost+found/")
	dir := t.TempDir()
	grow(t, dir, "pg_tblspc/16390 -> "+outside,
		"inside/PG_15_202209061/5/16400", "pg_tblspc/16391 -> "+dir+"/inside", // against advice, within PGDATA
		"pg_tblspc/16392/PG_15_202209061/5/16400", "pg_tblspc/16392/PG_15_202209061/5/t1_2", "pg_tblspc/16392/x", // in place
		"pg_tblspc/16393/") // left over from one in place
	checkWalk(t, dir, "inside/", "pg_tblspc/",
		"pg_tblspc/16390/", "pg_tblspc/16390/PG_15_202209061/", "pg_tblspc/16390/PG_15_202209061/5/",
		"pg_tblspc/16390/PG_15_202209061/5/16400", "pg_tblspc/16390/PG_15_202209061/5/16401_init",
		"pg_tblspc/16391/", "pg_tblspc/16391/PG_15_202209061/", "pg_tblspc/16391/PG_15_202209061/5/", "pg_tblspc/16391/PG_15_202209061/5/16400",
		"pg_tblspc/16392/", "pg_tblspc/16392/PG_15_202209061/", "pg_tblspc/16392/PG_15_202209061/5/", "pg_tblspc/16392/PG_15_202209061/5/16400")
}

// TestWalkMissingTablespace: data that can't be seen must not be taken for no data.
func TestWalkMissingTablespace(t *testing.T) {
	unmounted := t.TempDir()
	for _, target := range []string{unmounted, unmounted + "/none"} {
		dir := grow(t, t.TempDir(), "pg_tblspc/16390 -> "+target)
		_, err := walked(dir, ctl15)
		if !errors.Is(err, pgdata.ErrTablespace) || !strings.Contains(err.Error(), target) || !strings.Contains(err.Error(), "16390") {
			t.Errorf("link to %s: %v; want ErrTablespace that names both", target, err)
		}
	}
}

func TestWalkLinks(t *testing.T) {
	other := grow(t, t.TempDir(), "wal/000000010000000000000001", "wal/archive_status/", "xact/0000", "base/5/1259", "base/5/16400", "base/5/16400_init",
		"members/0000", "stats/x", "log/a.log", "pg.conf", "segment")
	dir := grow(t, t.TempDir(), "pg_tblspc/",
		"base -> "+other+"/base", "pg_wal -> "+other+"/wal", "pg_xact -> "+other+"/xact", "pg_multixact/members -> "+other+"/members",
		"global/1260 -> "+other+"/segment",
		"pg_stat_tmp -> "+other+"/stats", "pg_notify -> "+other+"/none",
		"log -> "+other+"/log", "postgresql.conf -> "+other+"/pg.conf", "pg_hba.conf -> ../none", "conf.d/x -> y")
	checkWalk(t, dir, "base/", "base/5/", "base/5/1259", "base/5/16400_init", "conf.d/", "conf.d/x -> y", "global/", "global/1260",
		"log -> "+other+"/log", "pg_hba.conf -> ../none", "pg_multixact/", "pg_multixact/members/", "pg_multixact/members/0000",
		"pg_notify/", "pg_stat_tmp/", "pg_tblspc/", "pg_wal/", "pg_wal/archive_status/", "pg_xact/", "pg_xact/0000",
		"postgresql.conf -> "+other+"/pg.conf")
}

func TestWalkFails(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		is    error
		says  string
	}{
		"no directory":              {nil, pgdata.ErrNoCluster, "pg_tblspc"},
		"relation on a lost disk":   {[]string{"pg_tblspc/", "base/5 -> /none/such"}, os.ErrNotExist, "base/5"},
		"database that is a loop":   {[]string{"pg_tblspc/", "base/5 -> ../base"}, nil, "base/5"},
		"relation that is a loop":   {[]string{"pg_tblspc/", "base/5/1259 -> 1259"}, unix.ELOOP, "base/5/1259"},
		"tablespace that is a loop": {[]string{"pg_tblspc/16390 -> 16390"}, unix.ELOOP, "16390"},
	} {
		dir := grow(t, t.TempDir(), c.lines...)
		errs := 0
		var last error
		for _, err := range pgdata.Walk(dir, ctl15) {
			if last != nil {
				t.Errorf("%s: the walk goes on after an error", name)
			}
			if err != nil {
				errs, last = errs+1, err
			}
		}
		if errs != 1 || c.is != nil && !errors.Is(last, c.is) || !strings.Contains(last.Error(), dir) || !strings.Contains(last.Error(), c.says) {
			t.Errorf("%s: %v; want %v that names %s", name, last, c.is, c.says)
		}
	}
	if _, err := walked(filepath.Join(t.TempDir(), "none"), ctl15); !errors.Is(err, pgdata.ErrNoCluster) {
		t.Errorf("%v, want ErrNoCluster", err)
	}
}

// TestWalkIsLazy: the tree is read as the walk goes, what is gone by then is skipped, and nothing is read after a break.
func TestWalkIsLazy(t *testing.T) {
	dir := grow(t, t.TempDir(), "a", "b", "base/4/1259", "base/5/1259", "base/5/1260", "base/6/1259", "pg_tblspc/", "z")
	gone := map[string]string{"a": "b", "base/": "base/4", "base/5/1259": "base/5/1260", "base/6/": "base/6"}
	var got []string
	for e, err := range pgdata.Walk(dir, ctl15) {
		if err != nil {
			t.Fatal(err)
		}
		name := e.Path
		if e.Type == pgdata.Dir {
			name += "/"
		}
		got = append(got, name)
		if victim, ok := gone[name]; ok {
			if err := os.RemoveAll(filepath.Join(dir, victim)); err != nil {
				t.Fatal(err)
			}
		}
		if e.Path == "pg_tblspc" {
			break
		}
	}
	if want := []string{"a", "base/", "base/5/", "base/5/1259", "base/6/", "pg_tblspc/"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWalkEntry(t *testing.T) {
	dir := grow(t, t.TempDir(), "pg_tblspc/", "global/1260")
	path := filepath.Join(dir, "global", "1260")
	for name, mode := range map[string]os.FileMode{path: 0o640, filepath.Dir(path): 0o750 | os.ModeSetgid} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(dir))
	var entries []pgdata.Entry
	for e, err := range pgdata.Walk(filepath.Base(dir), ctl15) { // a relative path
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	want := pgdata.Entry{Path: "global/1260", Source: path, Type: pgdata.File, Mode: 0o640, Size: int64(len("global/1260")), ModTime: info.ModTime()}
	if len(entries) != 3 || entries[1] != want || entries[0].Mode != 0o750 || entries[0].Size != 0 {
		t.Errorf("%+v, want second %+v", entries, want)
	}
}
