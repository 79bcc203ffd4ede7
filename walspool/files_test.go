package walspool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if _, err := s.ReadFile("a/b/one"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing was written: %v", err)
	}
	if names, err := s.Files("a/b"); err != nil || len(names) != 0 {
		t.Errorf("no directory: %v, %v", names, err)
	}
	for _, path := range []string{"a/b/two", "a/b/one", "a/c/three", "four"} {
		for _, content := range []string{"old " + path, path} {
			if err := s.WriteFile(path, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := s.ReadFile(path); err != nil || string(got) != path {
			t.Errorf("%s holds %q, %v", path, got, err)
		}
	}
	again := mustOpen(t, dir) // which sweeps
	if names, err := again.Files("a/b"); err != nil || !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("%v, %v", names, err)
	}
	for range 2 {
		if err := s.RemoveFile("a/b/one"); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := s.Files("a/b"); err != nil || !slices.Equal(names, []string{"two"}) {
		t.Errorf("%v, %v", names, err)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// TestFilesBelongToTheOwner, as all that root makes in somebody's spool.
func TestFilesBelongToTheOwner(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	if err := s.WriteFile("a/b/c", nil); err != nil {
		t.Fatal(err)
	}
	want := ownerOf(t, dir)
	for _, path := range []string{"a", "a/b", "a/b/c"} {
		if got := ownerOf(t, filepath.Join(dir, path)); got != want {
			t.Errorf("%s belongs to %d, the spool to %d", path, got, want)
		}
	}
}

// TestFilesLeadNowhere: a link in somebody else's spool must not lead root away,
// and what is no small file is not read.
func TestFilesLeadNowhere(t *testing.T) {
	dir, aim := t.TempDir(), t.TempDir()
	s := mustOpen(t, dir)
	if err := os.Symlink(aim, filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile("a/b", []byte("x")); err == nil {
		t.Error("written where a link leads")
	}
	if entries, err := os.ReadDir(aim); err != nil || len(entries) != 0 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := os.WriteFile(filepath.Join(aim, "secret"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(aim, "secret"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), []byte(strings.Repeat("x", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"b", "large", "directory"} {
		if got, err := s.ReadFile(path); err == nil {
			t.Errorf("%s: read %d bytes", path, len(got))
		}
	}
}

// TestFilesOnAFullDisk fails or holds, and never lies.
func TestFilesOnAFullDisk(t *testing.T) {
	dir := tmpfs(t, 64<<10)
	s := mustOpen(t, dir)
	if err := s.Probe(); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile("a/b", []byte("old")); err != nil {
		t.Fatal(err)
	}
	fill := mustTemp(t, s, "")
	for {
		if _, err := fill.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if err := s.Probe(); err == nil {
		t.Error("there is room, it says")
	}
	if err := s.WriteFile("a/b", []byte("new")); err == nil {
		t.Error("written to a full disk")
	}
	if got, err := s.ReadFile("a/b"); err != nil || string(got) != "old" {
		t.Errorf("holds %q, %v", got, err)
	}
	if err := fill.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteFile("a/b", []byte("new")); err != nil {
		t.Errorf("after that: %v", err)
	}
	if left := temps(t, dir); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}
