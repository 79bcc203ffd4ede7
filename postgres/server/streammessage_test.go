package server

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"walden/postgres/wal"
)

// Layouts as PostgreSQL's documentation gives them, "Streaming Replication
// Protocol": two different programs agree on them only if both follow it.
func TestMessageLayout(t *testing.T) {
	now := time.Date(2026, 11, 21, 8, 15, 30, 123456000, time.UTC)
	head := []byte{0, 0, 0, 1, 2, 3, 4, 5, 0, 0, 0, 1, 2, 3, 4, 6}
	head = binary.BigEndian.AppendUint64(head, uint64(now.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Microseconds()))

	m, err := parseMessage(append(append([]byte{'w'}, head...), "data"...))
	if err != nil {
		t.Fatal(err)
	}
	if d, ok := m.(WALData); !ok || d.Start != 0x102030405 || d.ServerEnd != 0x102030406 || d.End() != 0x102030409 || !d.Sent.Equal(now) || string(d.Data) != "data" {
		t.Errorf("got %+v", m)
	}
	m, err = parseMessage(append(append([]byte{'k'}, head[8:]...), 1))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Keepalive{ServerEnd: 0x102030406, Sent: now, ReplyRequested: true}); m != want {
		t.Errorf("got %+v, want %+v", m, want)
	}

	got := appendStatus(nil, Status{Written: 3, Flushed: 2, Applied: 1, ReplyRequested: true}, now)
	want := []byte{'d', 0, 0, 0, 38, 'r', 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1}
	want = append(append(want, head[16:]...), 1)
	if !bytes.Equal(got, want) {
		t.Errorf("status is % x, want % x", got, want)
	}
}

// FuzzParseMessage checks that what is read is all that was sent.
func FuzzParseMessage(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("w"))
	f.Add(append([]byte{'w'}, make([]byte, 24)...))
	f.Add(append(append([]byte{'w'}, bytes.Repeat([]byte{0xff}, 24)...), "WAL"...))
	f.Add(append([]byte{'k'}, make([]byte, 17)...))
	f.Add(append([]byte{'k'}, bytes.Repeat([]byte{0xff}, 17)...))
	f.Add([]byte{'s', 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseMessage(data)
		if err != nil {
			if m != nil {
				t.Errorf("both %+v and an error", m)
			}
			return
		}
		var again []byte
		number := func(n uint64) { again = binary.BigEndian.AppendUint64(again, n) }
		switch m := m.(type) {
		case WALData:
			again = append(again, 'w')
			number(uint64(m.Start))
			number(uint64(m.ServerEnd))
			number(uint64(m.Sent.UnixMicro() - epoch))
			again = append(again, m.Data...)
		case Keepalive:
			again = append(again, 'k')
			number(uint64(m.ServerEnd))
			number(uint64(m.Sent.UnixMicro() - epoch))
			again = append(again, data[len(data)-1])
			if m.ReplyRequested != (data[len(data)-1] != 0) {
				t.Errorf("got %+v", m)
			}
		}
		if !bytes.Equal(again, data) {
			t.Errorf("% x reads as %+v", data, m)
		}
	})
}

// FuzzParseSystem checks that an answer that no server gives is refused.
func FuzzParseSystem(f *testing.F) {
	f.Add("7710555380837675952", "1", "16/B374D848")
	f.Add("-1", "0", "0/0")
	f.Add("18446744073709551615", "4294967295", "FFFFFFFF/FFFFFFFF")
	f.Add("", "4294967296", "x")
	f.Fuzz(func(t *testing.T, id, timeline, lsn string) {
		sys, err := parseSystem([][]byte{[]byte(id), []byte(timeline), []byte(lsn), nil})
		if err != nil {
			return
		}
		if want, err := wal.ParseLSN(lsn); err != nil || sys.Flushed != want || sys.Timeline == 0 {
			t.Errorf("%q %q %q gave %+v", id, timeline, lsn, sys)
		}
	})
}
