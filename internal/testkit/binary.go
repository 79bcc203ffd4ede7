package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Walden returns the path of the walden binary, built as it is shipped (static, stripped), where
// the server user can run it. It is built once for each test binary.
func Walden(t testing.TB) string {
	t.Helper()
	return mustBuild(t, plainBinary)
}

// WaldenRace is Walden built with the race detector, for which it needs a C compiler.
func WaldenRace(t testing.TB) string {
	t.Helper()
	return mustBuild(t, raceBinary)
}

func mustBuild(t testing.TB, build func() (string, error)) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("build walden: %v", err)
	}
	return path
}

var plainBinary = sync.OnceValues(func() (string, error) {
	return buildWalden("walden", "CGO_ENABLED=0", "-trimpath", "-ldflags=-s -w -X main.version=test")
})

var raceBinary = sync.OnceValues(func() (string, error) {
	return buildWalden("walden-race", "CGO_ENABLED=1", "-race")
})

func buildWalden(name, env string, flags ...string) (string, error) {
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	s, err := processScratch()
	if err != nil {
		return "", err
	}
	path := filepath.Join(s.dir, name)
	// No version control data: git refuses to tell about a checkout that belongs to somebody else.
	args := append([]string{"build", "-buildvcs=false", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, os.Chmod(path, 0o755)
}
