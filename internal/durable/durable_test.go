package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestRename(t *testing.T) {
	dir := t.TempDir()
	tmp, dst := filepath.Join(dir, "tmp"), filepath.Join(dir, "sub", "dst")
	if err := os.Mkdir(filepath.Dir(dst), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"first", "second"} {
		if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Rename(tmp, dst); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dst); err != nil || string(got) != content {
			t.Errorf("dst holds %q, %v, want %q", got, err, content)
		}
		if _, err := os.Lstat(tmp); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("tmp is still there: %v", err)
		}
	}
	if err := Rename(tmp, dst); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Rename of a missing file: got %v, want fs.ErrNotExist", err)
	}
	if got, err := os.ReadFile(dst); err != nil || string(got) != "second" {
		t.Errorf("dst holds %q, %v after a Rename that failed", got, err)
	}
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := MkdirAll(deep+"/", 0o700); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(deep); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
			t.Errorf("got %v, %v", info, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := MkdirAll(path, 0o700); err == nil {
			t.Errorf("MkdirAll made a directory of %s", path)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(deep, link); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(link, "d"), 0o700); err != nil {
		t.Error(err)
	}
	t.Chdir(dir)
	if err := MkdirAll(filepath.Join("relative", "path"), 0o700); err != nil {
		t.Error(err)
	}
}

func TestSyncTree(t *testing.T) {
	dir := t.TempDir()
	if err := MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a", "b", "file"), []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := SyncTree(dir); err != nil {
		t.Error(err)
	}
	if err := SyncDir(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
	absent := filepath.Join(dir, "absent")
	for name, sync := range map[string]func(string) error{"SyncTree": SyncTree, "SyncDir": SyncDir} {
		if err := sync(absent); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of a missing directory: got %v, want fs.ErrNotExist", name, err)
		}
	}
}
