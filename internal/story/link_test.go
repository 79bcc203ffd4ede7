package story

import (
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// link is a line to an S3 server. It can be slow, and it can stall.
type link struct {
	address string
	to      string
	rate    int64 // bytes a second in each direction; 0: as fast as it can
	limit   atomic.Int64
	moved   atomic.Int64
	open    chan struct{} // closed when the line is taken down
}

// newLink makes a line that stalls for good when it has moved limit bytes; 0 means that it never does.
func newLink(t testing.TB, to s3Shelf, rate, limit int64) *link {
	t.Helper()
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{address: socket.Addr().String(), to: strings.TrimPrefix(to.server.Endpoint, "http://"), rate: rate, open: make(chan struct{})}
	l.limit.Store(limit)
	var all sync.WaitGroup
	t.Cleanup(func() {
		close(l.open)
		socket.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.carry(conn) })
		}
	})
	return l
}

// repository is the repository at the other end of the line.
func (l *link) repository(s s3Shelf) repository {
	r := s.repository()
	r.url = strings.Replace(r.url, s.server.Endpoint, "http://"+l.address, 1)
	return r
}

// stalled reports whether all was moved that ever will be.
func (l *link) stalled() bool { return l.limit.Load() > 0 && l.moved.Load() >= l.limit.Load() }

func (l *link) carry(near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", l.to)
	if err != nil {
		return
	}
	defer far.Close()
	for _, conn := range []net.Conn{near, far} {
		// A line doesn't swallow megabytes before they are at its other end.
		if err := conn.(*net.TCPConn).SetReadBuffer(128 << 10); err != nil {
			return
		}
	}
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{near, far}, {far, near}} {
		go func() {
			l.pump(way[1], way[0])
			ended <- struct{}{}
		}()
	}
	select {
	case <-ended:
	case <-l.open:
	}
}

// pump moves bytes one way, a little at a time.
func (l *link) pump(to io.Writer, from io.Reader) {
	const every = 10 * time.Millisecond
	piece := int64(64 << 10)
	if l.rate > 0 {
		piece = max(l.rate*int64(every)/int64(time.Second), 1)
	}
	pace := time.NewTicker(every)
	defer pace.Stop()
	buf := make([]byte, piece)
	for {
		n, err := from.Read(buf)
		if l.limit.Load() > 0 && l.moved.Add(int64(n)) >= l.limit.Load() {
			<-l.open
			return
		}
		if _, errOut := to.Write(buf[:n]); err != nil || errOut != nil {
			return
		}
		if l.rate == 0 {
			continue
		}
		select {
		case <-pace.C:
		case <-l.open:
			return
		}
	}
}
