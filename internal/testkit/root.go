package testkit

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Root returns the top of the checkout: the closest directory upwards whose go.mod is walden's.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := findRoot()
	if err != nil {
		t.Fatalf("find the top of the checkout: %v", err)
	}
	return dir
}

// Cache returns the directory that holds the installed test tools. It may not exist yet.
func Cache(t testing.TB) string {
	t.Helper()
	return filepath.Join(Root(t), ".cache")
}

func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if bytes.HasPrefix(mod, []byte("module walden\n")) {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod of module walden upwards of the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
