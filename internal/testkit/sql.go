package testkit

import (
	"context"
	"errors"
	"testing"
	"time"
)

// errNoRow is for queries that must return a value.
var errNoRow = errors.New("the query returned no row")

// Exec runs SQL as the superuser, one statement after the other, over one connection.
func (c *Cluster) Exec(t testing.TB, sql ...string) {
	t.Helper()
	conn, err := c.connect(t.Context())
	if err != nil {
		t.Fatalf("connect to the server in %s: %v", c.DataDir, err)
	}
	defer conn.Close(context.WithoutCancel(t.Context()))
	for _, statement := range sql {
		if _, err := conn.Exec(t.Context(), statement).ReadAll(); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// Query returns the rows of a query as text; NULL is the empty string.
func (c *Cluster) Query(t testing.TB, sql string) [][]string {
	t.Helper()
	rows, err := c.TryQuery(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// QueryValue returns the first column of a query's first row.
func (c *Cluster) QueryValue(t testing.TB, sql string) string {
	t.Helper()
	value, err := c.tryValue(t.Context(), sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

// WaitFor asks until the query's first value is want. Failures, such as to connect to a server that
// is in recovery, count as "not yet".
func (c *Cluster) WaitFor(t testing.TB, sql, want string, limit time.Duration) {
	t.Helper()
	var got string
	var err error
	if !poll(limit, func() bool {
		got, err = c.tryValue(t.Context(), sql)
		return err == nil && got == want
	}) {
		t.Fatalf("not %q within %s, but %q (error: %v): %s", want, limit, got, err, sql)
	}
}

// TryQuery is Query for those who expect failures. Of several statements it returns the rows of the
// last one.
func (c *Cluster) TryQuery(ctx context.Context, sql string) (rows [][]string, err error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return nil, err
	}
	for _, row := range results[len(results)-1].Rows {
		values := make([]string, len(row))
		for i, value := range row {
			values[i] = string(value)
		}
		rows = append(rows, values)
	}
	return rows, nil
}

func (c *Cluster) tryValue(ctx context.Context, sql string) (string, error) {
	rows, err := c.TryQuery(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || len(rows[0]) == 0 {
		return "", errNoRow
	}
	return rows[0][0], nil
}
