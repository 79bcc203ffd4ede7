package pgdata_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"walden/postgres/pgdata"
)

func TestTablespaceMapOfServers(t *testing.T) {
	for _, major := range majors {
		raw := captured(t, major, "tablespace_map")
		list, err := pgdata.ParseTablespaceMap(raw)
		if err != nil || len(list) != 1 || list[0].OID < 16384 || list[0].Location != `/tmp/walden-capture/a space\and more` {
			t.Errorf("%d: %+v, %v", major, list, err)
		}
		if got := pgdata.FormatTablespaceMap(list); major > 13 && !bytes.Equal(got, raw) {
			t.Errorf("%d: written as %q, the server writes %q", major, got, raw)
		}
	}
}

func TestTablespaceMap(t *testing.T) {
	list := []pgdata.Tablespace{{16384, "/a"}, {16390, "/with\nnewline"}, {7, "/with\rreturn"}, {8, `/with\back\\slashes\`}, {4294967295, " / "}}
	want := "16384 /a\n16390 /with\\\nnewline\n7 /with\\\rreturn\n8 /with\\\\back\\\\\\\\slashes\\\\\n4294967295  / \n"
	b := pgdata.FormatTablespaceMap(list)
	if string(b) != want {
		t.Errorf("written as %q, want %q", b, want)
	}
	if got, err := pgdata.ParseTablespaceMap(b); err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("read back as %+v, %v", got, err)
	}
	if got, err := pgdata.ParseTablespaceMap([]byte("1 /a\r\n2 /b\r\n")); err != nil || !reflect.DeepEqual(got, []pgdata.Tablespace{{1, "/a"}, {2, "/b"}}) {
		t.Errorf("with carriage returns: %+v, %v", got, err)
	}
	if got, err := pgdata.ParseTablespaceMap(nil); err != nil || got != nil {
		t.Errorf("empty: %+v, %v", got, err)
	}
	for _, text := range []string{"16384 /a", "16384 /a\\\n", "16384\n", "16384 \n", " /a\n", "x /a\n", "0 /a\n", "-1 /a\n", "016384 /a\n", "4294967296 /a\n", "\\"} {
		if got, err := pgdata.ParseTablespaceMap([]byte(text)); !errors.Is(err, pgdata.ErrSyntax) {
			t.Errorf("%q: %+v, %v; want ErrSyntax", text, got, err)
		}
	}
}

func TestTablespaces(t *testing.T) {
	dir := t.TempDir()
	if _, err := pgdata.Tablespaces(dir); !errors.Is(err, pgdata.ErrNoCluster) || !strings.Contains(err.Error(), dir) {
		t.Errorf("no pg_tblspc: %v; want ErrNoCluster with the path", err)
	}
	spc := filepath.Join(dir, "pg_tblspc")
	if err := os.MkdirAll(filepath.Join(spc, "16500", "PG_18_202506291"), 0o700); err != nil { // in place
		t.Fatal(err)
	}
	for name, target := range map[string]string{"16390": "/b", "9000": "/a", "16400": dir, "016401": "/c", "other": "/d", "16402.tmp": "/e"} {
		if err := os.Symlink(target, filepath.Join(spc, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(spc, "16403"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := []pgdata.Tablespace{{9000, "/a"}, {16390, "/b"}, {16400, dir}}
	if got, err := pgdata.Tablespaces(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func FuzzParseTablespaceMap(f *testing.F) {
	for _, major := range majors {
		f.Add(captured(f, major, "tablespace_map"))
	}
	f.Add([]byte("16384 /a\n16390 /with\\\nnewline\n7 /with\\\rreturn\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := pgdata.ParseTablespaceMap(b)
		if err != nil {
			if !errors.Is(err, pgdata.ErrSyntax) {
				t.Fatalf("%v is not ErrSyntax", err)
			}
			return
		}
		again, err := pgdata.ParseTablespaceMap(pgdata.FormatTablespaceMap(list))
		if err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%q reads as %+v, which reads as %+v, %v", b, list, again, err)
		}
	})
}
