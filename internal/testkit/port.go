package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// Ports are taken from below the range from which Linux serves outgoing connections (32768 and up),
// so that the port of a server that is down for a while isn't given to somebody's connection.
const (
	firstPort = 20000
	ports     = 10000
)

// FreePort returns a TCP port that is free on the loopback interface. Until the end of the test no
// other FreePort on this machine returns it, whichever process asks: also while its server is down.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := firstPort + rand.IntN(ports)
		if claimPort(t, port) {
			return port
		}
	}
	t.Fatal("found no free TCP port")
	return 0
}

// claimPort claims by an abstract unix socket: one name, one owner, and the kernel lets go of it
// with the process.
func claimPort(t testing.TB, port int) bool {
	claim, err := net.Listen("unix", fmt.Sprintf("@walden-test-port-%d", port))
	if err != nil {
		return false
	}
	probe, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		claim.Close()
		return false
	}
	probe.Close()
	t.Cleanup(func() { claim.Close() })
	return true
}
