package server

import (
	"errors"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// isolate hides the developer's own libpq settings, and sets the given ones.
func isolate(t *testing.T, env map[string]string) {
	t.Helper()
	for _, name := range []string{
		"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "PGSERVICE", "PGSERVICEFILE",
		"PGOPTIONS", "PGSSLMODE", "PGAPPNAME", "PGPASSFILE", "PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT",
	} {
		t.Setenv(name, env[name])
	}
	t.Setenv("HOME", t.TempDir())
}

// dataDir makes a directory with a postmaster.pid of these addresses.
func dataDir(t *testing.T, socketDir, listen string) string {
	t.Helper()
	dir := t.TempDir()
	content := "4711\n" + dir + "\n1795253572\n5499\n" + socketDir + "\n" + listen + "\n 10016953     32780\nready   \n"
	if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestResolveOrder(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	services := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(services, []byte("[s]\nhost=/service\nport=9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		dsn          string
		env          map[string]string
		socket, addr string
		want         string // after "PostgreSQL at "
	}{
		"postmaster.pid": {socket: "/sock", addr: "*",
			want: "host /sock or 127.0.0.1 (postmaster.pid), port 5499 (postmaster.pid), user ME (owner of DIR), database postgres"},
		"no socket": {addr: "0.0.0.0",
			want: "host 127.0.0.1 (postmaster.pid), port 5499 (postmaster.pid), user ME (owner of DIR), database postgres"},
		"IPv6": {addr: "::",
			want: "host ::1 (postmaster.pid), port 5499 (postmaster.pid), user ME (owner of DIR), database postgres"},
		"relative socket directory": {socket: ".",
			want: "host DIR (postmaster.pid), port 5499 (postmaster.pid), user ME (owner of DIR), database postgres"},
		"abstract socket": {socket: "@pg", addr: "localhost",
			want: "host localhost (postmaster.pid), port 5499 (postmaster.pid), user ME (owner of DIR), database postgres"},
		"environment": {env: map[string]string{"PGPORT": "5433", "PGUSER": "eve", "PGDATABASE": "d"}, socket: "/sock",
			want: "host /sock (postmaster.pid), port 5433 (PGPORT), user eve (PGUSER), database d"},
		"DSN": {dsn: "port=5434 host='/my socket'", env: map[string]string{"PGPORT": "5433", "PGHOST": "/env"}, socket: "/sock",
			want: "host /my socket (DSN), port 5434 (DSN), user ME (owner of DIR), database postgres"},
		"URL": {dsn: "postgres://eve:p?w@/d%20b", env: map[string]string{"PGPORT": "5433"}, socket: "/so ck",
			want: "host /so ck (postmaster.pid), port 5433 (PGPORT), user eve (DSN), database d b"},
		"URL with a query": {dsn: "postgresql://[::1]/?sslmode=disable", socket: "/sock",
			want: "host ::1 (DSN), port 5499 (postmaster.pid), user ME (owner of DIR), database postgres"},
		"several hosts": {dsn: "host=a,b port=1,2 user=u sslmode=disable",
			want: "host a or b (DSN), port 1 or 2 (DSN), user u (DSN), database postgres"},
		"service": {dsn: "service=s servicefile='" + services + "'", env: map[string]string{"PGHOST": "/env", "PGUSER": "eve"}, socket: "/sock",
			want: "host /service (service), port 9 (service), user eve (service), database postgres"},
		"DSN beats service": {dsn: "host=/dsn", env: map[string]string{"PGSERVICE": "s", "PGSERVICEFILE": services, "PGUSER": "eve"}, socket: "/sock",
			want: "host /dsn (DSN), port 9 (service), user eve (service), database postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t, tt.env)
			dir := dataDir(t, tt.socket, tt.addr)
			target, err := resolve(Config{DSN: tt.dsn, PGData: dir, Env: os.Getenv})
			if err != nil {
				t.Fatal(err)
			}
			want := "PostgreSQL at " + strings.NewReplacer("ME", me.Username, "DIR", dir).Replace(tt.want)
			if target.String() != want {
				t.Errorf("got  %s\nwant %s", target, want)
			}
		})
	}
}

func TestResolveWithoutPostmaster(t *testing.T) {
	isolate(t, nil)
	dir := t.TempDir()
	if _, err := resolve(Config{PGData: dir}); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), dir) {
		t.Errorf("without postmaster.pid: %v", err)
	}
	if _, err := resolve(Config{PGData: dir, DSN: "port=5433"}); err != nil {
		t.Errorf("a port alone leads to libpq's default host: %v", err)
	}
	target, err := resolve(Config{DSN: "application_name=mine connect_timeout=3"})
	if err != nil || target.config.ConnectTimeout.Seconds() != 3 || target.config.RuntimeParams["application_name"] != "mine" {
		t.Errorf("got %s (error: %v)", target, err)
	}
}

