package testkit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	readyLimit = 90 * time.Second // for a server to answer, recovery included
	stopLimit  = 60 * time.Second // for a server to go down
)

// StopMode says how a server is asked to go down.
type StopMode syscall.Signal

// PostgreSQL's ways of going down: see "Shutting Down the Server" in its documentation.
const (
	Smart     = StopMode(syscall.SIGTERM)
	Fast      = StopMode(syscall.SIGINT)
	Immediate = StopMode(syscall.SIGQUIT)
)

// Start starts the server and waits until it answers queries.
func (c *Cluster) Start(t testing.TB) {
	t.Helper()
	c.Launch(t)
	c.WaitReady(t, readyLimit)
}

// Launch starts the server and returns at once.
func (c *Cluster) Launch(t testing.TB) {
	t.Helper()
	if c.Running() {
		t.Fatalf("the server in %s runs already", c.DataDir)
	}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.bin, "postgres"), append([]string{"-D", c.DataDir}, c.flags...)...)
	cmd.Env, cmd.Dir = c.env, c.SocketDir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = mustServerUser(t).attributes(syscall.SIGQUIT)
	server, err := startProcess(cmd)
	if err != nil {
		t.Fatalf("start the server in %s: %v", c.DataDir, err)
	}
	first := c.server == nil
	c.server = server
	if first {
		t.Cleanup(func() {
			if c.Running() {
				c.Stop(t, Immediate)
			}
		})
	}
}

// WaitReady waits until the server answers queries, and fails the test when it ends before.
func (c *Cluster) WaitReady(t testing.TB, limit time.Duration) {
	t.Helper()
	var last error
	ready := poll(limit, func() bool {
		if !c.Running() {
			return true
		}
		_, last = c.TryQuery(t.Context(), "SELECT 1")
		return last == nil
	})
	switch {
	case !c.Running():
		t.Fatalf("the server in %s ended when it should have started: %v", c.DataDir, c.server.err)
	case !ready:
		t.Fatalf("the server in %s doesn't answer within %s: %v", c.DataDir, limit, last)
	}
}

// Running reports whether the server is started and has not ended.
func (c *Cluster) Running() bool {
	return c.server != nil && !c.server.ended(0)
}

// WaitExit waits until a started server has ended by itself, and returns its exit code.
func (c *Cluster) WaitExit(t testing.TB, limit time.Duration) int {
	t.Helper()
	if !c.server.ended(limit) {
		t.Fatalf("the server in %s still runs after %s", c.DataDir, limit)
	}
	return c.server.cmd.ProcessState.ExitCode()
}

// PID returns the process id of the postmaster that was started last.
func (c *Cluster) PID() int { return c.server.cmd.Process.Pid }

// Stop makes the server go down and waits for its end.
func (c *Cluster) Stop(t testing.TB, mode StopMode) {
	t.Helper()
	if err := c.server.cmd.Process.Signal(syscall.Signal(mode)); err != nil {
		t.Fatalf("stop the server in %s: %v", c.DataDir, err)
	}
	if !c.server.ended(stopLimit) {
		c.Kill(t)
		t.Fatalf("the server in %s didn't go down within %s", c.DataDir, stopLimit)
	}
}

// Restart stops the server in mode Fast and starts it again.
func (c *Cluster) Restart(t testing.TB) {
	t.Helper()
	c.Stop(t, Fast)
	c.Start(t)
}

// Reload makes a running server read its configuration files again, which it does soon, but not
// before Reload returns.
func (c *Cluster) Reload(t testing.TB) {
	t.Helper()
	c.Exec(t, "SELECT pg_reload_conf()")
}

// Kill ends the postmaster by SIGKILL, as a crash of the machine would, and waits until its
// descendants, which notice its end by themselves, are gone as well. A command that the server
// runs, such as archive_command, gets some seconds to end, then it is killed. The shared memory goes
// the way that it goes in a crash of the machine; files stay as they are.
func (c *Cluster) Kill(t testing.TB) {
	t.Helper()
	if err := c.server.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // no new children from here on
		t.Fatalf("stop the server in %s: %v", c.DataDir, err)
	}
	family, err := descendants(c.PID())
	if err != nil {
		t.Fatalf("list the processes of the server in %s: %v", c.DataDir, err)
	}
	if err := c.server.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill the server in %s: %v", c.DataDir, err)
	}
	if !c.server.ended(stopLimit) {
		t.Fatalf("the server in %s survived a SIGKILL", c.DataDir)
	}
	if !poll(5*time.Second, family.gone) {
		family.kill()
		Eventually(t, stopLimit, "the killed server's children are gone", family.gone)
	}
	if err := removeSharedMemory(c.DataDir, c.PID()); err != nil {
		t.Errorf("remove the shared memory of the server in %s: %v", c.DataDir, err)
	}
}

// DSN returns a connection string for the superuser, over the unix socket.
func (c *Cluster) DSN() string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres", c.SocketDir, c.Port)
}

// connect connects as the superuser. The explicit settings keep PG* variables of the developer out.
func (c *Cluster) connect(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, c.DSN()+" sslmode=disable connect_timeout=10 application_name=testkit")
}

// combinedOutputAs runs a command as u, and returns what it wrote.
func combinedOutputAs(u serverUser, cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := runAs(u, cmd)
	return out.String(), err
}
