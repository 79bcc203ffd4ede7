package walspool

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var errOdd = errors.New("odd")

// evenly accepts files of even length.
func evenly(_ io.ReaderAt, size int64) error {
	if size%2 != 0 {
		return errOdd
	}
	return nil
}

func keep(t testing.TB, s *Spool, name, content string) {
	t.Helper()
	f, err := s.TempFor(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(f, name); err != nil {
		t.Fatal(err)
	}
}

func mustKeep(t testing.TB, s *Spool, want string) {
	t.Helper()
	if names, err := s.Whole(); err != nil || strings.Join(names, " ") != want {
		t.Errorf("the spool keeps %q, %v; want %q", names, err, want)
	}
}

func TestTake(t *testing.T) {
	for where, dir := range map[string]func(*testing.T) string{
		"the same file system": func(t *testing.T) string { return t.TempDir() },
		"another file system":  func(t *testing.T) string { return tmpfs(t, 4<<20) },
	} {
		t.Run(where, func(t *testing.T) {
			s, dst := mustOpen(t, t.TempDir()), filepath.Join(dir(t), "dst")
			if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			before := openFiles(t)
			if err := s.Take("a", dst, evenly); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("nothing there: %v", err)
			}
			keep(t, s, "a", "odd")
			if err := s.Take("a", dst, evenly); !errors.Is(err, ErrUnfit) || !errors.Is(err, errOdd) {
				t.Errorf("unfit: %v", err)
			}
			mustKeep(t, s, "")
			mustHold(t, dst, "old")
			long := strings.Repeat("even", 100_000)
			keep(t, s, "a", long)
			keep(t, s, "b", "")
			mustKeep(t, s, "a b")
			if err := s.Take("a", filepath.Join(filepath.Dir(dst), "none", "x"), evenly); err == nil || errors.Is(err, ErrUnfit) {
				t.Errorf("no such directory: %v", err)
			}
			mustKeep(t, s, "a b")
			if err := s.Take("a", dst, evenly); err != nil {
				t.Fatal(err)
			}
			mustHold(t, dst, long)
			mustKeep(t, s, "b")
			if after := openFiles(t); after != before {
				t.Errorf("%d files are open, %d were before", after, before)
			}
			if left := append(temps(t, s.Dir()), temps(t, filepath.Join(filepath.Dir(dst), Hidden))...); len(left) != 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}

// TestTakeOnlyFiles: neither a link nor a pipe is opened for one.
func TestTakeOnlyFiles(t *testing.T) {
	s, dst := mustOpen(t, t.TempDir()), filepath.Join(t.TempDir(), "dst")
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("even"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(s.Dir(), "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(s.Dir(), "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "pipe"} {
		if err := s.Take(name, dst, evenly); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	mustHold(t, target, "even")
	if _, err := os.Lstat(dst); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestAwait(t *testing.T) {
	s := mustOpen(t, filepath.Join(t.TempDir(), "with [a-z]* pattern"))
	ctx := context.Background()
	if s.Await(ctx, "a", time.Minute) {
		t.Error("waited for nobody")
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), tempPrefix+"a-dead"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Await(ctx, "a", time.Minute) {
		t.Error("waited for the dead")
	}
	f, err := s.TempFor("a")
	if err != nil {
		t.Fatal(err)
	}
	if s.Await(ctx, "b", time.Minute) {
		t.Error("waited for another file")
	}
	if s.Await(ctx, "a", 20*time.Millisecond) {
		t.Error("waited for a file that didn't come")
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if s.Await(cancelled, "a", time.Minute) {
		t.Error("waited although it was told not to")
	}
	came := make(chan bool, 1)
	go func() { came <- s.Await(ctx, "a", time.Minute) }()
	if _, err := io.WriteString(f, "whole"); err != nil {
		t.Fatal(err)
	}
	if err := s.Keep(f, "a"); err != nil {
		t.Fatal(err)
	}
	if !<-came { // it may have looked only now
		mustKeep(t, s, "a")
	}
	mustHold(t, filepath.Join(s.Dir(), "a"), "whole")
}

func TestHold(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	if s.Held("r") {
		t.Error("held by nobody")
	}
	release, ok, err := s.Hold("r")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	again := mustOpen(t, s.Dir())
	if _, ok, err := again.Hold("r"); ok || err != nil || !again.Held("r") || again.Held("other") {
		t.Errorf("a second holds it: %v, %v", ok, err)
	}
	if err := release.Close(); err != nil {
		t.Fatal(err)
	}
	release, ok, err = again.Hold("r")
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := release.Close(); err != nil {
		t.Fatal(err)
	}
	mustKeep(t, s, "")
}

func TestHints(t *testing.T) {
	s := mustOpen(t, t.TempDir())
	if got := s.ReadHint("h"); got != "" {
		t.Errorf("%q", got)
	}
	for _, text := range []string{"one", "", "another"} {
		if err := s.Hint("h", text); err != nil {
			t.Fatal(err)
		}
		if got := s.ReadHint("h"); got != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	mustKeep(t, s, "")
	if left := temps(t, s.Dir()); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

func TestFree(t *testing.T) {
	s := mustOpen(t, tmpfs(t, 1<<20))
	before, err := s.Free()
	if err != nil || before <= 0 || before > 1<<20 {
		t.Fatal(before, err)
	}
	keep(t, s, "a", strings.Repeat("x", 512<<10))
	if after, err := s.Free(); err != nil || after > before-512<<10 {
		t.Errorf("%d bytes were free, now %d, %v", before, after, err)
	}
}
