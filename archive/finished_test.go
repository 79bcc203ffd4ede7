package archive

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestPushRefusesUnfinishedSegments: a segment of pg_wal counts as finished when
// PostgreSQL says so.
func TestPushRefusesUnfinishedSegments(t *testing.T) {
	const name, next = "000000010000000000000003", "000000010000000000000004"
	for _, c := range []struct {
		what     string
		files    []string // in archive_status
		next     string   // what a file of the next segment's name holds the header of
		finished bool
	}{
		{"nothing says so", nil, "", false},
		{"it is ready", []string{name + ".ready"}, "", true},
		{"it is done", []string{name + ".done"}, "", true},
		{"another one is ready", []string{"000000010000000000000002.ready"}, "", false},
		{"the next one has begun", nil, next, true},
		{"the next one is kept for later use", nil, "000000010000000000000001", false},
	} {
		h := newHost(t)
		for _, f := range append(c.files, "some.thing") {
			path := filepath.Join(statusDir(h.pgWAL), f)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.next != "" {
			h.write(t, next, segmentOf(t, c.next, small, 2))
		}
		_, err := Push(context.Background(), h.repo, h.write(t, name, segmentOf(t, name, small, 1)), h.pushOptions())
		if c.finished {
			if err != nil {
				t.Errorf("%s: %v", c.what, err)
			}
			continue
		}
		mustBe(t, err, ErrRefused)
		mustSay(t, err, "has not finished this segment")
		if h.holds(t, name) {
			t.Errorf("%s: it was stored", c.what)
		}
	}
}
