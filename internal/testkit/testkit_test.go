package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRun(t *testing.T) {
	t.Setenv("WALDEN_REPO", "the developer's own")
	sh := func(script string) Cmd { return Cmd{Path: Tool(t, "sh"), Args: []string{"-c", script}} }

	res := Run(t, sh("echo out; echo err >&2; exit 7"))
	if res != (Result{Code: 7, Stdout: "out\n", Stderr: "err\n"}) {
		t.Errorf("got %+v", res)
	}
	cmd := sh("echo $WALDEN_REPO $NAME; cat; id -un")
	cmd.Env, cmd.Stdin, cmd.AsServerUser = []string{"NAME=value"}, strings.NewReader("in\n"), true
	if got, want := Run(t, cmd).Stdout, "value\nin\n"+ServerUser(t)+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if res := Start(t, sh("exec sleep 600")).Kill(t); res.Code != -1 {
		t.Errorf("a killed program's code is %d", res.Code)
	}
}

func TestServerUserMayWriteInDir(t *testing.T) {
	dir := Dir(t)
	if res := Run(t, Cmd{Path: Tool(t, "touch"), Args: []string{filepath.Join(dir, "file")}, AsServerUser: true}); res.Code != 0 {
		t.Error(res.Stderr)
	}
	below := filepath.Join(dir, "below")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	GiveToServer(t, dir)
	if res := Run(t, Cmd{Path: Tool(t, "touch"), Args: []string{filepath.Join(below, "file")}, AsServerUser: true}); res.Code != 0 {
		t.Error(res.Stderr)
	}
}

func TestDirIsRemoved(t *testing.T) {
	var dir string
	t.Run("inner", func(t *testing.T) {
		dir = Dir(t)
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o400); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("stat %s: %v, want that it doesn't exist", dir, err)
	}
}

// TestUnreachableBinaries has an installation in a directory that only root may enter.
func TestUnreachableBinaries(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("an ordinary user reaches what it has installed itself")
	}
	private := t.TempDir()
	bin := filepath.Join(private, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "postgres"), []byte("#!/bin/sh\nid -un\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(private, 0o700); err != nil {
		t.Fatal(err)
	}
	reachable, err := reachableBinaries(bin, "postgres-of-"+t.Name())
	if err != nil {
		t.Fatal(err)
	}
	if reachable == bin {
		t.Fatal("was taken for reachable")
	}
	res := Run(t, Cmd{Path: filepath.Join(reachable, "postgres"), AsServerUser: true})
	if res.Stdout != ServerUser(t)+"\n" {
		t.Errorf("got %+v", res)
	}
	again, err := reachableBinaries(reachable, "unused")
	if err != nil || again != reachable {
		t.Errorf("what is reachable was copied to %s (error: %v)", again, err)
	}
}

func TestFreePortsDiffer(t *testing.T) {
	port := FreePort(t)
	if claimPort(t, port) {
		t.Error("a port was given away twice")
	}
	t.Run("inner", func(t *testing.T) {
		if claimPort(t, port) {
			t.Error("a port was given away twice")
		}
	})
}

func TestDescendantsOfDescendants(t *testing.T) {
	sh := Start(t, Cmd{Path: Tool(t, "sh"), Args: []string{"-c", "(sleep 600; true) >/dev/null 2>&1 & wait"}})
	var found family
	Eventually(t, time.Minute, "the shell's child has a child", func() bool {
		var err error
		found, err = descendants(sh.PID())
		if err != nil {
			t.Fatal(err)
		}
		return len(found) == 2
	})
	sh.Kill(t)
	if found.gone() {
		t.Error("orphans were taken for gone")
	}
	found.kill()
	Eventually(t, time.Minute, "killed processes are gone", found.gone)
}

// outcome is a testing.TB that records how a test would end first.
type outcome struct {
	testing.TB
	end string
}

func (o *outcome) Helper()          {}
func (o *outcome) Skip(args ...any) { o.record("skip: " + fmt.Sprint(args...)) }
func (o *outcome) Fatalf(format string, args ...any) {
	o.record("fail: " + fmt.Sprintf(format, args...))
}

func (o *outcome) record(end string) {
	if o.end == "" {
		o.end = end
	}
}

func TestSkipOrFail(t *testing.T) {
	for _, c := range []struct{ ci, strict, want string }{
		{"", "", "skip"},
		{"true", "", "fail"},
		{"", "1", "fail"},
		{"false", "0", "skip"},
	} {
		t.Setenv("CI", c.ci)
		t.Setenv("WALDEN_TEST_STRICT", c.strict)
		o := &outcome{}
		SkipOrFail(o, "no zstd")
		if !strings.HasPrefix(o.end, c.want) || !strings.HasSuffix(o.end, "no zstd") {
			t.Errorf("CI=%q, WALDEN_TEST_STRICT=%q: got %q, want %s", c.ci, c.strict, o.end, c.want)
		}
	}
}

func TestWaldenIsStatic(t *testing.T) {
	if out, err := exec.Command(Tool(t, "ldd"), Walden(t)).CombinedOutput(); err == nil {
		t.Errorf("ldd finds libraries:\n%s", out)
	}
}
