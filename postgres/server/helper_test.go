package server_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/server"
)

// limit is far above what anything here takes on a slow machine.
const limit = 60 * time.Second

// cleanEnv hides the developer's own libpq settings from pgconn.
func cleanEnv(t *testing.T) {
	t.Helper()
	for _, name := range []string{
		"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE",
		"PGOPTIONS", "PGSSLMODE", "PGAPPNAME", "PGPASSFILE", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
}

// running starts a new cluster with room for what the tests do.
func running(t *testing.T, opts testkit.ClusterOptions) *testkit.Cluster {
	t.Helper()
	c := testkit.NewCluster(t, opts)
	c.Start(t)
	return c
}

// connect opens a session that ends with the test.
func connect(t *testing.T, cfg server.Config) *server.Conn {
	t.Helper()
	cfg.Env = os.Getenv
	conn, err := server.Connect(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func identify(t *testing.T, conn *server.Conn) server.Identity {
	t.Helper()
	id, err := conn.Identity(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// prove reads the local side from dir and compares it.
func prove(t *testing.T, id server.Identity, dir string) error {
	t.Helper()
	ctl, _, err := pgdata.ReadControl(dir)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := pgdata.ReadPostmasterPID(dir)
	if err != nil {
		t.Fatal(err)
	}
	return server.Prove(id, dir, ctl, pid)
}

// bounded is a context that fails a test that hangs.
func bounded(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// serverDir makes a directory that the server may write, below one of its own.
func serverDir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, dir)
	return dir
}
