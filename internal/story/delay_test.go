package story

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// delay is a line to an S3 server that is far away: every answer comes later by as long as a round trip
// takes, and the first on a connection by twice as long, but the line is as wide as it is.
type delay struct {
	address string
	to      string
	round   time.Duration
	closed  chan struct{}
	all     sync.WaitGroup
}

func newDelay(t testing.TB, to s3Shelf, round time.Duration) *delay {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &delay{address: socket.Addr().String(), to: strings.TrimPrefix(to.server.Endpoint, "http://"), round: round, closed: make(chan struct{})}
	t.Cleanup(func() {
		close(d.closed)
		socket.Close()
		d.all.Wait()
	})
	d.all.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			d.all.Go(func() { d.carry(conn) })
		}
	})
	return d
}

// repository is the repository at the other end.
func (d *delay) repository(s s3Shelf) repository {
	r := s.repository()
	r.url = strings.Replace(r.url, s.server.Endpoint, "http://"+d.address, 1)
	return r
}

func (d *delay) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", d.to)
	if err != nil {
		return
	}
	defer far.Close()
	ended := make(chan struct{}, 2)
	go func() { d.pump(far, near, 2*d.round); ended <- struct{}{} }()
	go func() { d.pump(near, far, 0); ended <- struct{}{} }()
	select {
	case <-ended:
	case <-d.closed:
	}
}

// pump moves bytes one way. The first piece arrives by later after it was sent, and further ones by a round
// trip, unless later is 0.
func (d *delay) pump(to, from net.Conn, later time.Duration) {
	type piece struct {
		data []byte
		due  time.Time
	}
	way := make(chan piece, 1024)
	go func() {
		defer close(way)
		for {
			buf := make([]byte, 64<<10)
			n, err := from.Read(buf)
			if n > 0 {
				way <- piece{buf[:n], time.Now().Add(later)}
			}
			if err != nil {
				return
			}
			later = min(later, d.round)
		}
	}()
	failed := false
	for p := range way { // to its end, so that the reader ends
		if failed {
			continue
		}
		if wait := time.Until(p.due); wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-d.closed:
			}
			timer.Stop()
		}
		if _, err := to.Write(p.data); err != nil {
			failed = true
			from.Close()
		}
	}
}
