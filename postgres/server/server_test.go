package server_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/server"
)

func TestConnectByDataDirectory(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	conn := connect(t, server.Config{PGData: c.DataDir})
	rows, err := conn.Query(bounded(t), `SELECT current_user, current_database(), application_name, NULL
		FROM pg_stat_activity WHERE pid = pg_backend_pid()`)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(rows), fmt.Sprintf("[[%s postgres walden ]]", testkit.ServerUser(t)); got != want {
		t.Errorf("session is %s, want %s", got, want)
	}
}

func TestConnectByOtherMeans(t *testing.T) {
	c := running(t, testkit.ClusterOptions{})
	c.Exec(t, "CREATE ROLE operator SUPERUSER LOGIN", "CREATE DATABASE ops")
	port := strconv.Itoa(c.Port)
	services := filepath.Join(t.TempDir(), "services")
	content := "[walden]\nhost=" + c.SocketDir + "\nport=" + port + "\nuser=operator\n"
	if err := os.WriteFile(services, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cfg  server.Config
		env  map[string]string
		user string
		db   string
	}{
		"keywords":             {cfg: server.Config{DSN: c.DSN() + " user=operator"}, user: "operator", db: "postgres"},
		"URL":                  {cfg: server.Config{DSN: "postgresql://operator@127.0.0.1:" + port + "/ops?sslmode=disable"}, user: "operator", db: "ops"},
		"URL with directory":   {cfg: server.Config{DSN: "postgresql://operator@/ops", PGData: c.DataDir}, user: "operator", db: "ops"},
		"environment":          {env: map[string]string{"PGHOST": c.SocketDir, "PGPORT": port, "PGUSER": "operator"}, user: "operator", db: "postgres"},
		"user only":            {env: map[string]string{"PGUSER": "operator"}, cfg: server.Config{PGData: c.DataDir}, user: "operator", db: "postgres"},
		"service in DSN":       {env: map[string]string{"PGSERVICEFILE": services}, cfg: server.Config{DSN: "service=walden"}, user: "operator", db: "postgres"},
		"service, environment": {env: map[string]string{"PGSERVICEFILE": services, "PGSERVICE": "walden"}, cfg: server.Config{PGData: c.DataDir}, user: "operator", db: "postgres"},
		"DSN beats environment": {env: map[string]string{"PGPORT": "1", "PGUSER": "nobody"},
			cfg: server.Config{DSN: c.DSN() + " user=operator"}, user: "operator", db: "postgres"},
		"primary_conninfo": {cfg: server.Config{DSN: c.DSN() + " user=operator sslcompression=0 gssencmode=prefer krbsrvname=postgres" +
			" fallback_application_name=walreceiver replication=true load_balance_hosts=disable ssl_min_protocol_version=TLSv1.2"},
			user: "operator", db: "postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			cleanEnv(t)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			conn := connect(t, tt.cfg)
			rows, err := conn.Query(bounded(t), "SELECT current_user, current_database(), current_setting('port')")
			if err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Join(rows[0], " "), tt.user+" "+tt.db+" "+port; got != want {
				t.Errorf("connected as %s, want %s", got, want)
			}
		})
	}
}

// adverse are settings that would end, hold up or garble a session.
const adverse = "options='-c lock_timeout=7s -c bytea_output=escape -c synchronous_commit=on -c default_transaction_read_only=on'"

func TestEveryMajor(t *testing.T) {
	for _, major := range testkit.PostgresMajors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			cleanEnv(t)
			c := running(t, testkit.ClusterOptions{Major: major, SegmentSize: 64, Conf: map[string]string{
				"wal_level": "logical", "archive_mode": "on", "archive_command": "test %f = 000000010000000000000001",
				"statement_timeout": "5s", "idle_session_timeout": "5s",
				// Who commits with more than local waits for ever.
				"synchronous_standby_names": "absent", "synchronous_commit": "local",
			}})
			t.Run("session", func(t *testing.T) { testSettings(t, c) })
			t.Run("identity", func(t *testing.T) { testIdentity(t, c) })
			t.Run("switch", func(t *testing.T) { testSwitchWAL(t, c) })
			t.Run("backup", func(t *testing.T) { testBackup(t, c) })
			t.Run("connection killed", func(t *testing.T) { testConnectionKilled(t, c) })
		})
	}
}

// testSettings looks whether a session is safe from settings that would end it,
// whatever the server and the operator's options say.
func testSettings(t *testing.T, c *testkit.Cluster) {
	conn := connect(t, server.Config{PGData: c.DataDir, DSN: adverse})
	for name, want := range map[string]string{
		"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0",
		"idle_in_transaction_session_timeout": "0", "transaction_timeout": map[bool]string{true: "0"}[c.Major >= 17],
		"search_path": "pg_catalog", "synchronous_commit": "local",
	} {
		got, err := conn.Setting(bounded(t), name)
		if err != nil || got != want {
			t.Errorf("%s is %q (error: %v), want %q", name, got, err, want)
		}
	}
}

func TestServerDown(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	t.Run("killed", func(t *testing.T) {
		c.Kill(t) // postmaster.pid stays behind
		_, err := server.Connect(bounded(t), server.Config{PGData: c.DataDir})
		wantError(t, err, server.ErrUnavailable, c.SocketDir, "port "+strconv.Itoa(c.Port), "postmaster.pid",
			"user "+testkit.ServerUser(t), "127.0.0.1", "refused", "start the server, or give --dsn / PGHOST / PGPORT")
	})
	t.Run("shut down", func(t *testing.T) {
		c.Start(t)
		c.Stop(t, testkit.Fast)
		_, err := server.Connect(bounded(t), server.Config{PGData: c.DataDir})
		wantError(t, err, server.ErrUnavailable, c.DataDir, "not running", "start the server, or give --dsn / PGHOST / PGPORT")
	})
	t.Run("given by the environment", func(t *testing.T) {
		t.Setenv("PGPORT", strconv.Itoa(testkit.FreePort(t)))
		t.Setenv("PGHOST", "127.0.0.1")
		_, err := server.Connect(bounded(t), server.Config{PGData: c.DataDir, Env: os.Getenv})
		wantError(t, err, server.ErrUnavailable, "host 127.0.0.1 (PGHOST)", os.Getenv("PGPORT")+" (PGPORT)", "connection refused")
	})
}

