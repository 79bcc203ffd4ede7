package server_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/server"
	"walden/postgres/wal"
)

// replicate opens a session in replication mode that ends with the test.
func replicate(t *testing.T, cfg server.Config) *server.Replication {
	t.Helper()
	cfg.Env = os.Getenv
	r, err := server.ConnectReplication(bounded(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

func system(t *testing.T, r *server.Replication) server.System {
	t.Helper()
	sys, err := r.IdentifySystem(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return sys
}

// receiver keeps what a stream brings.
type receiver struct {
	stream   *server.Stream
	timeline wal.Timeline
	start    wal.LSN
	data     []byte
	patience time.Duration // a single call of Next; 0: limit
	waits    int           // how often it was too short
}

func receive(t *testing.T, r *server.Replication, slot string, lsn wal.LSN, tli wal.Timeline) *receiver {
	t.Helper()
	stream, err := r.StartPhysical(bounded(t), slot, lsn, tli)
	if err != nil {
		t.Fatal(err)
	}
	return &receiver{stream: stream, timeline: tli, start: lsn}
}

func (v *receiver) end() wal.LSN { return v.start + wal.LSN(len(v.data)) }

// next takes one message, and answers a keepalive that asks for it.
func (v *receiver) next(t *testing.T) (server.Message, error) {
	t.Helper()
	patience := v.patience
	if patience == 0 {
		patience = limit
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := v.stream.Next(ctx)
	switch m := m.(type) {
	case server.WALData:
		if m.Start != v.end() {
			t.Fatalf("a piece at %s follows %s", m.Start, v.end())
		}
		v.data = append(v.data, m.Data...)
	case server.Keepalive:
		if m.ReplyRequested {
			v.report(t, server.Status{Written: v.end(), Flushed: v.end()})
		}
	case nil:
		if errors.Is(err, context.DeadlineExceeded) && v.patience != 0 {
			v.waits++
			return nil, nil
		}
	}
	return m, err
}

func (v *receiver) report(t *testing.T, s server.Status) {
	t.Helper()
	if err := v.stream.SendStatus(bounded(t), s); err != nil {
		t.Fatal(err)
	}
}

// until takes messages up to an LSN.
func (v *receiver) until(t *testing.T, lsn wal.LSN) {
	t.Helper()
	for v.end() < lsn {
		if m, err := v.next(t); err != nil {
			t.Fatal(err)
		} else if _, ok := m.(server.EndOfTimeline); ok {
			t.Fatalf("the timeline ended at %s, before %s", v.end(), lsn)
		}
	}
}

// untilError takes messages up to the end of the session or the timeline.
func (v *receiver) untilError(t *testing.T) (end server.EndOfTimeline, err error) {
	t.Helper()
	for {
		m, err := v.next(t)
		if end, ok := m.(server.EndOfTimeline); ok || err != nil {
			return end, err
		}
	}
}

// compare holds what has come against the server's own segment files, and returns
// how many of them it had from beginning to end.
func (v *receiver) compare(t *testing.T, c *testkit.Cluster, size wal.SegmentSize) (whole int) {
	t.Helper()
	for at := v.start; at < v.end(); {
		seg := wal.SegmentAt(v.timeline, at, size)
		content, err := os.ReadFile(filepath.Join(c.DataDir, "pg_wal", seg.String()))
		if err != nil {
			t.Fatal(err)
		}
		to := min(v.end(), seg.End(size))
		if !bytes.Equal(content[at-seg.Start(size):to-seg.Start(size)], v.data[at-v.start:to-v.start]) {
			t.Errorf("WAL from %s to %s differs from the server's file %s", at, to, seg)
		}
		if at == seg.Start(size) && to == seg.End(size) {
			whole++
		}
		at = to
	}
	return whole
}

// flushed is the end of a server's WAL.
func flushed(t *testing.T, c *testkit.Cluster) wal.LSN {
	t.Helper()
	return parseLSN(t, c.QueryValue(t, "SELECT pg_current_wal_flush_lsn()"))
}

func parseLSN(t *testing.T, text string) wal.LSN {
	t.Helper()
	lsn, err := wal.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// writeWAL is a statement that makes about a megabyte of WAL.
const writeWAL = "INSERT INTO busy SELECT n, repeat(md5(n::text), 12) FROM generate_series(1, 2000) n"

const createBusy = "CREATE TABLE busy (n int, filler text)"

// busy writes from another goroutine, statement by statement, until stop is called.
func busy(t *testing.T, c *testkit.Cluster) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := c.TryQuery(ctx, writeWAL); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
