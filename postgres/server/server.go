// Package server talks to a running PostgreSQL (13 to 18) over the libpq
// protocol: it finds the server of a data directory, proves that it is that
// server, begins and ends base backups, and streams WAL.
//
// It reads no environment and prints nothing. Of the libpq world it honours
// connection strings and URLs, the PG* variables, service files and password
// files; see [Config] for their order.
package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// connectTimeout bounds each address tried when the settings say nothing
	// about it. pgconn would wait as long as TCP does, which is minutes.
	connectTimeout = 15 * time.Second
	// cancelGrace is how long a cancelled statement may take to end on the
	// server before the connection is cut under it.
	cancelGrace = time.Second
	// closeGrace is how long Close waits for the end of a connection that
	// broke off in the middle of a statement.
	closeGrace = time.Second
)

// Conn is one session with a server. It is not safe for concurrent use.
//
// Every method that takes a context returns at once when the context ends:
// the server gets a cancel request for the running statement, and if that has
// not helped after a second the connection is cut. The error then satisfies
// errors.Is for the context's error.
type Conn struct {
	pg       *pgconn.PgConn
	target   target
	warnings []string
}

// Connect opens a session, with everything off that could end it in the
// middle of a long backup. Its errors are one line that names host, port and
// user, says why and what to do, and never holds a password. They are
// ErrConfig, ErrUnavailable or ErrDenied; or the context's error.
func Connect(ctx context.Context, cfg Config) (*Conn, error) {
	t, err := resolve(cfg)
	if err != nil {
		return nil, err
	}
	c := &Conn{target: t}
	t.config.OnNotice = c.notice
	if c.pg, err = pgconn.ConnectConfig(ctx, t.config); err != nil {
		return nil, t.connectError(ctx, err)
	}
	if err := c.setUp(ctx); err != nil {
		_ = c.Close(ctx) // why it is closed matters more than how that went
		return nil, fmt.Errorf("set up the session with %s: %w", t, err)
	}
	return c, nil
}

// setUpSQL sets what the server knows of these settings. client_encoding is
// SQL_ASCII because it turns conversion off: paths are bytes, and a path in
// backup_label's or tablespace_map's text must come back as those bytes
// whatever the database's encoding. synchronous_commit is local because a
// standby that is away must not hold up a backup.
const setUpSQL = `SELECT pg_catalog.set_config(name, value, false)
FROM (VALUES
	('client_encoding', 'SQL_ASCII'), ('search_path', 'pg_catalog'),
	('client_min_messages', 'warning'), ('synchronous_commit', 'local'),
	('statement_timeout', '0'), ('lock_timeout', '0'), ('transaction_timeout', '0'),
	('idle_in_transaction_session_timeout', '0'), ('idle_session_timeout', '0')
) AS wanted(name, value)
WHERE name IN (SELECT name FROM pg_catalog.pg_settings)`

func (c *Conn) setUp(ctx context.Context) error {
	_, err := c.rows(ctx, setUpSQL)
	return err
}

// Close ends the session; the server gives up a backup that it had begun. It
// takes a second at most, and a context that has ended doesn't keep it from
// saying goodbye. It may be called twice.
func (c *Conn) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeGrace)
	defer cancel()
	err := c.pg.Close(ctx)
	select {
	case <-c.pg.CleanupDone():
	case <-ctx.Done():
		// It broke off in a statement, and the server doesn't react to that.
		err = errors.Join(err, c.pg.Conn().Close())
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the connection to %s: %w", c.target, err)
	}
	return nil
}

// Ping asks the server for a sign of life. Unless the context ended, an error
// means that the session is lost, and with it a backup that it had begun.
func (c *Conn) Ping(ctx context.Context) error {
	_, err := c.rows(ctx, "SELECT")
	return err
}

// Query runs one statement with text parameters and returns its rows as text.
// NULL reads as the empty string.
func (c *Conn) Query(ctx context.Context, sql string, args ...string) ([][]string, error) {
	rows, err := c.rows(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	out := make([][]string, len(rows))
	for i, row := range rows {
		out[i] = make([]string, len(row))
		for j, v := range row {
			out[i][j] = string(v)
		}
	}
	return out, nil
}

// Setting returns a server setting as SHOW prints it, "" when this major does
// not know it. A setting that the role may not see is ErrDenied.
func (c *Conn) Setting(ctx context.Context, name string) (string, error) {
	row, err := c.row(ctx, 1, "SELECT current_setting($1, true)", name)
	if err != nil {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return string(row[0]), nil
}

// rows runs one statement; a nil value is NULL.
func (c *Conn) rows(ctx context.Context, sql string, args ...string) ([][][]byte, error) {
	params := make([][]byte, len(args))
	for i, a := range args {
		params[i] = []byte(a)
	}
	res := c.pg.ExecParams(ctx, sql, params, nil, nil, nil).Read()
	if res.Err != nil {
		return nil, c.statementError(ctx, res.Err)
	}
	return res.Rows, nil
}

// row runs a statement that returns one row of n columns.
func (c *Conn) row(ctx context.Context, n int, sql string, args ...string) ([][]byte, error) {
	rows, err := c.rows(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 || len(rows[0]) != n {
		return nil, fmt.Errorf("server answered %d rows where one of %d columns was expected", len(rows), n)
	}
	return rows[0], nil
}

func (c *Conn) notice(_ *pgconn.PgConn, n *pgconn.Notice) {
	// NOTICE and below are talk for people at psql, such as that archiving is
	// off. WARNING is kept for whoever runs the backup.
	if n.SeverityUnlocalized == "WARNING" {
		c.warnings = append(c.warnings, serverLine((*pgconn.PgError)(n)))
	}
}

// takeWarnings returns the warnings since it was last called.
func (c *Conn) takeWarnings() []string {
	w := c.warnings
	c.warnings = nil
	return w
}

// micros is the SQL for a timestamp as whole microseconds of the Unix epoch:
// exact, and independent of DateStyle and TimeZone. NULL stays NULL.
func micros(sql string) string {
	return "round(extract(epoch FROM " + sql + ") * 1000000)::bigint"
}

// parseMicros reads what micros selects. NULL is the zero time.
func parseMicros(v []byte) (time.Time, error) {
	if v == nil {
		return time.Time{}, nil
	}
	us, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read a time from the server: %w", err)
	}
	return time.UnixMicro(us).UTC(), nil
}
