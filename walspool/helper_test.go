package walspool

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"walden/internal/testkit"
)

// helperEnv makes the test binary one of the processes that share a spool.
const helperEnv = "WALSPOOL_HELPER"

func TestMain(m *testing.M) {
	role := os.Getenv(helperEnv)
	if role == "" {
		os.Exit(m.Run())
	}
	if err := helper(role, os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// helper is what another process does with a spool until its standard input
// ends. It says "ready" when it is under way.
func helper(role, dir, dst string) error {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	s, err := Open(dir)
	if err != nil {
		return err
	}
	switch role {
	case "hold":
		t, err := s.Temp()
		if err != nil {
			return err
		}
		if _, err := t.Write([]byte("half of a segm")); err != nil {
			return err
		}
		fmt.Println("ready")
		<-ended
	case "deliver":
		fmt.Println("ready")
		for {
			select {
			case <-ended:
				return nil
			default:
			}
			if err := deliverOne(dir, dst); err != nil {
				return err
			}
		}
	case "open":
		fmt.Println("ready")
	}
	return nil
}

// deliverOne opens the spool anew, as every call of restore_command does.
func deliverOne(dir, dst string) error {
	s, err := Open(dir)
	if err != nil {
		return err
	}
	t, err := s.Temp()
	if err != nil {
		return err
	}
	for content := wholeFile(rand.Uint64()); len(content) > 0; {
		n := min(len(content), 4096)
		if _, err := t.Write(content[:n]); err != nil {
			return err
		}
		content = content[n:]
	}
	return t.Deliver(dst)
}

const wholeSize = 64 << 10

// wholeFile is content that tells whether it is whole.
func wholeFile(seed uint64) []byte {
	b := make([]byte, 0, wholeSize)
	for sum := sha256.Sum256(fmt.Append(nil, seed)); len(b) < wholeSize-sha256.Size; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func isWhole(b []byte) bool {
	if len(b) != wholeSize {
		return false
	}
	sum := sha256.Sum256(b[:wholeSize-sha256.Size])
	return string(sum[:]) == string(b[wholeSize-sha256.Size:])
}

// process is a helper that runs.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stderr strings.Builder
}

func startHelper(t *testing.T, role, dir, dst string) *process {
	t.Helper()
	p := &process{cmd: exec.Command("/proc/self/exe", dir, dst)}
	p.cmd.Env = append(os.Environ(), helperEnv+"="+role)
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the helper says %q, %v", line, err)
	}
	return p
}

// kill ends the helper by SIGKILL.
func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // the kill is what it reports
}

// end lets the helper finish.
func (p *process) end(t *testing.T) {
	t.Helper()
	_ = p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("helper: %v\n%s", err, p.stderr.String())
	}
}

func mustOpen(t testing.TB, dir string) *Spool {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustTemp(t testing.TB, s *Spool, content string) *Temp {
	t.Helper()
	f, err := s.Temp()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	return f
}

// temps lists the temporary files in a spool.
func temps(t testing.TB, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, tempPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func mustHold(t testing.TB, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s holds %.40q (%d bytes), want %.40q", path, got, len(got), want)
	}
}

// openFiles counts this process's descriptors.
func openFiles(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// tmpfs mounts a file system of its own with that many bytes.
func tmpfs(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("walden-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		testkit.SkipUnlessCI(t, fmt.Sprintf("cannot mount a tmpfs: %v", err))
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil { // also after a failure that left files open
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}
