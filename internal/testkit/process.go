package testkit

import (
	"os/exec"
	"runtime"
	"time"
)

// process is a started command that is waited for by a goroutine of its own.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and been waited for
	err  error         // of cmd.Wait; to be read once done is closed
}

// startProcess starts cmd on an operating system thread that lives for as long as the process does:
// the kernel sends a parent death signal when the thread that started the process ends, not when the
// whole parent does.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// wait waits for the end and returns what cmd.Wait did.
func (p *process) wait() error {
	<-p.done
	return p.err
}

// ended reports whether the process ended, or does so within d.
func (p *process) ended(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	default:
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}
