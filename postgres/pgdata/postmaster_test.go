package pgdata_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walden/postgres/pgdata"
)

func TestPostmasterPIDOfServers(t *testing.T) {
	for _, major := range majors {
		p, err := pgdata.ParsePostmasterPID(captured(t, major, "postmaster.pid"))
		if err != nil {
			t.Fatal(err)
		}
		if p.PID <= 1 || p.DataDir != "/tmp/walden-capture/primary" || p.Port != 7813 || p.SocketDir != "/tmp/walden-capture" ||
			p.ListenAddr != "127.0.0.1" || p.Status != "ready" || p.SharedMemID == "" || p.StartTime.Year() < 2020 {
			t.Errorf("%d: %+v", major, p)
		}
	}
}

func TestParsePostmasterPID(t *testing.T) {
	start := time.Unix(1795253713, 0).UTC()
	for text, want := range map[string]pgdata.PostmasterPID{
		// What a server that has only begun to start has written.
		"27033\n/var/lib/pg\n1795253713\n5432\n": {PID: 27033, DataDir: "/var/lib/pg", StartTime: start, Port: 5432},
		// No socket, any address.
		"27033\n/var/lib/pg\n1795253713\n5432\n\n*\n  5432001    123\nstandby \n": {PID: 27033, DataDir: "/var/lib/pg", StartTime: start, Port: 5432,
			ListenAddr: "*", SharedMemID: "5432001    123", Status: "standby"},
		// A single-user server.
		"-44\n/var/lib/pg\n1795253713\n5432\n/tmp\n": {PID: -44, DataDir: "/var/lib/pg", StartTime: start, Port: 5432, SocketDir: "/tmp"},
		// A data directory that ends in a blank.
		"1\n/var/lib/pg \n1795253713\n5432\n": {PID: 1, DataDir: "/var/lib/pg ", StartTime: start, Port: 5432},
	} {
		if got, err := pgdata.ParsePostmasterPID([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "\n\n\n\n", "27033", "27033\n/var/lib/pg\n1795253713\n543", // the port is not whole
		"0\n/var/lib/pg\n1795253713\n5432\n", "x\n/var/lib/pg\n1795253713\n5432\n", "27033\n\n1795253713\n5432\n",
		"27033\n/var/lib/pg\nnow\n5432\n", "27033\n/var/lib/pg\n1795253713\n65536\n", "27033\n/var/lib/pg\n1795253713\n-1\n",
	} {
		if got, err := pgdata.ParsePostmasterPID([]byte(text)); !errors.Is(err, pgdata.ErrSyntax) || got != (pgdata.PostmasterPID{}) {
			t.Errorf("%q: %+v, %v; want ErrSyntax", text, got, err)
		}
	}
}

func TestReadPostmasterPID(t *testing.T) {
	dir := t.TempDir()
	if _, err := pgdata.ReadPostmasterPID(dir); !errors.Is(err, pgdata.ErrNotRunning) || !strings.Contains(err.Error(), dir) {
		t.Errorf("no file: %v; want ErrNotRunning with the path", err)
	}
	path := filepath.Join(dir, "postmaster.pid")
	if err := os.WriteFile(path, captured(t, 18, "postmaster.pid"), 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := pgdata.ReadPostmasterPID(dir); err != nil || p.Port != 7813 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pgdata.ReadPostmasterPID(dir); !errors.Is(err, pgdata.ErrSyntax) || !strings.Contains(err.Error(), path) {
		t.Errorf("garbage: %v; want ErrSyntax with the path", err)
	}
}

func FuzzParsePostmasterPID(f *testing.F) {
	for _, major := range majors {
		f.Add(captured(f, major, "postmaster.pid"))
	}
	f.Add([]byte("-44\n/var/lib/pg\n1795253713\n5432\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := pgdata.ParsePostmasterPID(b)
		switch {
		case err != nil && !errors.Is(err, pgdata.ErrSyntax):
			t.Fatalf("%v is not ErrSyntax", err)
		case err == nil && (p.PID == 0 || p.DataDir == "" || p.Port < 0 || p.Port > 65535):
			t.Fatalf("accepted %+v", p)
		}
	})
}
