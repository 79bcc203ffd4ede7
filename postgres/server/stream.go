package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"walden/postgres/wal"
)

// sendLimit is how long a report of some forty bytes may take to leave this host.
// Longer means that the peer takes nothing any more.
const sendLimit = 10 * time.Second

// Stream is the WAL of one timeline, from one position on. It keeps one message in
// memory, has no goroutine, and reads only as fast as Next is called; the server
// holds back the rest.
type Stream struct {
	r        *Replication
	timeline wal.Timeline
	system   System // the server's position before it began

	// The answer to START_REPLICATION, as far as it came.
	copying bool // between CopyBothResponse and the server's CopyDone
	over    bool // nothing follows
	end     *EndOfTimeline
	failed  error

	mu     sync.Mutex // guards what follows, and writing to the connection
	pos    wal.LSN    // up to where WAL has arrived
	silent bool       // our side of the copy has ended
	report []byte     // buffer of SendStatus
}

// StartPhysical begins to stream the WAL of a timeline from lsn on, which may be
// any byte. The WAL is kept for the slot from what SendStatus reports as flushed
// on; slot may be empty, then the server keeps none. A stream that starts right
// where the timeline ends brings EndOfTimeline and nothing else.
//
// Errors are ErrNoSlot, ErrSlotInUse, ErrNotInHistory, ErrWALRemoved for a slot
// that the server has invalidated, ErrUnavailable. That WAL was removed, or that
// lsn is ahead of the server, is told by Next.
func (r *Replication) StartPhysical(ctx context.Context, slot string, lsn wal.LSN, tli wal.Timeline) (*Stream, error) {
	s := &Stream{r: r, timeline: tli, pos: lsn}
	if err := s.start(ctx, slot); err != nil {
		return nil, s.wrap(err)
	}
	return s, nil
}

