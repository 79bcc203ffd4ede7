package storage

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// pipe is a stallConn with a limit of 10 s, and its other end.
func pipe(t *testing.T) (conn, peer net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	return &stallConn{Conn: near, limit: 10 * time.Second}, far
}

func TestStallConnCutsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, _ := pipe(t)
		for name, op := range map[string]func([]byte) (int, error){"read": conn.Read, "write": conn.Write} {
			began := time.Now()
			_, err := op(make([]byte, 10))
			var netErr net.Error
			if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &netErr) || !netErr.Timeout() {
				t.Errorf("%s: got %v, want a timeout", name, err)
			}
			if spent := time.Since(began); spent != 10*time.Second {
				t.Errorf("%s: cut after %s, want 10s", name, spent)
			}
		}
	})
}

func TestStallConnLetsSlownessBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := pipe(t)
		go func() {
			for range 10 {
				time.Sleep(9 * time.Second) // of the bubble's clock
				if _, err := peer.Write([]byte("x")); err != nil {
					t.Error(err)
				}
			}
		}()
		if _, err := io.ReadFull(conn, make([]byte, 10)); err != nil {
			t.Error(err)
		}
	})
}

// net/http waits for the response in one goroutine while another sends the
// request.
func TestStallConnReaderOutlastsASlowWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, peer := pipe(t)
		answered := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(conn, make([]byte, 2))
			answered <- err
		}()
		go func() {
			for range 10 {
				time.Sleep(9 * time.Second)
				if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(9 * time.Second)
			if _, err := peer.Write([]byte("ok")); err != nil {
				t.Error(err)
			}
		}()
		for range 10 {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-answered; err != nil {
			t.Errorf("the reader: %v", err)
		}
	})
}
