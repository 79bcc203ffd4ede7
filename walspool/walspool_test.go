package walspool

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func TestDeliver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := mustOpen(t, dir)
	dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
	for _, content := range []string{"first", "", strings.Repeat("second", 100_000)} { // replaces what is there
		f := mustTemp(t, s, content)
		got := make([]byte, len(content))
		if _, err := f.ReadAt(got, 0); err != nil && !errors.Is(err, io.EOF) || string(got) != content {
			t.Errorf("read back %.20q, %v", got, err)
		}
		if err := f.Deliver(dst); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, content)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, dst: 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %o", path, info.Mode(), err, want)
		}
	}
}

func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	f := mustTemp(t, s, "x")
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	f = mustTemp(t, s, "x")
	if err := os.Remove(temps(t, dir)[0]); err != nil {
		t.Fatal(err)
	}
	if err := f.Discard(); err != nil {
		t.Errorf("its name is gone: %v", err)
	}
}

// TestDeliverFails: whatever goes wrong, dst is as it was and nothing is left.
func TestDeliverFails(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, spool, dst string) string{
		"a directory is in the way": func(t *testing.T, _, dst string) string {
			in := filepath.Join(filepath.Dir(dst), "taken")
			if err := os.MkdirAll(filepath.Join(in, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			return in
		},
		"its directory does not exist": func(_ *testing.T, _, dst string) string {
			return filepath.Join(filepath.Dir(dst), "none", "x")
		},
		"its directory is a file": func(_ *testing.T, _, dst string) string { return filepath.Join(dst, "x") },
		"somebody removed the temporary file": func(t *testing.T, spool, dst string) string {
			if err := os.Remove(temps(t, spool)[0]); err != nil {
				t.Fatal(err)
			}
			return dst
		},
	} {
		t.Run(name, func(t *testing.T) {
			spool, dst := t.TempDir(), filepath.Join(t.TempDir(), "dst")
			if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := mustOpen(t, spool)
			before := openFiles(t)
			f := mustTemp(t, s, "new")
			to := harm(t, spool, dst)
			if err := f.Deliver(to); err == nil || !strings.Contains(err.Error(), to) {
				t.Errorf("error %v", err)
			}
			mustHold(t, dst, "old")
			if left := temps(t, spool); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
			if _, err := os.Lstat(filepath.Join(filepath.Dir(dst), "none")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("a directory was made")
			}
			if after := openFiles(t); after != before {
				t.Errorf("%d files are open, %d were before", after, before)
			}
		})
	}
}

// TestLiveTempsAreNotSwept, of this process and when the spool is opened often.
func TestLiveTempsAreNotSwept(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	dst := filepath.Join(t.TempDir(), "dst")
	f := mustTemp(t, s, "alive")
	if err := os.WriteFile(filepath.Join(dir, tempPrefix+"dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		mustOpen(t, dir)
	}
	if left := temps(t, dir); len(left) != 1 {
		t.Fatalf("temporary files: %v", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "other")); err != nil {
		t.Errorf("a file that is not the spool's: %v", err)
	}
	if err := f.Deliver(dst); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dst, "alive")
}

// TestSweepWaitsForCreators: a file that was created and has no lock yet must
// not be judged.
func TestSweepWaitsForCreators(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	creating, err := s.lock(syscall.LOCK_SH)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, tempPrefix+"new")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
	if _, err := os.Stat(name); err != nil {
		t.Errorf("swept although somebody is creating: %v", err)
	}
	if err := creating.Close(); err != nil {
		t.Fatal(err)
	}
	mustOpen(t, dir)
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not swept after that: %v", err)
	}
}

func TestMarks(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if s.Marked("a", time.Hour) {
		t.Error("marked from the beginning")
	}
	var g errgroup.Group
	for range 8 {
		g.Go(func() error { return s.Mark("a") })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, dir)
	if !again.Marked("a", time.Hour) || again.Marked("b", time.Hour) || again.Marked("", time.Hour) {
		t.Error("a is not marked, or something else is")
	}
	path := s.markPath("a")
	for shift, want := range map[time.Duration]bool{-59 * time.Minute: true, -61 * time.Minute: false, 59 * time.Minute: true, 61 * time.Minute: false} {
		at := time.Now().Add(shift)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		if got := s.Marked("a", time.Hour); got != want {
			t.Errorf("a mark %s from now counts: %v", shift, got)
		}
	}
	if err := s.Mark("a"); err != nil || !s.Marked("a", time.Hour) {
		t.Errorf("marked anew: %v", err)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "x")} {
		if _, err := Open(dir); err == nil {
			t.Errorf("%s: opened", dir)
		}
	}
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Temp(); err == nil {
		t.Error("a temporary file in a directory that is gone")
	}
	if err := s.Mark("x"); err == nil {
		t.Error("a mark in a directory that is gone")
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the directory is back")
	}
}

// TestLockIsNoSymlink: root must not create files where a link in somebody
// else's directory leads.
func TestLockIsNoSymlink(t *testing.T) {
	dir, aim := t.TempDir(), filepath.Join(t.TempDir(), "aim")
	if err := os.Symlink(aim, filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil {
		t.Error("opened")
	}
	if _, err := os.Stat(aim); !errors.Is(err, fs.ErrNotExist) {
		t.Error("created where the link leads")
	}
}
