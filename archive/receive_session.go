package archive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walden/postgres/server"
	"walden/postgres/wal"
	"walden/walspool"
)

// receive has one session after the other until ctx ends, or an error ends it all.
func (r *receiver) receive(ctx context.Context, conn *server.Replication) error {
	for delay := (backoff{longest: serverBackoff}); ; {
		if err := r.out.drop(ctx, r.limit); err != nil {
			return errors.Join(err, closeSession(conn))
		}
		began := time.Now()
		err := r.connectAndReceive(ctx, conn)
		conn = nil
		if ctx.Err() != nil && !errors.Is(err, errSpool) {
			return ctx.Err()
		}
		if r.ends(err) {
			return err
		}
		r.away.failed(err)
		r.wantTail() // what is here may be all that is left
		if time.Since(began) > steady {
			delay.reset()
		}
		if err := pause(ctx, delay.next()); err != nil {
			return err
		}
	}
}

// connectAndReceive is one session, by conn where there is one.
func (r *receiver) connectAndReceive(ctx context.Context, conn *server.Replication) (err error) {
	if conn == nil {
		if conn, _, err = r.connect(ctx); err != nil {
			return err
		}
	}
	return r.session(ctx, conn)
}

// wantTail asks for a tail as soon as possible.
func (r *receiver) wantTail() {
	select {
	case r.nudge <- struct{}{}:
	default:
	}
}

// session receives from one connection, timeline after timeline. It returns when
// the connection fails or ctx ends, with all that came durable.
func (r *receiver) session(ctx context.Context, conn *server.Replication) (err error) {
	defer func() { err = errors.Join(err, hangUp(conn)) }()
	slot, err := r.slot(ctx, conn)
	if err != nil {
		return err
	}
	fresh := r.in.Durable().IsZero()
	at, err := r.position(ctx, conn, slot)
	if err != nil {
		return err
	}
	if first := wal.SegmentAt(at.Timeline, at.LSN, r.SegmentSize); fresh {
		r.first.Store(&first)
	}
	for {
		next, err := r.timeline(ctx, conn, wal.SegmentAt(at.Timeline, at.LSN, r.SegmentSize))
		if errors.Is(err, server.ErrWALRemoved) {
			return r.missing(err, slot)
		}
		if err != nil {
			return err
		}
		at = next
	}
}

// slot reads the slot, which it makes if that is wanted.
func (r *receiver) slot(ctx context.Context, conn *server.Replication) (server.Slot, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpLimit)
	defer cancel()
	slot, err := conn.ReadSlot(ctx, r.Slot)
	if !errors.Is(err, server.ErrNoSlot) || !r.CreateSlot {
		return slot, err
	}
	if err := conn.CreateSlot(ctx, r.Slot); err != nil {
		return server.Slot{}, err
	}
	r.Report.Info(fmt.Sprintf("made replication slot %s", r.Slot))
	return conn.ReadSlot(ctx, r.Slot)
}

// position is where receiving goes on: where the spool ends; else what the slot
// keeps; else the end of the server's WAL.
func (r *receiver) position(ctx context.Context, conn *server.Replication, slot server.Slot) (walspool.Position, error) {
	if p := r.in.Durable(); !p.IsZero() {
		return p, nil
	}
	if !slot.RestartLSN.IsZero() {
		return walspool.Position{Timeline: slot.Timeline, LSN: slot.RestartLSN}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, setUpLimit)
	defer cancel()
	sys, err := conn.IdentifySystem(ctx)
	return walspool.Position{Timeline: sys.Timeline, LSN: sys.Flushed}, err
}

// timeline receives one timeline from the start of a segment on, and returns where
// the next one begins.
func (r *receiver) timeline(ctx context.Context, conn *server.Replication, s wal.Segment) (next walspool.Position, err error) {
	if err := r.history(ctx, conn, s.Timeline); err != nil {
		return next, err
	}
	if err := inSpool(r.in.Begin(s)); err != nil {
		return next, err
	}
	start := s.Start(r.SegmentSize)
	stream, err := startStream(ctx, conn, r.Slot, walspool.Position{Timeline: s.Timeline, LSN: start})
	if errors.Is(err, server.ErrNotInHistory) {
		next, err = r.rejoin(ctx, conn, s, err)
	} else if err == nil {
		r.tell(s.Timeline, start)
		next, err = r.follow(ctx, stream)
	}
	if err != nil {
		return next, err
	}
	tail, err := r.in.Leave(next)
	if err != nil {
		return next, inSpool(err)
	}
	if tail != "" {
		r.out.put(tail)
	}
	r.Report.Info(fmt.Sprintf("the server left timeline %d, receiving goes on with timeline %d", s.Timeline, next.Timeline))
	return next, nil
}

