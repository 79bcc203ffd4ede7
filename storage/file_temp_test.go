package storage

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A file system without O_TMPFILE gets a temporary file with a name.
func TestNamedTempFile(t *testing.T) {
	dir := t.TempDir()
	stale, fresh := filepath.Join(dir, ".walden-tmp-stale"), filepath.Join(dir, ".walden-tmp-fresh")
	for _, path := range []string{stale, fresh} {
		if err := os.WriteFile(path, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	yesterday := time.Now().Add(-staleAge - time.Hour)
	if err := os.Chtimes(stale, yesterday, yesterday); err != nil {
		t.Fatal(err)
	}
	sweepTemps(dir)
	temp, err := openNamed(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := temp.file.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	dst := filepath.Join(dir, "object")
	if err := temp.link(dst); err != nil {
		t.Fatal(err)
	}
	if err := temp.link(dst); !errors.Is(err, fs.ErrExist) {
		t.Errorf("link over an object: got %v, want fs.ErrExist", err)
	}
	if err := temp.discard(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(dst); err != nil || string(got) != "content" {
		t.Errorf("the object holds %q, %v", got, err)
	}
	if info, err := os.Stat(dst); err != nil || info.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("the object has mode %v, %v", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 || entries[0].Name() != filepath.Base(fresh) || entries[1].Name() != "object" {
		t.Errorf("the directory holds %v, want the fresh temporary file and the object", entries)
	}
}
