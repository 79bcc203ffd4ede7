package server_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"walden/postgres/server"
	"walden/postgres/wal"
)

// startLSN is where streams from a false walsender begin.
const startLSN = wal.LSN(0x3000000)

// Servers that break the rules are found out; what only looks so is not.
func TestFalseWalsender(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	row := func(values ...string) pgproto3.BackendMessage { return dataRow(values...) }
	both, done, ready := &pgproto3.CopyBothResponse{}, &pgproto3.CopyDone{}, &pgproto3.ReadyForQuery{TxStatus: 'I'}
	// pgconn itself recognizes it only where the server speaks English.
	fatal := &pgproto3.ErrorResponse{Severity: "FATALE", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "fini"}
	for name, tt := range map[string]struct {
		answer []pgproto3.BackendMessage
		want   string // in the error; "" where the timeline ends
	}{
		"hole":              {[]pgproto3.BackendMessage{both, walData(startLSN+1, "x")}, "0/3000000 comes next"},
		"repetition":        {[]pgproto3.BackendMessage{both, walData(startLSN, "xy"), walData(startLSN+1, "y")}, "0/3000002 comes next"},
		"overflow":          {[]pgproto3.BackendMessage{both, walData(^wal.LSN(0), "xy")}, "comes next"},
		"empty":             {[]pgproto3.BackendMessage{both, &pgproto3.CopyData{}}, "empty message"},
		"short":             {[]pgproto3.BackendMessage{both, &pgproto3.CopyData{Data: []byte("wxyz")}}, "type 'w' and 4 bytes"},
		"unknown":           {[]pgproto3.BackendMessage{both, &pgproto3.CopyData{Data: []byte("zxyz")}}, "type 'z'"},
		"too large":         {[]pgproto3.BackendMessage{both, &pgproto3.CopyData{Data: make([]byte, 17<<20)}}, "lost"},
		"end too late":      {[]pgproto3.BackendMessage{both, walData(startLSN, "xy"), done, row("2", "0/3000003"), ready}, "up to 0/3000002 only"},
		"end backwards":     {[]pgproto3.BackendMessage{both, done, row("1", "0/3000000"), ready}, "for 1 at"},
		"end of nothing":    {[]pgproto3.BackendMessage{both, done, row("2", "zero"), ready}, "zero"},
		"no end":            {[]pgproto3.BackendMessage{both, done, ready}, "without a reason"},
		"data behind end":   {[]pgproto3.BackendMessage{both, done, walData(startLSN, "x")}, "after the end"},
		"row in the middle": {[]pgproto3.BackendMessage{both, row("2", "0/3000000")}, "does not belong"},
		"strange":           {[]pgproto3.BackendMessage{both, &pgproto3.CopyInResponse{}}, "CopyInResponse"},
		"last words":        {[]pgproto3.BackendMessage{both, fatal}, "the server ended the session: FATALE: fini [SQLSTATE 57P01]"},
		// It had been asked to answer before it came to the end.
		"answer behind end": {[]pgproto3.BackendMessage{both, done, &pgproto3.CopyData{Data: append([]byte{'k'}, make([]byte, 17)...)},
			row("2", "0/3000000"), ready}, ""},
		// Half a record had been sent when the history left it out.
		"end before the data": {[]pgproto3.BackendMessage{both, walData(startLSN, "xy"), done, row("2", "0/3000001"), ready}, ""},
		"settings and notices": {[]pgproto3.BackendMessage{&pgproto3.NoticeResponse{Severity: "NOTICE"}, both,
			&pgproto3.ParameterStatus{Name: "a", Value: "b"}, done, row("2", "0/3000000"), ready}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dsn := falseWalsender(t, func(backend *pgproto3.Backend, _ net.Conn) {
				for _, m := range tt.answer {
					backend.Send(m)
				}
				_ = backend.Flush() // the client may hang up in the middle
			})
			v := receive(t, replicate(t, server.Config{DSN: dsn}), "", startLSN, 1)
			end, err := v.untilError(t)
			if tt.want != "" {
				wantError(t, err, nil, "timeline 1", tt.want)
				_, again := v.untilError(t)
				wantError(t, again, nil, tt.want)
			} else if err != nil || end.Next != 2 {
				t.Errorf("the end is %+v (error: %v)", end, err)
			}
		})
	}
}

