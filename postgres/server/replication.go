package server

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"walden/postgres/wal"
)

// maxReplicationMessage bounds what one message may take of our memory. WAL comes
// in pieces of 16 WAL blocks at most (MAX_SEND_SIZE, src/backend/replication/walsender.c),
// which is 128 kB, or 1 MB with the largest blocks that PostgreSQL can be built with; a
// history file grows by a line with each timeline.
const maxReplicationMessage = 16 << 20

// Replication is a session in replication mode, for physical replication: it
// speaks to a walsender, which knows the commands below and no SQL. It is not
// safe for concurrent use, but see Stream.SendStatus.
//
// Every method that takes a context returns at once when the context ends, with
// an error that satisfies errors.Is for the context's error. The session is lost
// then, except where a method says otherwise.
type Replication struct {
	conn   *Conn
	cfg    Config  // for an ordinary session beside this one
	stream *Stream // the one that has not ended; nil when commands may be given
}

// ConnectReplication opens a session in replication mode. It finds the server by
// the same rules as Connect; where several hosts are given it takes the first
// that lets it in, and target_session_attrs is refused. The role needs
// the attribute REPLICATION, and pg_hba.conf a line for the database
// "replication". AppName is the name that synchronous_standby_names refers to.
// Its errors are those of Connect.
func ConnectReplication(ctx context.Context, cfg Config) (*Replication, error) {
	t, err := resolve(cfg)
	if err != nil {
		return nil, err
	}
	if t.config.ValidateConnect != nil {
		// pgconn would ask in SQL.
		return nil, &failure{kind: ErrConfig, text: "use the connection settings: target_session_attrs is not supported for replication: leave it out"}
	}
	t.config.RuntimeParams["replication"] = "true"
	t.config.MaxProtocolMessageBodyLen = maxReplicationMessage
	t.config.BuildContextWatcherHandler = func(pg *pgconn.PgConn) ctxwatch.Handler { return readWatcher{pg} }
	pg, err := pgconn.ConnectConfig(ctx, t.config)
	if err != nil {
		return nil, t.replicationError(ctx, err)
	}
	return &Replication{conn: &Conn{pg: pg, target: t}, cfg: cfg}, nil
}

// readWatcher ends a read when its context ends, and touches nothing else: a
// cancel request would end the stream, and a write that is cut short would garble
// the connection. What has arrived of a message is kept for the next read.
type readWatcher struct{ pg *pgconn.PgConn }

func (w readWatcher) HandleCancel(context.Context) {
	_ = w.pg.Conn().SetReadDeadline(time.Unix(1, 0)) // fails on a closed connection only
}

func (w readWatcher) HandleUnwatchAfterCancel() {
	_ = w.pg.Conn().SetReadDeadline(time.Time{})
}

// Close ends the session, and with it a stream: the server sets its slot free. It
// takes a second or two at most. It may be called twice, but not while another
// call runs.
func (r *Replication) Close(ctx context.Context) error {
	_ = r.conn.pg.Conn().SetWriteDeadline(time.Now().Add(closeGrace)) // fails on a closed connection only
	return r.conn.Close(ctx)
}

// System is what IDENTIFY_SYSTEM answers.
type System struct {
	SystemID uint64
	// Timeline is the one that the server writes or, on a standby, receives and
	// replays.
	Timeline wal.Timeline
	// Flushed is up to where WAL is safe on the server's disk, and can be streamed.
	Flushed wal.LSN
}

// IdentifySystem asks the server for its cluster and its position.
func (r *Replication) IdentifySystem(ctx context.Context) (System, error) {
	row, err := r.command(ctx, 4, "IDENTIFY_SYSTEM")
	if err != nil {
		return System{}, fmt.Errorf("identify the system: %w", err)
	}
	sys, err := parseSystem(row)
	if err != nil {
		return System{}, fmt.Errorf("identify the system: %w", err)
	}
	return sys, nil
}

func parseSystem(row [][]byte) (sys System, err error) {
	if sys.SystemID, err = strconv.ParseUint(string(row[0]), 10, 64); err != nil {
		return System{}, fmt.Errorf("read the system identifier: %w", err)
	}
	if sys.Timeline, err = parseTimelineNumber(row[1]); err != nil {
		return System{}, err
	}
	if sys.Flushed, err = wal.ParseLSN(string(row[2])); err != nil {
		return System{}, err
	}
	return sys, nil
}

// parseTimelineNumber reads a timeline as walsenders send it, in decimal.
func parseTimelineNumber(v []byte) (wal.Timeline, error) {
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read a timeline: %w", err)
	}
	if n < 1 || n > math.MaxUint32 {
		return 0, fmt.Errorf("timeline %d is impossible", n)
	}
	return wal.Timeline(n), nil
}

// SegmentSize is the cluster's wal_segment_size.
func (r *Replication) SegmentSize(ctx context.Context) (wal.SegmentSize, error) {
	text, err := r.Setting(ctx, "wal_segment_size")
	if err != nil {
		return 0, err
	}
	return wal.ParseSegmentSize(text)
}

// Setting returns a server setting as SHOW prints it, such as "1min" for
// wal_sender_timeout. One that the server doesn't know is an error.
func (r *Replication) Setting(ctx context.Context, name string) (string, error) {
	if strings.Contains(name, `"`) {
		return "", fmt.Errorf("read setting %s: no setting has such a name", asLine(name))
	}
	row, err := r.command(ctx, 1, "SHOW "+quoteName(name))
	if err != nil {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return string(row[0]), nil
}

// HistoryFile is a timeline history file, byte for byte as the server has it.
type HistoryFile struct {
	Name    string // such as 00000002.history
	Content []byte
}

// TimelineHistory reads the history file of a timeline. That the server has none,
// as for timeline 1, is ErrNoHistory.
func (r *Replication) TimelineHistory(ctx context.Context, tli wal.Timeline) (HistoryFile, error) {
	row, err := r.command(ctx, 2, fmt.Sprintf("TIMELINE_HISTORY %d", tli))
	if err != nil {
		return HistoryFile{}, fmt.Errorf("read the history of timeline %d: %w", tli, withKind(err, undefinedFile, ErrNoHistory))
	}
	file := HistoryFile{Name: string(row[0]), Content: row[1]}
	if file.Name != tli.String()+".history" {
		return HistoryFile{}, fmt.Errorf("read the history of timeline %d: the server sent a file named %q", tli, asLine(file.Name))
	}
	return file, nil
}

// command gives a replication command that is answered by one row of n columns.
func (r *Replication) command(ctx context.Context, n int, text string) ([][]byte, error) {
	if r.stream != nil {
		return nil, errors.New("the session is streaming")
	}
	results, err := r.conn.pg.Exec(ctx, text).ReadAll()
	if err != nil {
		return nil, r.conn.statementError(ctx, err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) != n {
		return nil, fmt.Errorf("the server did not answer with one row of %d columns", n)
	}
	return results[0].Rows[0], nil
}
