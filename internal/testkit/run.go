package testkit

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// runLimit is how long a program may run unless Cmd.Limit says otherwise.
const runLimit = 3 * time.Minute

// Cmd is a run of the walden binary, or of another program.
type Cmd struct {
	Path         string // the program; "": Walden
	Args         []string
	Env          []string // NAME=value, added to an otherwise clean environment
	Dir          string   // working directory; "": a new one
	AsServerUser bool     // run as ServerUser, as an archive_command is
	Stdin        io.Reader
	Limit        time.Duration // the test fails if it takes longer; 0: 3 minutes
}

// Result is what a program did.
type Result struct {
	Code   int // exit code; -1 if a signal ended it
	Stdout string
	Stderr string
}

// Run runs a command to its end. Any exit code is a result.
func Run(t testing.TB, cmd Cmd) Result {
	t.Helper()
	return Start(t, cmd).Wait(t)
}

// Running is a program that was started.
type Running struct {
	process        *process
	limit          time.Duration
	stdout, stderr bytes.Buffer
}

// Start starts a command. It is killed at the end of the test if it still runs.
func Start(t testing.TB, cmd Cmd) *Running {
	t.Helper()
	if cmd.Path == "" {
		cmd.Path = Walden(t)
	}
	if cmd.Dir == "" {
		cmd.Dir = Dir(t)
	}
	if cmd.Limit == 0 {
		cmd.Limit = runLimit
	}
	r := &Running{limit: cmd.Limit}
	c := exec.Command(cmd.Path, cmd.Args...)
	c.Dir, c.Stdin, c.Stdout, c.Stderr = cmd.Dir, cmd.Stdin, &r.stdout, &r.stderr
	c.Env = append(cleanEnv(cmd.Dir), cmd.Env...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cmd.AsServerUser {
		c.SysProcAttr = mustServerUser(t).attributes(syscall.SIGKILL)
	}
	// A process left behind that holds on to the output is a mistake to be reported, not waited for.
	c.WaitDelay = 10 * time.Second
	p, err := startProcess(c)
	if err != nil {
		t.Fatalf("run %s: %v", cmd.Path, err)
	}
	r.process = p
	t.Cleanup(func() {
		if !p.ended(0) {
			r.Kill(t)
		}
	})
	return r
}

// PID returns the process id.
func (r *Running) PID() int { return r.process.cmd.Process.Pid }

// Ended reports whether the program ended, or does so within d.
func (r *Running) Ended(d time.Duration) bool { return r.process.ended(d) }

// Signal sends a signal. That the program has ended already is no failure.
func (r *Running) Signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := r.process.cmd.Process.Signal(s); err != nil && !r.process.ended(time.Second) {
		t.Fatalf("send %s to %s: %v", s, r.process.cmd.Path, err)
	}
}

// Kill ends the program by SIGKILL, if it still runs, and waits for its end.
func (r *Running) Kill(t testing.TB) Result {
	t.Helper()
	r.Signal(t, syscall.SIGKILL)
	return r.Wait(t)
}

// Wait waits for the end of the program.
func (r *Running) Wait(t testing.TB) Result {
	t.Helper()
	cmd := r.process.cmd
	if !r.process.ended(r.limit) {
		r.Signal(t, syscall.SIGQUIT) // a Go program shows what it is doing
		if !r.process.ended(10 * time.Second) {
			r.Signal(t, syscall.SIGKILL)
			r.process.wait()
		}
		t.Fatalf("%v still ran after %s\n%s%s", cmd.Args, r.limit, r.stdout.String(), r.stderr.String())
	}
	var exit *exec.ExitError
	if err := r.process.err; err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %v: %v\n%s%s", cmd.Args, err, r.stdout.String(), r.stderr.String())
	}
	return Result{
		Code:   cmd.ProcessState.ExitCode(),
		Stdout: r.stdout.String(),
		Stderr: r.stderr.String(),
	}
}
