package archive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"walden/catalog"
	"walden/storage"
)

// tight is a limit that three small segments are over.
// tight takes any time for long.
var tight = DropOptions{Over: Limit{bytes: 3<<20 - 1}, Host: "db1", Slow: 1}

// pushOrDrop pushes a segment of a host that may give it up.
func (h *host) pushOrDrop(t testing.TB, repo catalog.Cluster, name string, drop DropOptions) (DropResult, error) {
	t.Helper()
	return PushOrDrop(t.Context(), repo, filepath.Join(h.pgWAL, name), h.aheadOptions(1), drop)
}

// asked counts the requests of a store that never answers.
type asked int

func (a *asked) awayFor(h *host, fault error) catalog.Cluster {
	return h.through(func(string, string) error {
		*a++
		return fault
	})
}

// gapsOf renders the gaps in the repository.
func gapsOf(t testing.TB, repo catalog.Cluster) string {
	t.Helper()
	gaps, err := repo.Gaps(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, g := range gaps {
		text = append(text, fmt.Sprintf("%s-%s by %s", g.First, g.Last, g.Host))
	}
	return strings.Join(text, ", ")
}

// TestDrop: segments are given up while the repository is away; when it is back,
// it learns of them, once.
func TestDrop(t *testing.T) {
	for _, fault := range []error{storage.ErrUnavailable, storage.ErrDenied, storage.ErrConfig, context.DeadlineExceeded} {
		h := newHost(t)
		h.introduce(t)
		h.segments(t, 2, 6)
		var n asked
		away := n.awayFor(h, fault)
		began := time.Now().Add(-time.Minute)
		for _, s := range []int{2, 3, 5} {
			res, err := h.pushOrDrop(t, away, segmentName(s), tight)
			if err != nil || res.Dropped == nil || !strings.Contains(res.Dropped.Error(), "pg_wal holds 6291456 bytes") {
				t.Fatalf("%+v, %v", res, err)
			}
			if !slices.Contains(dirNames(t, filepath.Join(h.spool.Dir(), h.notes().dir())), segmentName(s)) {
				t.Errorf("%s is given up, and nothing says so", segmentName(s))
			}
		}
		if n != 1 {
			t.Errorf("asked %d times within a moment", n)
		}
		ageAway(t, h)
		var seen requests
		repo := catalog.Open(seen.of(h.repo.Store), testSystemID)
		res, err := h.pushOrDrop(t, repo, segmentName(6), tight)
		if err != nil || res.Dropped != nil || res.GapsError != nil || len(res.Gaps) != 2 {
			t.Errorf("storage is back: %+v, %v", res, err)
		}
		want := fmt.Sprintf("%s-%s by db1, %s-%s by db1", segmentName(2), segmentName(3), segmentName(5), segmentName(5))
		if got := gapsOf(t, h.repo); got != want {
			t.Errorf("gaps: %s", got)
		}
		if made := strings.Count(seen.take(), "create"); made != 3 {
			t.Errorf("created %d objects", made)
		}
		if left := dirNames(t, filepath.Join(h.spool.Dir(), h.notes().dir())); len(left) != 0 {
			t.Errorf("notes are left: %v", left)
		}
		for _, g := range res.Gaps {
			if g.NotedAt.Before(began) || time.Since(g.NotedAt) < 0 || !strings.Contains(g.Reason, fault.Error()) && !strings.Contains(g.Reason, "a moment ago") {
				t.Errorf("%+v", g)
			}
		}
		h.segments(t, 7, 7)
		if res, err := h.pushOrDrop(t, h.repo, segmentName(7), tight); err != nil || len(res.Gaps) != 0 {
			t.Errorf("again: %+v, %v", res, err)
		}
	}
}

// ageAway lets storage be worth a question again.
func ageAway(t *testing.T, h *host) {
	t.Helper()
	marks, err := filepath.Glob(filepath.Join(h.spool.Dir(), "mark-away-*"))
	if err != nil || len(marks) != 1 {
		t.Fatalf("marks: %v, %v", marks, err)
	}
	at := time.Now().Add(-awayLife)
	if err := os.Chtimes(marks[0], at, at); err != nil {
		t.Fatal(err)
	}
}

// TestDropOnlyWhenAllowed: never without the option, below the limit, for a
// refusal or a conflict, for anything but a segment, when the call was cancelled,
// or when the gap can't be noted.
func TestDropOnlyWhenAllowed(t *testing.T) {
	wide := DropOptions{Over: Limit{bytes: 3 << 20}}
	for what, c := range map[string]struct {
		fault error
		name  string
		drop  DropOptions
		harm  func(t *testing.T, h *host, path string)
	}{
		"no option":         {fault: storage.ErrUnavailable},
		"below the limit":   {fault: storage.ErrUnavailable, drop: wide},
		"a conflict":        {fault: catalog.ErrConflict, drop: tight},
		"cancelled":         {fault: context.Canceled, drop: tight},
		"who knows":         {fault: errors.New("who knows"), drop: tight},
		"a damaged answer":  {fault: storage.ErrCorrupt, drop: tight},
		"a history":         {fault: storage.ErrUnavailable, drop: tight, name: "00000002.history"},
		"a partial segment": {fault: storage.ErrUnavailable, drop: tight, name: segmentName(2) + ".partial"},
		"a backup's file":   {fault: storage.ErrUnavailable, drop: tight, name: segmentName(5) + ".00000028.backup"},
		"another's segment": {fault: storage.ErrUnavailable, drop: tight, harm: func(t *testing.T, h *host, path string) {
			h.write(t, filepath.Base(path), segmentOf(t, segmentName(9), small, 1))
		}},
		"no place for the note": {fault: storage.ErrUnavailable, drop: tight, harm: func(t *testing.T, h *host, _ string) {
			if err := os.WriteFile(filepath.Join(h.spool.Dir(), "gaps"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.introduce(t)
			h.segments(t, 2, 3)
			h.write(t, "00000002.history", []byte(historyText))
			h.write(t, segmentName(5)+".00000028.backup", []byte(backupText))
			name := segmentName(2)
			if c.name != "" {
				name = c.name
			}
			if strings.HasSuffix(name, ".partial") {
				if err := os.Rename(filepath.Join(h.pgWAL, segmentName(2)), filepath.Join(h.pgWAL, name)); err != nil {
					t.Fatal(err)
				}
			}
			if c.harm != nil {
				c.harm(t, h, filepath.Join(h.pgWAL, name))
			}
			away := h.through(func(string, string) error { return c.fault })
			for range 2 {
				res, err := h.pushOrDrop(t, away, name, c.drop)
				if err == nil || res.Dropped != nil {
					t.Errorf("%+v, %v", res, err)
				}
			}
			if left := dirNames(t, filepath.Join(h.spool.Dir(), h.notes().dir())); len(left) != 0 {
				t.Errorf("noted: %v", left)
			}
		})
	}
}

// TestDropNothingThatIsRefused, also when storage need not be asked.
func TestDropNothingThatIsRefused(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 4)
	away := h.through(func(string, string) error { return storage.ErrUnavailable })
	if res, err := h.pushOrDrop(t, away, segmentName(2), tight); err != nil || res.Dropped == nil {
		t.Fatalf("%+v, %v", res, err)
	}
	h.write(t, segmentName(3), segmentOf(t, segmentName(9), small, 1))
	_, err := h.pushOrDrop(t, away, segmentName(3), tight)
	mustBe(t, err, ErrRefused)
}

// TestDropNothingThatIsStored: a record is as good as ever.
func TestDropNothingThatIsStored(t *testing.T) {
	h, path := aRecord(t)
	h.segments(t, 4, 6)
	away := h.through(func(string, string) error { return storage.ErrUnavailable })
	if res, err := h.pushOrDrop(t, away, segmentName(4), tight); err != nil || res.Dropped == nil {
		t.Fatalf("%+v, %v", res, err)
	}
	if res, err := h.pushOrDrop(t, away, filepath.Base(path), tight); err != nil || res.Dropped != nil || !res.Recorded {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestDropHurries: while segments are being given up, the store that soon gives
// up is asked; it is not when there is room again.
func TestDropHurries(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 6)
	var patient, hasty asked
	slow := patient.awayFor(h, storage.ErrUnavailable)
	drop := tight
	drop.Hasty = hasty.awayFor(h, storage.ErrUnavailable).Store
	for _, s := range []int{2, 3, 4} {
		if res, err := h.pushOrDrop(t, slow, segmentName(s), drop); err != nil || res.Dropped == nil {
			t.Fatalf("%+v, %v", res, err)
		}
		ageAway(t, h)
	}
	if patient != 1 || hasty != 2 {
		t.Errorf("asked %d times with patience, %d times without", patient, hasty)
	}
	for _, s := range []int{2, 3, 4} {
		if err := os.Remove(filepath.Join(h.pgWAL, segmentName(s))); err != nil {
			t.Fatal(err)
		}
	}
	drop.Over = Limit{bytes: 1 << 30}
	if res, err := h.pushOrDrop(t, slow, segmentName(5), drop); err == nil || patient != 2 || hasty != 2 {
		t.Errorf("%+v, %v; asked %d and %d times", res, err, patient, hasty)
	}
}

// TestGapsAreNotForgotten: what the repository didn't take stays noted, also a
// note that can't be read.
func TestGapsAreNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.introduce(t)
		h.segments(t, 2, 9)
		n := h.notes()
		for _, s := range []int{2, 4, 5} {
			if err := n.add(fileNameOf(s).Segment, "because", "db1"); err != nil {
				t.Fatal(err)
			}
		}
		for name, content := range map[string]string{segmentName(6): "half", segmentName(8): `{"format":2}`, "README": "x"} {
			if err := h.spool.WriteFile(n.path(name), []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		failing := h.through(func(op, key string) error {
			if strings.Contains(key, "gaps/"+segmentName(4)) {
				return storage.ErrUnavailable
			}
			return nil
		})
		res, err := h.pushOrDrop(t, failing, segmentName(3), DropOptions{})
		if err != nil || !errors.Is(res.GapsError, storage.ErrUnavailable) || len(res.Gaps) != 1 {
			t.Errorf("%+v, %v", res, err)
		}
		if left := dirNames(t, filepath.Join(h.spool.Dir(), n.dir())); len(left) != 5 {
			t.Errorf("notes: %v", left)
		}
		res, err = h.pushOrDrop(t, h.repo, segmentName(7), DropOptions{})
		if err != nil || res.GapsError != nil {
			t.Errorf("%+v, %v", res, err)
		}
		want := fmt.Sprintf("%s-%s by db1, %s-%s by db1, %s-%s by ", segmentName(2), segmentName(2), segmentName(4), segmentName(6), segmentName(8), segmentName(8))
		if got := gapsOf(t, h.repo); got != want {
			t.Errorf("gaps: %s", got)
		}
		if left := dirNames(t, filepath.Join(h.spool.Dir(), n.dir())); !slices.Equal(left, []string{"README"}) {
			t.Errorf("notes: %v", left)
		}
	})
}

// TestDropAsksWhatFailsAtOnce: storage that is back is used again for the very next
// segment, unless waiting for it took long.
func TestDropAsksWhatFailsAtOnce(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 6)
	var n asked
	drop := tight
	drop.Slow = time.Hour
	if res, err := h.pushOrDrop(t, n.awayFor(h, storage.ErrConfig), segmentName(2), drop); err != nil || res.Dropped == nil {
		t.Fatalf("%+v, %v", res, err)
	}
	if res, err := h.pushOrDrop(t, h.repo, segmentName(3), drop); err != nil || res.Dropped != nil {
		t.Errorf("storage is back: %+v, %v", res, err)
	}
}