func (s *Stream) start(ctx context.Context, slot string) (err error) {
	// Before 15, START_REPLICATION relies on what IDENTIFY_SYSTEM found.
	if s.system, err = s.r.IdentifySystem(ctx); err != nil {
		return err
	}
	from := ""
	if slot != "" {
		if err := checkSlotName(slot); err != nil {
			return err
		}
		from = "SLOT " + quoteName(slot) + " "
	}
	s.r.stream = s
	pg := s.r.conn.pg
	pg.Frontend().SendQuery(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION %sPHYSICAL %s TIMELINE %d", from, s.pos, s.timeline)})
	if err := pg.Frontend().Flush(); err != nil {
		return s.abort(lost(err))
	}
	for !s.copying && !s.over {
		if _, err := s.step(ctx); err != nil {
			return s.abort(err)
		}
	}
	if s.over && s.end == nil {
		return s.startError(ctx, slot)
	}
	return nil
}

// startError tells kinds of refusal apart that share an SQLSTATE.
func (s *Stream) startError(ctx context.Context, slot string) error {
	err := cmp.Or(s.failed, errNoEnd)
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || s.r.stream != nil {
		return err
	}
	switch {
	case pgErr.Code == internalError && s.timeline != s.system.Timeline:
		return withKind(err, internalError, ErrNotInHistory)
	case pgErr.Code == notInPrereqState && slot != "":
		// Since 18, an invalidated slot can't even be used to ask.
		if state, readErr := s.r.ReadSlot(ctx, slot); readErr == nil && state.RestartLSN.IsZero() {
			return withKind(err, notInPrereqState, ErrWALRemoved)
		}
	}
	return err
}

var (
	errNoEnd   = errors.New("the server ended the stream without a reason")
	errWaiting = errors.New("waiting for the server")
)

// Next returns the next message. When ctx ends first, the error satisfies
// errors.Is for the context's error, the stream goes on, and no byte is lost: so a
// deadline on ctx makes time for SendStatus, and tells how long a server has been
// silent. That alone does not make it dead: ask with Status.ReplyRequested.
//
// Any other error ends the stream, and every later call returns it again. It is
// ErrUnavailable (the connection was lost, or the server goes down), ErrWALRemoved,
// ErrAhead; anything else is a server that doesn't keep to the protocol. A hole in
// the WAL is such an error.
func (s *Stream) Next(ctx context.Context) (Message, error) {
	for !s.over {
		m, err := s.step(ctx)
		switch {
		case err == nil && m != nil:
			return m, nil
		case err == nil:
		case errors.Is(err, errWaiting):
			return nil, s.wrap(err)
		default:
			return nil, s.wrap(s.abort(err))
		}
	}
	if s.failed != nil {
		return nil, s.wrap(s.failed)
	}
	if s.end == nil {
		return nil, s.wrap(errNoEnd)
	}
	return *s.end, nil
}

// step takes the next message of the protocol. Most are no Message.
func (s *Stream) step(ctx context.Context) (Message, error) {
	pg := s.r.conn.pg
	msg, err := pg.ReceiveMessage(ctx)
	switch {
	case err == nil:
		return s.take(msg)
	case ctx.Err() != nil && !pg.IsClosed():
		return nil, &failure{kind: ctx.Err(), text: errWaiting.Error() + ": " + ctx.Err().Error(), cause: errWaiting}
	}
	return nil, lost(err)
}

func (s *Stream) take(msg pgproto3.BackendMessage) (Message, error) {
	switch msg := msg.(type) {
	case *pgproto3.ParameterStatus, *pgproto3.NoticeResponse, *pgproto3.RowDescription:
		return nil, nil
	case *pgproto3.CopyBothResponse:
		s.copying = true
		return nil, nil
	case *pgproto3.CopyData:
		return s.takeData(msg.Data)
	case *pgproto3.CopyDone:
		return nil, s.takeCopyDone()
	case *pgproto3.DataRow:
		return nil, s.takeEnd(msg.Values)
	case *pgproto3.CommandComplete:
		if s.copying { // WalSndDone, src/backend/replication/walsender.c
			return nil, &failure{kind: ErrUnavailable, text: "the server is shutting down"}
		}
		return nil, nil
	case *pgproto3.ErrorResponse:
		return nil, s.takeError(pgconn.ErrorResponseToPgError(msg))
	case *pgproto3.ReadyForQuery:
		s.over = true
		s.r.stream = nil
		s.hush()
		return nil, nil
	}
	return nil, fmt.Errorf("the server sent %T where it does not belong", msg)
}

func (s *Stream) takeData(data []byte) (Message, error) {
	m, err := parseMessage(data)
	if !s.copying {
		// Until it has our CopyDone, a server answers reports that ask for it, though
		// it has sent its own: ProcessRepliesIfAny, src/backend/replication/walsender.c.
		if _, ok := m.(Keepalive); ok && s.hushed() {
			return nil, nil
		}
		return nil, errors.New("the server sent WAL after the end of the stream")
	}
	if d, ok := m.(WALData); ok {
		err = s.advance(d)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (s *Stream) advance(d WALData) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Start != s.pos || d.End() < d.Start {
		return fmt.Errorf("the server sent %d bytes of WAL at %s, but %s comes next", len(d.Data), d.Start, s.pos)
	}
	s.pos = d.End()
	return nil
}

// takeCopyDone answers the end of the server's side with the end of ours.
func (s *Stream) takeCopyDone() error {
	if !s.copying {
		return errors.New("the server ended a stream that had not begun")
	}
	s.copying = false
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
	return s.write(time.Time{}, []byte{'c', 0, 0, 0, 4})
}

// takeEnd reads the row that tells how the history goes on.
func (s *Stream) takeEnd(row [][]byte) error {
	if s.copying || s.end != nil || len(row) != 2 {
		return fmt.Errorf("the server sent a row of %d columns where it does not belong", len(row))
	}
	next, err := parseTimelineNumber(row[0])
	if err != nil {
		return err
	}
	at, err := wal.ParseLSN(string(row[1]))
	if err != nil {
		return err
	}
	if next <= s.timeline || at > s.pos {
		return fmt.Errorf("the server left the timeline for %d at %s, but has sent it up to %s only", next, at, s.pos)
	}
	s.end = &EndOfTimeline{Next: next, Switch: at}
	return nil
}

// takeError notes why the server ends the stream. Unless it ends the session as
// well, it will be ready for the next command.
func (s *Stream) takeError(e *pgconn.PgError) error {
	ahead := s.copying && s.timeline == s.system.Timeline && s.pos > s.system.Flushed
	s.copying = false
	s.hush()
	if e.SeverityUnlocalized != "ERROR" {
		return lost(e)
	}
	f := &failure{text: serverLine(e), cause: e}
	switch {
	case e.Code == undefinedFile:
		f.kind = ErrWALRemoved
	case e.Code == undefinedObject:
		f.kind = ErrNoSlot
	case e.Code == objectInUse:
		f.kind = ErrSlotInUse
	case e.Code == internalError && ahead:
		f.kind = ErrAhead
	}
	s.failed = cmp.Or[error](s.failed, f)
	return nil
}

// abort ends a stream, and its session, that can't go on.
func (s *Stream) abort(err error) error {
	s.over, s.failed = true, err
	s.r.stream = nil
	s.hush()
	_ = s.r.conn.pg.Conn().Close() // why it is closed matters more than how that went
	return err
}

// hush makes SendStatus do nothing from now on: no one listens.
func (s *Stream) hush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = true
}

func (s *Stream) hushed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.silent
}

// SendStatus reports progress to the server, all of it each time. It may run while
// another goroutine is in Next. To report more than has arrived is an error, and nothing is sent: a
// server that believed it would let go of WAL that no one has. After the stream has
// ended it does nothing. Any other error is ErrUnavailable, and means that the
// session is lost; it takes ten seconds at most.
func (s *Stream) SendStatus(ctx context.Context, status Status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("report progress of the stream: %w", err)
	}
	if most := max(status.Written, status.Flushed, status.Applied); most > s.pos {
		return fmt.Errorf("report progress of the stream: %s is reported, but only %s has arrived", most, s.pos)
	}
	s.report = appendStatus(s.report[:0], status, time.Now())
	deadline, _ := ctx.Deadline()
	if err := s.write(deadline, s.report); err != nil {
		return fmt.Errorf("report progress of the stream: %w", err)
	}
	return nil
}

// write sends a message to the server, before deadline where that isn't zero. The
// caller holds mu. It goes around pgconn, whose buffer belongs to Next.
func (s *Stream) write(deadline time.Time, message []byte) error {
	conn := s.r.conn.pg.Conn()
	if limit := time.Now().Add(sendLimit); deadline.IsZero() || deadline.After(limit) {
		deadline = limit
	}
	err := conn.SetWriteDeadline(deadline)
	if err == nil {
		_, err = conn.Write(message)
	}
	if err == nil {
		err = conn.SetWriteDeadline(time.Time{}) // the next command has none
	}
	if err != nil {
		return lost(err)
	}
	return nil
}

func (s *Stream) wrap(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Errorf("stream WAL of timeline %d at %s: %w", s.timeline, s.pos, err)
}
