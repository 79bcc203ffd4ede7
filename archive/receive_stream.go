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

const (
	// flushEvery bounds how long WAL that arrives without a pause waits for being
	// made durable. At a pause it doesn't wait.
	flushEvery = 10 * time.Millisecond
	// reportEvery also keeps a session alive while nothing is read from it: it is
	// shorter than any wal_sender_timeout that works.
	reportEvery = time.Second
	// After a silence of askAfter the server must answer; it is given up after
	// silenceLimit.
	askAfter     = 10 * time.Second
	silenceLimit = time.Minute
	goodbye      = 2 * time.Second
)

// feed is a stream on its way into the spool.
type feed struct {
	*receiver
	stream   *server.Stream
	heard    time.Time // of the server
	reported time.Time
	dirty    time.Time // since when WAL is not durable; zero: all is
}

// follow receives a stream up to the end of its timeline, and returns where the
// next one begins. Whatever ends it, all that came is durable then, and the server
// knows.
func (r *receiver) follow(ctx context.Context, stream *server.Stream) (next walspool.Position, err error) {
	f := &feed{receiver: r, stream: stream, heard: time.Now()}
	end, err := server.EndOfTimeline{}, f.send(ctx, true)
	if err == nil {
		end, err = f.run(ctx)
	}
	if flushErr := inSpool(r.in.Flush()); flushErr != nil {
		return next, errors.Join(err, flushErr)
	}
	if err != nil {
		f.farewell(ctx)
		return next, err
	}
	return walspool.Position{Timeline: end.Next, LSN: r.segmentStart(end.Switch)}, nil
}

// farewell tells the server what is durable, which it need not send again. That it
// can't be told does no harm.
func (f *feed) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	_ = f.send(ctx, false)
}

func (f *feed) run(ctx context.Context) (server.EndOfTimeline, error) {
	for {
		m, err := f.next(ctx)
		if err != nil {
			return server.EndOfTimeline{}, err
		}
		flush, reply := !f.dirty.IsZero() && time.Since(f.dirty) >= flushEvery, false
		switch m := m.(type) {
		case server.WALData:
			if err := f.take(ctx, m.Data); err != nil {
				return server.EndOfTimeline{}, err
			}
			flush = flush || m.End() >= m.ServerEnd // a commit may wait for this
		case server.Keepalive:
			flush, reply = flush || m.ReplyRequested, m.ReplyRequested
		case server.EndOfTimeline:
			return m, nil
		}
		if err := f.answer(ctx, flush, reply); err != nil {
			return server.EndOfTimeline{}, err
		}
	}
}

// next waits for a message, but not beyond the time at which something else is due:
// then it is nil.
func (f *feed) next(ctx context.Context) (server.Message, error) {
	due := f.reported.Add(reportEvery)
	if flush := f.dirty.Add(flushEvery); !f.dirty.IsZero() && flush.Before(due) {
		due = flush
	}
	waiting, cancel := context.WithDeadline(ctx, due)
	defer cancel()
	m, err := f.stream.Next(waiting)
	switch {
	case err == nil:
		f.heard, f.met = time.Now(), true
		f.away.worked()
		return m, nil
	case ctx.Err() != nil || errors.Is(err, server.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded):
		return nil, err
	case time.Since(f.heard) > silenceLimit:
		return nil, fmt.Errorf("%w for %s: %w", errSilent, silenceLimit, err)
	}
	return nil, nil
}

// answer flushes and reports what is due.
func (f *feed) answer(ctx context.Context, flush, reply bool) error {
	if flush && !f.dirty.IsZero() {
		if err := f.send(ctx, false); err != nil { // who waits for remote_write only
			return err
		}
		if err := inSpool(f.in.Flush()); err != nil {
			return err
		}
		f.dirty, reply = time.Time{}, true
	}
	if reply || time.Since(f.reported) >= reportEvery {
		return f.send(ctx, time.Since(f.heard) > askAfter)
	}
	return nil
}

// send reports how far receiving is. While WAL comes once more that is durable
// already it says nothing of it, so that the slot doesn't go back.
func (f *feed) send(ctx context.Context, ask bool) error {
	status := server.Status{ReplyRequested: ask}
	if durable := f.in.Durable().LSN; f.in.End() >= durable {
		status.Written, status.Flushed = f.in.End(), durable
	}
	f.reported = time.Now()
	return f.stream.SendStatus(ctx, status)
}

// take writes WAL to the spool, segment by segment.
func (f *feed) take(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		n, err := f.in.Write(data)
		if err != nil {
			return inSpool(err)
		}
		data = data[n:]
		if f.dirty.IsZero() && f.in.End() > f.in.Durable().LSN {
			f.dirty = time.Now()
		}
		if f.in.Full() {
			if err := f.turn(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn finishes a segment, and begins the next one when the spool has room for it.
func (f *feed) turn(ctx context.Context) error {
	name, err := f.in.Seal()
	if err != nil {
		return inSpool(err)
	}
	f.dirty = time.Time{}
	f.out.put(name)
	if err := f.send(ctx, false); err != nil {
		return err
	}
	if err := f.room(ctx); err != nil {
		return err
	}
	f.heard = time.Now() // it was us who didn't listen
	at := f.in.Durable()
	return inSpool(f.in.Begin(wal.SegmentAt(at.Timeline, at.LSN, f.SegmentSize)))
}

// room waits until another segment may be received. The server holds back what
// follows, and keeps it for the slot.
func (f *feed) room(ctx context.Context) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, reportEvery)
		err := f.out.drop(waiting, f.limit)
		cancel()
		if err == nil {
			f.full.worked()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.full.failed(fmt.Errorf("%d files wait in %s", f.out.size(), f.in.Dir()))
		if err := f.send(ctx, false); err != nil {
			return err
		}
	}
}
