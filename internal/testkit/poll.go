package testkit

import (
	"testing"
	"time"
)

// pollInterval is how often a condition is looked at.
const pollInterval = 10 * time.Millisecond

// Eventually waits until ok returns true, and fails the test with what when it doesn't within
// limit. It looks at least once.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	if !poll(limit, ok) {
		t.Fatalf("not within %s: %s", limit, what)
	}
}

// poll reports whether ok returned true within limit.
func poll(limit time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(limit); ; time.Sleep(pollInterval) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