// Each keyword is found where it is given, and no other one is taken for it.
func TestDSNGives(t *testing.T) {
	isolate(t, map[string]string{"PGPORT": "5433"})
	services := filepath.Join(t.TempDir(), "services")
	if err := os.WriteFile(services, []byte("[s]\nhost=/service\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{
		"host": "/h", "port": "1", "user": "u", "database": "d", "password": "host=x", "passfile": "/p", "connect_timeout": "1",
		"sslmode": "disable", "sslcertmode": "allow", "sslnegotiation": "postgres", "sslsni": "1", "krbspn": "k", "krbsrvname": "k",
		"target_session_attrs": "any", "service": "s", "servicefile": services, "min_protocol_version": "3.0",
		"max_protocol_version": "3.0", "channel_binding": "prefer", "require_auth": "none", "application_name": "port=1",
	}
	for skip := range all {
		query, words := url.Values{}, ""
		for k, v := range all {
			if k != skip && (k != "service" || skip != "servicefile") {
				query.Set(k, v)
				words += " " + k + "='" + v + "'"
			}
		}
		for _, dsn := range []string{words, "postgresql:///?" + strings.ReplaceAll(query.Encode(), "+", "%20")} {
			parsed, err := pgconn.ParseConfig(dsn)
			if err != nil {
				t.Fatalf("%s: %v", dsn, err)
			}
			for _, key := range []string{"host", "port", "user", "service"} {
				want := key != skip && (key != "service" || skip != "servicefile")
				if got := dsnGives(dsn, parsed, key); got != want {
					t.Errorf("dsnGives %s is %t in %s", key, got, dsn)
				}
			}
		}
	}
}

func TestUnusableDSN(t *testing.T) {
	for name, tt := range map[string]struct{ dsn, want string }{
		"no keyword":              {"s3cr3t", "keyword=value"},
		"space in password":       {"host=/tmp password=pass s3cr3t user=x", "keyword=value"},
		"open quote":              {"password='s3cr3t", "keyword=value"},
		"URL without slashes":     {"postgres:eve:s3cr3t@host", "keyword=value"},
		"URL with a bad escape":   {"postgres://eve:s3cr3t%zz@host", "keyword=value"},
		"URL with a bad port":     {"postgres://eve:x/s3cr3t@host:5432/", "port"},
		"password as port":        {"postgres://a@u:s3:cr3t@h", "port"},
		"port":                    {"port=70000 password=s3cr3t", "port"},
		"sslmode":                 {"host=h sslmode=maybe password=s3cr3t", "sslmode is invalid"},
		"timeout":                 {"connect_timeout=soon password=s3cr3t", "soon"},
		"session attributes":      {"target_session_attrs=none password=s3cr3t", "target_session_attrs"},
		"service":                 {"service=nope servicefile=/nowhere password=s3cr3t", "/nowhere"},
		"address":                 {"hostaddr=10.0.0.1 password=s3cr3t", "hostaddr is not supported"},
		"peer":                    {"requirepeer=postgres password=s3cr3t", "requirepeer is not supported"},
		"encryption by Kerberos":  {"gssencmode=require password=s3cr3t", "gssencmode is not supported"},
		"newer TLS than we force": {"ssl_min_protocol_version=TLSv1.3", "ssl_min_protocol_version is not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t, nil)
			_, err := resolve(Config{DSN: tt.dsn})
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("%q: %v", tt.dsn, err)
			}
			if s := err.Error(); strings.Contains(s, "cr3t") || strings.Contains(s, "\n") || !strings.Contains(s, tt.want) {
				t.Errorf("the message should name %q and no password: %s", tt.want, s)
			}
		})
	}
	t.Run("environment", func(t *testing.T) {
		isolate(t, map[string]string{"PGPORT": "many"})
		if _, err := resolve(Config{}); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "environment") {
			t.Errorf("PGPORT=many: %v", err)
		}
	})
}

// FuzzUnusableDSN checks that a password shows in no message, however broken
// the connection string around it is.
func FuzzUnusableDSN(f *testing.F) {
	f.Add("host=h connect_timeout='1 ", "")
	f.Add("postgres://u@h:x/d?", "&sslmode=maybe")
	f.Add("postgres://h/d?connect_timeout=", "")
	f.Add("service='", "'")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "S3cr3tS3cr3t"
		dsn := before + "password=" + secret + after
		if _, err := resolve(Config{DSN: dsn}); err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("%q: %v", dsn, err)
		}
	})
}

// FuzzWithDefaults checks that adding a setting to a connection string changes
// that one only.
func FuzzWithDefaults(f *testing.F) {
	for _, dsn := range []string{
		"", "port=5433", "host='a b' user=u", `password=a\'b`, "application_name=", "postgresql://", "postgres://u:p?w@/db",
		"postgresql://u@h1:1,h2:2/db?sslmode=disable", "postgres:///?user=%20", "x=", "postgres://[::1]:5/d?a=b",
	} {
		f.Add(dsn, "/tmp/so'ck\\et &?%")
	}
	f.Fuzz(func(t *testing.T, dsn, value string) {
		before, err := pgconn.ParseConfig(dsn)
		if err != nil {
			return
		}
		if strings.ContainsRune(value, 0) || value == "" || dsnGives(dsn, before, "user") || dsnGives(dsn, before, "service") {
			return
		}
		after, err := pgconn.ParseConfig(withDefaults(dsn, []param{{"user", value}}))
		if err != nil {
			t.Fatalf("%q with user %q: %v", dsn, value, err)
		}
		if after.User != value {
			t.Errorf("%q with user %q has user %q", dsn, value, after.User)
		}
		if after.Host != before.Host || after.Port != before.Port || after.Database != before.Database ||
			len(after.RuntimeParams) != len(before.RuntimeParams) {
			t.Errorf("%q changed by user %q", dsn, value)
		}
	})
}

func TestMajorFromVersion(t *testing.T) {
	for version, want := range map[string]int{
		"15.18 (Debian 15.18-0+deb12u1)": 15, "13.23": 13, "18beta1": 18, "18rc1 (x)": 18, "19devel": 19, "": 0, "x": 0,
	} {
		if got := majorOf(version); got != want {
			t.Errorf("%q is major %s, want %d", version, strconv.Itoa(got), want)
		}
	}
}
