package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"walden/postgres/pgdata"
)

// target is where to connect, and where each part of that was found: what
// people need to see when it is the wrong place.
type target struct {
	config *pgconn.Config
	origin origins
}

// origins names where host, port and user come from. "" until something gives
// them.
type origins struct{ host, port, user string }

// String is "PostgreSQL at host /tmp (PGHOST), port 5432 (postmaster.pid), ...".
func (t target) String() string {
	hosts := []string{t.config.Host}
	ports := []string{strconv.Itoa(int(t.config.Port))}
	for _, f := range t.config.Fallbacks {
		hosts = append(hosts, f.Host)
		ports = append(ports, strconv.Itoa(int(f.Port)))
	}
	return fmt.Sprintf("PostgreSQL at host %s (%s), port %s (%s), user %s (%s), database %s",
		alternatives(hosts), t.origin.host, alternatives(ports), t.origin.port,
		t.config.User, t.origin.user, t.config.Database)
}

func alternatives(list []string) string {
	var distinct []string
	for _, s := range list {
		if !slices.Contains(distinct, s) {
			distinct = append(distinct, s)
		}
	}
	return strings.Join(distinct, " or ")
}

// addLocal gives the settings that PGData tells and that o has no origin for,
// and o with their origins.
func addLocal(dataDir string, o origins) ([]param, origins, error) {
	var params []param
	if o.host == "" || o.port == "" {
		pid, err := pgdata.ReadPostmasterPID(dataDir)
		switch {
		case err == nil:
			params, o = addPostmaster(pid, o)
		case o.host == "" && o.port == "":
			return nil, o, noPostmaster(dataDir, err)
		}
	}
	if name := owner(dataDir); name != "" && o.user == "" {
		params = append(params, param{"user", name})
		o.user = "owner of " + dataDir
	}
	return params, o, nil
}

func addPostmaster(pid pgdata.PostmasterPID, o origins) (params []param, _ origins) {
	const origin = "postmaster.pid"
	if hosts := postmasterHosts(pid); o.host == "" && len(hosts) > 0 {
		params = append(params, param{"host", strings.Join(hosts, ",")})
		o.host = origin
	}
	if o.port == "" {
		params = append(params, param{"port", strconv.Itoa(pid.Port)})
		o.port = origin
	}
	return params, o
}

// postmasterHosts lists where a server can be reached, best first.
func postmasterHosts(pid pgdata.PostmasterPID) (hosts []string) {
	// A comma would end the host in a list; @ begins an abstract socket, which
	// pgconn can't dial.
	if dir := pid.SocketDir; dir != "" && !strings.HasPrefix(dir, "@") && !strings.Contains(dir, ",") {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(pid.DataDir, dir)
		}
		hosts = append(hosts, dir)
	}
	switch pid.ListenAddr {
	case "":
	case "*", "0.0.0.0":
		hosts = append(hosts, "127.0.0.1")
	case "::":
		hosts = append(hosts, "::1")
	default:
		hosts = append(hosts, pid.ListenAddr)
	}
	return hosts
}

func noPostmaster(dataDir string, err error) error {
	f := &failure{kind: ErrUnavailable, cause: err}
	switch {
	case errors.Is(err, pgdata.ErrNotRunning):
		f.text = fmt.Sprintf("find the server of %s: it is not running (no postmaster.pid): "+
			"start the server, or give --dsn / PGHOST / PGPORT", dataDir)
	case errors.Is(err, fs.ErrPermission):
		f.kind = ErrDenied
		f.text = fmt.Sprintf("find the server of %s: %v: run as the owner of that directory, or give --dsn / PGHOST / PGPORT", dataDir, err)
	default:
		f.text = fmt.Sprintf("find the server of %s: %v: give --dsn / PGHOST / PGPORT", dataDir, err)
	}
	return f
}

// owner is the name of the user who owns a directory, "" if that can't be
// told.
func owner(dir string) string {
	info, err := os.Stat(dir)
	if err != nil {
		return ""
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10))
	if err != nil {
		return ""
	}
	return u.Username
}