// tell says once what is received, and where it goes.
func (r *receiver) tell(t wal.Timeline, start wal.LSN) {
	say := r.Report.Debug
	if !r.met {
		say = r.Report.Info
	}
	say(fmt.Sprintf("receiving WAL of cluster %d, timeline %d from %s on, by slot %s, through %s", r.SystemID, t, start, r.Slot, r.in.Dir()))
}

func startStream(ctx context.Context, conn *server.Replication, slot string, at walspool.Position) (*server.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpLimit)
	defer cancel()
	return conn.StartPhysical(ctx, slot, at.LSN, at.Timeline)
}

// history stores the history file of a timeline, once.
func (r *receiver) history(ctx context.Context, conn *server.Replication, t wal.Timeline) error {
	if t == 1 || r.known[t] {
		return nil
	}
	file, err := fetchHistory(ctx, conn, t)
	if err != nil {
		return err
	}
	if err := r.in.Add(file.Name, file.Content); err != nil {
		return inSpool(err)
	}
	r.known[t] = true
	r.out.put(file.Name)
	return nil
}

func fetchHistory(ctx context.Context, conn *server.Replication, t wal.Timeline) (server.HistoryFile, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpLimit)
	defer cancel()
	return conn.TimelineHistory(ctx, t)
}

// rejoin finds where the server's history goes on after a segment that it does not
// have: it left the timeline before that, and what was received since is of no
// server any more.
func (r *receiver) rejoin(ctx context.Context, conn *server.Replication, s wal.Segment, refused error) (next walspool.Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, setUpLimit)
	defer cancel()
	sys, err := conn.IdentifySystem(ctx)
	if err != nil {
		return next, err
	}
	if sys.Timeline <= s.Timeline { // an old primary, or a standby that has yet to follow
		return next, refused
	}
	file, err := conn.TimelineHistory(ctx, sys.Timeline)
	if err != nil {
		return next, err
	}
	h, err := wal.ParseHistory(sys.Timeline, file.Content)
	if err != nil {
		return next, err
	}
	left, ok := h.SwitchPoint(s.Timeline)
	if !ok {
		return next, fmt.Errorf("%w: timeline %d was received up to %s, and the server's timeline %d does not come from it; "+
			"to begin anew at what slot %s keeps, move %s away when all of it is stored",
			ErrForked, s.Timeline, r.in.Durable().LSN, sys.Timeline, r.Slot, r.in.Dir())
	}
	if left >= s.Start(r.SegmentSize) {
		return next, refused
	}
	r.Report.Warn(fmt.Sprintf("timeline %d was received up to %s, but the server left it at %s: what lies between is stored, and no server follows it",
		s.Timeline, r.in.Durable().LSN, left))
	return walspool.Position{Timeline: h.After(s.Timeline), LSN: r.segmentStart(left)}, nil
}

// segmentStart is the start of the segment that holds an LSN.
func (r *receiver) segmentStart(lsn wal.LSN) wal.LSN { return lsn - lsn%wal.LSN(r.SegmentSize) }

// missing explains that the server no longer has the WAL that comes next.
func (r *receiver) missing(cause error, slot server.Slot) error {
	p := r.in.Durable()
	first := wal.SegmentAt(p.Timeline, p.LSN, r.SegmentSize)
	until := "on"
	if next := r.segmentStart(slot.RestartLSN); next > p.LSN {
		until = "to " + wal.SegmentBefore(slot.Timeline, next, r.SegmentSize).String()
	}
	return fmt.Errorf("%w: WAL is missing from segment %s %s, unless something else archives it: store it with wal-push from pg_wal of a standby; "+
		"to begin anew at what slot %s keeps, move %s away when all of it is stored", cause, first, until, r.Slot, r.in.Dir())
}
