package server

import (
	"cmp"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// Config says which server to connect to. Each of host, port, user and
// database is taken from the first of these that gives it:
//
//  1. DSN
//  2. the environment: PGHOST, PGPORT, PGUSER, PGDATABASE
//  3. PGData: the port, the first socket directory and, where nothing answers
//     on that socket, the listen address in its postmaster.pid; its owner as
//     the user
//  4. libpq's defaults, but the database "postgres"
//
// Where a service is named (service= in DSN, or PGSERVICE), it is taken as a
// whole, as psql does it: it beats the environment, and step 3 is left out.
type Config struct {
	// DSN is a libpq connection string (host=/tmp port=5433) or URL
	// (postgresql://user@host:port/dbname), or empty.
	DSN string
	// PGData is the data directory whose server is meant; empty when the
	// server is not on this host, as for a standby's primary.
	PGData string
	// Env looks up a variable of the environment, as os.Getenv does. pgconn
	// reads the PG* variables by itself; Env is only asked which of them are
	// set, so that they beat postmaster.pid. nil means that none is.
	Env func(name string) string
	// AppName is what pg_stat_activity shows unless DSN or PGAPPNAME give a
	// name. Empty means "walden".
	AppName string
}

const (
	defaultDatabase = "postgres"
	defaultAppName  = "walden"
)

// resolve settles every setting of the connection, without connecting.
func resolve(cfg Config) (target, error) {
	base, err := pgconn.ParseConfig(cfg.DSN)
	if err != nil {
		return target{}, parseError(cfg.DSN, err)
	}
	o := cfg.origins(base)
	var local []param
	if cfg.PGData != "" {
		if local, o, err = addLocal(cfg.PGData, o); err != nil {
			return target{}, err
		}
	}
	final, err := pgconn.ParseConfig(withDefaults(cfg.DSN, local))
	if err != nil {
		return target{}, parseError(cfg.DSN, err)
	}
	if err := dropClientOnly(final.RuntimeParams); err != nil {
		return target{}, err
	}
	final.Database = cmp.Or(final.Database, defaultDatabase)
	final.ConnectTimeout = cmp.Or(final.ConnectTimeout, connectTimeout)
	app := cmp.Or(final.RuntimeParams["application_name"], cfg.AppName, defaultAppName)
	final.RuntimeParams["application_name"] = app
	final.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: pg, DeadlineDelay: cancelGrace}
	}
	o = origins{host: cmp.Or(o.host, "default"), port: cmp.Or(o.port, "default"), user: cmp.Or(o.user, "default")}
	return target{config: final, origin: o}, nil
}

// origins tells which settings DSN, a service or the environment give.
func (cfg Config) origins(base *pgconn.Config) origins {
	env := cfg.Env
	if env == nil {
		env = func(string) string { return "" }
	}
	service := env("PGSERVICE") != "" || dsnGives(cfg.DSN, base, "service")
	find := func(key, variable string) string {
		switch {
		case dsnGives(cfg.DSN, base, key):
			return "DSN"
		case service:
			// What the service leaves out is psql's default then, too.
			return "service"
		case env(variable) != "":
			return variable
		}
		return ""
	}
	return origins{host: find("host", "PGHOST"), port: find("port", "PGPORT"), user: find("user", "PGUSER")}
}
