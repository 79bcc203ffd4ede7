package server_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"walden/internal/testkit"
	"walden/postgres/server"
)

// Behind a pooler, start and stop could reach different server processes. What
// gives it away is that it hands out process IDs of its own.
func TestBackupThroughPooler(t *testing.T) {
	cleanEnv(t)
	c := running(t, testkit.ClusterOptions{})
	port := pooler(t, fmt.Sprintf("%s/.s.PGSQL.%d", c.SocketDir, c.Port))
	conn := connect(t, server.Config{DSN: fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", port)})
	if id := identify(t, conn); id.Port != c.Port {
		t.Errorf("identity is %+v", id)
	}
	_, err := conn.StartBackup(bounded(t), "pooled", true)
	wantError(t, err, server.ErrConfig, "connection pooler", "direct connection", fmt.Sprint(port))
	c.WaitFor(t, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%backup_start(%' AND pid <> pg_backend_pid()", "0", limit)
}

// pooler relays connections to a server's socket as far as it takes to look
// like one, and returns its port.
func pooler(t *testing.T, socket string) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var relays sync.WaitGroup
	relays.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed by the cleanup below
			}
			upstream, err := net.Dial("unix", socket)
			if err != nil {
				t.Error(err)
				return
			}
			relays.Go(func() {
				defer upstream.Close()
				io.Copy(upstream, client) // ends with the client
			})
			relays.Go(func() {
				defer client.Close()
				if relabel(client, upstream) == nil {
					io.Copy(client, upstream)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		relays.Wait()
	})
	return listener.Addr().(*net.TCPAddr).Port
}

// relabel copies messages up to BackendKeyData, with another process ID in it.
func relabel(to io.Writer, from io.Reader) error {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(from, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		if head[0] == 'K' {
			binary.BigEndian.PutUint32(body, 1)
		}
		if _, err := to.Write(append(head, body...)); err != nil || head[0] == 'K' {
			return err
		}
	}
}
