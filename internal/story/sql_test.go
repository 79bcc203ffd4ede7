package story

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"walden/internal/testkit"
)

// ask runs SQL in one of the cluster's databases and returns the rows of the last statement as text.
func ask(t testing.TB, c *testkit.Cluster, database, sql string) [][]string {
	t.Helper()
	rows, err := tryAsk(t.Context(), c, database, sql)
	if err != nil {
		t.Fatalf("database %s: %s: %v", database, sql, err)
	}
	return rows
}

func tryAsk(ctx context.Context, c *testkit.Cluster, database, sql string) (rows [][]string, err error) {
	conn, err := pgconn.Connect(ctx, c.DSN()+" sslmode=disable dbname="+database)
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

// run runs statements in one of the cluster's databases, each in a transaction of its own.
func run(t testing.TB, c *testkit.Cluster, database string, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		ask(t, c, database, sql)
	}
}
