package walspool

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"walden/internal/testkit"
)

// TestSweepAfterKill: what a killed process was writing goes with the next
// Open, and not before it is dead.
func TestSweepAfterKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startHelper(t, "hold", dir, "")
	mustOpen(t, dir)
	if left := temps(t, dir); len(left) != 1 {
		t.Fatalf("while its writer lives: %v", left)
	}
	p.kill(t)
	if left := temps(t, dir); len(left) != 1 {
		t.Fatalf("nobody has looked yet: %v", left)
	}
	mustOpen(t, dir)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestKillWhileDelivering kills at random moments: dst is absent or whole, and
// the next process sweeps.
func TestKillWhileDelivering(t *testing.T) {
	t.Parallel()
	for range 20 {
		dir, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
		p := startHelper(t, "deliver", dir, dst)
		moment := time.After(time.Duration(rand.IntN(20_000)) * time.Microsecond)
		<-moment
		p.kill(t)
		content, err := os.ReadFile(dst)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !isWhole(content) {
			t.Errorf("dst has %d bytes, %v", len(content), err)
		}
		mustOpen(t, dir)
		if left := temps(t, dir); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
	}
}

// TestReadersSeeWholeFiles: processes deliver to one name, each opening, and so
// sweeping, the same spool all the time, while readers poll the name.
func TestReadersSeeWholeFiles(t *testing.T) {
	t.Parallel()
	dir, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
	var others []*process
	for range 2 {
		others = append(others, startHelper(t, "deliver", dir, dst))
	}
	mine := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < 50 && err == nil; n++ {
			err = deliverOne(dir, dst)
		}
		mine <- err
	}()
	seen := map[string]bool{}
	testkit.Eventually(t, time.Minute, "200 different files were delivered", func() bool {
		for range 50 {
			content, err := os.ReadFile(dst)
			if errors.Is(err, fs.ErrNotExist) && len(seen) == 0 {
				continue
			}
			if err != nil || !isWhole(content) {
				t.Fatalf("a reader sees %d bytes, %v", len(content), err)
			}
			seen[string(content[len(content)-16:])] = true
		}
		return len(seen) >= 200
	})
	if err := <-mine; err != nil {
		t.Error(err)
	}
	for _, p := range others {
		p.end(t)
	}
	mustOpen(t, dir)
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestRootLeavesItToTheOwner: an operator who is root must not lock the server
// out of the spool, nor hand it files that it can't read.
func TestRootLeavesItToTheOwner(t *testing.T) {
	walDir := testkit.Dir(t) // the server user's
	want := ownerOf(t, walDir)
	dir := filepath.Join(walDir, Hidden)
	s := mustOpen(t, dir)
	if err := s.Mark("m"); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(walDir, "dst")
	f := mustTemp(t, s, "x")
	for _, path := range []string{dir, filepath.Join(dir, lockName), s.markPath("m"), temps(t, dir)[0]} {
		if got := ownerOf(t, path); got != want {
			t.Errorf("%s belongs to %d, its directory to %d", path, got, want)
		}
	}
	if err := f.Deliver(dst); err != nil {
		t.Fatal(err)
	}
	if got := ownerOf(t, dst); got != want {
		t.Errorf("%s belongs to %d", dst, got)
	}
}

func ownerOf(t *testing.T, path string) uint32 {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		t.Fatal(err)
	}
	return s.Uid
}

// TestForeignLeftoverIsNoObstacle: the server can go on where somebody else left
// a file that it may not touch.
func TestForeignLeftoverIsNoObstacle(t *testing.T) {
	dir := filepath.Join(testkit.Dir(t), "spool")
	mustOpen(t, dir)
	if err := os.WriteFile(filepath.Join(dir, tempPrefix+"foreign"), nil, 0); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(testkit.Dir(t), "helper")
	if err := copyFile("/proc/self/exe", program); err != nil {
		t.Fatal(err)
	}
	res := testkit.Run(t, testkit.Cmd{Path: program, Args: []string{dir, ""}, Env: []string{helperEnv + "=open"}, AsServerUser: true})
	if res.Code != 0 {
		t.Errorf("%s", res.Stderr)
	}
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
