package testkit

import (
	"os"
	"testing"
)

// Strict reports whether a missing tool fails a test rather than skipping it: in CI (CI=true) and
// under make test (WALDEN_TEST_STRICT=1), where the set-up has installed everything that is needed.
func Strict() bool {
	return os.Getenv("CI") == "true" || os.Getenv("WALDEN_TEST_STRICT") == "1"
}

// SkipOrFail ends a test that can't run here, because of reason. Under Strict it fails the test, so
// that no promise of walden goes untested unnoticed; otherwise it skips.
func SkipOrFail(t testing.TB, reason string) {
	t.Helper()
	if Strict() {
		t.Fatalf("can't run here, and nothing may be skipped: %s", reason)
	}
	t.Skip(reason)
}

// SkipUnlessCI skips a test for what this machine or user can't do and no set-up can install, such as
// mounting a file system. In CI (CI=true), which has to be able to, the test fails.
func SkipUnlessCI(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("can't run here, and CI skips nothing: %s", reason)
	}
	t.Skip(reason)
}
