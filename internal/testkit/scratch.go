package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// maxScratchPath leaves room for "/<directory>/.s.PGSQL.<port>" below it in the 107 bytes that the
// path of a unix socket may have.
const maxScratchPath = 64

// scratch is the directory of this test binary. Everything that its tests write lies below it.
type scratch struct {
	dir  string
	hold *os.File // as long as this pipe is open, the directory stays
}

// Dir returns a new empty directory that belongs to the server user and whose path is short. It is
// removed at the end of the test.
func Dir(t testing.TB) string {
	t.Helper()
	s, err := processScratch()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove the test's directory: %v", err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	GiveToServer(t, dir)
	return dir
}

// processScratch makes the test binary's directory, and starts a shell that removes it when the
// binary has ended, be it by a panic, a time limit or kill -9, which run no clean-up of Go's: the
// shell reads from a pipe whose other end closes with this process.
var processScratch = sync.OnceValues(func() (*scratch, error) {
	dir, err := makeScratch()
	if err != nil {
		return nil, fmt.Errorf("make a directory for this test binary: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// Servers may still be on their way down, and write, while rm works.
	cmd := exec.Command("sh", "-c", `cat; for i in 1 2 3 4 5; do rm -rf -- "$1" && exit; sleep 1; done`, "sh", dir)
	cmd.Dir = "/"
	cmd.Stdin = r
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C isn't for it
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the shell that cleans up: %w", err)
	}
	if err := cmd.Process.Release(); err != nil {
		return nil, err
	}
	return &scratch{dir: dir, hold: w}, nil
})

// makeScratch makes it in the first temporary directory that serves: TMPDIR may be long, or private
// to the user that runs the tests.
func makeScratch() (string, error) {
	u, err := currentServer()
	if err != nil {
		return "", err
	}
	var tried []error
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		dir, err := os.MkdirTemp(parent, "walden-test-")
		if err != nil {
			tried = append(tried, err)
			continue
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return "", err
		}
		if len(dir) <= maxScratchPath && u.reaches(dir) {
			return dir, nil
		}
		tried = append(tried, fmt.Errorf("%s: too long, or out of reach of user %s", parent, u.name))
		if err := os.Remove(dir); err != nil {
			return "", err
		}
	}
	return "", errors.Join(tried...)
}