func TestRefusedByServer(t *testing.T) {
	cleanEnv(t)
	c := testkit.NewCluster(t, testkit.ClusterOptions{Conf: map[string]string{"password_encryption": "scram-sha-256"}})
	hba := "local all all trust\nhost all,postgres all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(c.DataDir, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start(t)
	c.Exec(t, "CREATE ROLE operator LOGIN PASSWORD 'right'", "REVOKE CONNECT ON DATABASE template1 FROM PUBLIC",
		"ALTER ROLE operator CONNECTION LIMIT 5")
	const secret = "s3cr3t/with?odd=chars"
	tcp := "host=127.0.0.1 port=" + strconv.Itoa(c.Port) + " user=operator "
	for name, tt := range map[string]struct {
		dsn  string
		kind error
		want []string
	}{
		"wrong password": {tcp + "password='" + secret + "'", server.ErrDenied, []string{"28P01", "user operator (DSN)", "127.0.0.1", "check user and password"}},
		"wrong password in URL": {"postgresql://operator:s3cr3t%2Fwith%3Fodd=chars@127.0.0.1:" + strconv.Itoa(c.Port) + "/postgres",
			server.ErrDenied, []string{"28P01"}},
		"no such database": {tcp + "password=right dbname=nope", server.ErrConfig, []string{`"nope" does not exist`, "PGDATABASE"}},
		"no privilege":     {tcp + "password=right dbname=template1", server.ErrDenied, []string{"template1", "grant"}},
		"no such role":     {c.DSN() + " user=stranger password='" + secret + "'", server.ErrDenied, []string{"stranger"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := server.Connect(bounded(t), server.Config{DSN: tt.dsn})
			wantError(t, err, tt.kind, tt.want...)
			if strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "right") {
				t.Errorf("the password is in the message: %s", err)
			}
		})
	}
	conn := connect(t, server.Config{DSN: tcp + "password=right"})
	if err := conn.Ping(bounded(t)); err != nil {
		t.Error(err)
	}
}

func TestStartingServer(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	c.Stop(t, testkit.Fast)
	// Recovery that waits for WAL which never comes, with no one let in.
	if err := os.WriteFile(filepath.Join(c.DataDir, "standby.signal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Configure(t, map[string]string{"hot_standby": "off"})
	testkit.GiveToServer(t, c.DataDir)
	c.Launch(t)
	var err error
	testkit.Eventually(t, limit, "the server answers", func() bool {
		_, err = server.Connect(bounded(t), server.Config{DSN: c.DSN()})
		return strings.Contains(fmt.Sprint(err), "57P03")
	})
	wantError(t, err, server.ErrUnavailable, "hot_standby = on")
}

func TestCancel(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{Conf: map[string]string{"checkpoint_timeout": "1h", "shared_buffers": "64MB"}})
	c.Exec(t, "CREATE TABLE t AS SELECT repeat('x', 500) FROM generate_series(1, 20000)")

	t.Run("start of a backup", func(t *testing.T) {
		conn := connect(t, server.Config{PGData: c.DataDir})
		ctx, cancel := context.WithCancel(bounded(t))
		defer cancel()
		ended := make(chan error, 1)
		go func() {
			_, err := conn.StartBackup(ctx, "slow", false)
			ended <- err
		}()
		const active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%backup_start%' AND state = 'active' AND pid <> pg_backend_pid()"
		c.WaitFor(t, active, "1", limit)
		cancel()
		wantError(t, <-ended, context.Canceled, "start backup")
		c.WaitFor(t, active, "0", limit)
		if err := conn.Ping(bounded(t)); err != nil {
			t.Errorf("the session should live on: %v", err)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		conn := connect(t, server.Config{PGData: c.DataDir})
		ctx, cancel := context.WithTimeout(bounded(t), 50*time.Millisecond)
		defer cancel()
		_, err := conn.Query(ctx, "SELECT pg_sleep(600)")
		wantError(t, err, context.DeadlineExceeded, "in time")
		wantError(t, err, server.ErrUnavailable)
	})
	t.Run("server process stuck", func(t *testing.T) {
		conn := connect(t, server.Config{PGData: c.DataDir})
		rows, err := conn.Query(bounded(t), "SELECT pg_backend_pid()")
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(rows[0][0])
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				t.Error(err)
			}
		}()
		ctx, cancel := context.WithTimeout(bounded(t), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		wantError(t, conn.Ping(ctx), context.DeadlineExceeded)
		if err := conn.Close(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("giving up on a stuck server took %s", took)
		}
	})
	t.Run("before connecting", func(t *testing.T) {
		ctx, cancel := context.WithCancel(bounded(t))
		cancel()
		_, err := server.Connect(ctx, server.Config{PGData: c.DataDir})
		wantError(t, err, context.Canceled)
	})
}

// wantError checks an error's kind, that it is one line, and its key words.
func wantError(t *testing.T, err, kind error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("the error is not %q: %v", kind, err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line: %s", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q is missing in: %s", w, err)
		}
	}
}