// A message that comes in pieces, with deadlines between them, is one message.
func TestMessageInPieces(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	more := make(chan bool)
	dsn := falseWalsender(t, func(backend *pgproto3.Backend, conn net.Conn) {
		backend.Send(&pgproto3.CopyBothResponse{})
		if backend.Flush() != nil {
			return
		}
		message, err := walData(startLSN, "abcdefgh").Encode(nil)
		if err != nil {
			t.Error(err)
			return
		}
		for _, b := range message {
			<-more
			if _, err := conn.Write([]byte{b}); err != nil {
				t.Error(err)
				return
			}
		}
	})
	v := receive(t, replicate(t, server.Config{DSN: dsn}), "", startLSN, 1)
	v.patience = time.Millisecond
	for range 5 + 25 + 8 {
		if len(v.data) > 0 {
			t.Fatal("the message came before its end")
		}
		if _, err := v.next(t); err != nil {
			t.Fatal(err)
		}
		more <- true
	}
	v.until(t, startLSN+8)
	if string(v.data) != "abcdefgh" {
		t.Errorf("the message is %q", v.data)
	}
}

// A peer that says nothing at all doesn't hold up anybody.
func TestSilentWalsender(t *testing.T) {
	noLeaks(t)
	cleanEnv(t)
	release := make(chan bool)
	dsn := falseWalsender(t, func(*pgproto3.Backend, net.Conn) { <-release })
	t.Cleanup(func() { close(release) })
	r := replicate(t, server.Config{DSN: dsn})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err := r.StartPhysical(ctx, "", startLSN, 1)
	wantError(t, err, context.DeadlineExceeded, "timeline 1")
	_, err = r.IdentifySystem(bounded(t))
	wantError(t, err, server.ErrUnavailable, "lost")
}

func walData(start wal.LSN, data string) *pgproto3.CopyData {
	head := []byte{'w'}
	for _, n := range []uint64{uint64(start), uint64(start) + uint64(len(data)), 0} {
		head = binary.BigEndian.AppendUint64(head, n)
	}
	return &pgproto3.CopyData{Data: append(head, data...)}
}

func dataRow(values ...string) *pgproto3.DataRow {
	row := &pgproto3.DataRow{}
	for _, v := range values {
		row.Values = append(row.Values, []byte(v))
	}
	return row
}

// falseWalsender lets one client in, identifies itself and leaves the answer to
// START_REPLICATION to the test. It returns where it listens.
func falseWalsender(t *testing.T, answer func(*pgproto3.Backend, net.Conn)) (dsn string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn, err := listener.Accept()
		if err != nil {
			return // closed by the cleanup below
		}
		defer conn.Close()
		backend := pgproto3.NewBackend(conn, conn)
		if err := identifyFalsely(backend); err != nil {
			t.Error(err)
			return
		}
		answer(backend, conn)
		for err == nil { // until the client hangs up
			_, err = backend.Receive()
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		<-ended
	})
	return fmt.Sprintf("host=127.0.0.1 port=%d user=x sslmode=disable", listener.Addr().(*net.TCPAddr).Port)
}

// identifyFalsely plays a server up to the client's START_REPLICATION.
func identifyFalsely(backend *pgproto3.Backend) error {
	if _, err := backend.ReceiveStartupMessage(); err != nil {
		return err
	}
	ready := &pgproto3.ReadyForQuery{TxStatus: 'I'}
	backend.Send(&pgproto3.AuthenticationOk{})
	backend.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.0"})
	backend.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: make([]byte, 4)})
	backend.Send(ready)
	if err := backend.Flush(); err != nil {
		return err
	}
	if _, err := backend.Receive(); err != nil {
		return err
	}
	fields := make([]pgproto3.FieldDescription, 4)
	for i := range fields {
		fields[i].Name = []byte("column")
	}
	backend.Send(&pgproto3.RowDescription{Fields: fields})
	backend.Send(dataRow("1", "1", "0/3000000", ""))
	backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("IDENTIFY_SYSTEM")})
	backend.Send(ready)
	if err := backend.Flush(); err != nil {
		return err
	}
	_, err := backend.Receive()
	return err
}
