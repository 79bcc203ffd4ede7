package archive

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walden/catalog"
	"walden/storage"
)

// TestBackfill: all that is complete and lacking is stored, whatever its mark;
// what PostgreSQL still writes is not.
func TestBackfill(t *testing.T) {
	h := newHost(t)
	for n := 1; n <= 9; n++ {
		h.write(t, segmentName(n), segmentOf(t, segmentName(n), small, uint64(n)))
	}
	h.push(t, segmentName(2), segmentOf(t, segmentName(2), small, 2))
	h.push(t, segmentName(5), segmentOf(t, segmentName(5), small, 5))
	for n := 1; n <= 7; n++ {
		h.status(t, segmentName(n)+".done")
	}
	h.status(t, segmentName(8)+".ready", segmentName(11)+".done") // the last one is gone already
	h.write(t, "00000002.history", []byte(historyText))
	h.write(t, segmentName(5)+".00000028.backup", []byte(backupText))
	h.write(t, segmentName(6)+".00000028.backup", []byte("half a la"))
	h.write(t, segmentName(7)+".partial", segmentOf(t, segmentName(7), small, 7))
	h.status(t, segmentName(5)+".00000028.backup.done", segmentName(7)+".partial.ready")
	const child = "000000020000000000000003"
	h.write(t, child, segmentOf(t, child, small, 3))
	h.status(t, child+".done")
	before := dirNames(t, statusDir(h.pgWAL))

	opts := h.pushOptions()
	opts.Spool = nil
	var seen requests
	res, err := Backfill(t.Context(), catalog.Open(seen.of(h.repo.Store), testSystemID), h.pgWAL, 2, opts)
	want := []string{"00000002.history", segmentName(1), segmentName(3), segmentName(4), segmentName(5) + ".00000028.backup",
		segmentName(6), segmentName(7), segmentName(7) + ".partial", segmentName(8), child}
	if err != nil || !slices.Equal(res.Stored, want) || res.Looked != 12 {
		t.Errorf("%+v, %v", res, err)
	}
	if lists := strings.Count(seen.take(), "list"); lists != 2 {
		t.Errorf("%d listings of 2 timelines", lists)
	}
	if h.holds(t, segmentName(9)) {
		t.Error("stored what PostgreSQL still writes")
	}
	for n := 1; n <= 8; n++ {
		dst := filepath.Join(t.TempDir(), "dst")
		if err := Fetch(t.Context(), h.repo, fileNameOf(n), dst, h.fetchOptions()); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, segmentOf(t, segmentName(n), small, uint64(n)))
	}
	again, err := Backfill(t.Context(), h.repo, h.pgWAL, 2, h.pushOptions())
	if err != nil || len(again.Stored) != 0 || again.Looked != 12 {
		t.Errorf("again: %+v, %v", again, err)
	}
	h.mustKeepStatus(t, before)
}

// TestBackfillGoesOn: a file that can't be stored is reported, and the others are
// stored.
func TestBackfillGoesOn(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 6)
	h.write(t, segmentName(3), segmentOf(t, segmentName(9), small, 3))
	h.write(t, segmentName(5), nil)
	res, err := Backfill(t.Context(), h.repo, h.pgWAL, 3, h.pushOptions())
	mustBe(t, err, ErrRefused)
	mustSay(t, err, segmentName(3), segmentName(5))
	if !slices.Equal(res.Stored, []string{segmentName(2), segmentName(4), segmentName(6)}) {
		t.Errorf("%+v", res)
	}
	h.segments(t, 3, 3)
	_, err = Backfill(t.Context(), h.repo, h.pgWAL, 3, h.pushOptions())
	mustBe(t, err, ErrRefused)
	h.segments(t, 5, 5)
	if res, err := Backfill(t.Context(), h.repo, h.pgWAL, 3, h.pushOptions()); err != nil || len(res.Stored) != 1 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestBackfillStoreErrors lets every request fail in turn: never is that a
// success.
func TestBackfillStoreErrors(t *testing.T) {
	for _, fault := range []error{storage.ErrUnavailable, context.Canceled} {
		for at := 1; ; at++ {
			h := newHost(t)
			h.segments(t, 1, 2)
			h.write(t, "00000002.history", []byte(historyText))
			opts := h.pushOptions()
			opts.Spool = nil
			reached, err := failAt(t, h, at, fault, func(repo catalog.Cluster) error {
				_, err := Backfill(t.Context(), repo, h.pgWAL, 1, opts)
				return err
			})
			if !reached {
				if err != nil {
					t.Error(err)
				}
				break
			}
		}
	}
}

// TestBackfillTellsOfGaps, and closes those whose WAL was still there.
func TestBackfillTellsOfGaps(t *testing.T) {
	h := newHost(t)
	h.introduce(t)
	h.segments(t, 2, 3)
	if err := h.notes().add(fileNameOf(2).Segment, "because", "db1"); err != nil {
		t.Fatal(err)
	}
	res, err := Backfill(t.Context(), h.repo, h.pgWAL, 0, h.pushOptions())
	if err != nil || len(res.Gaps) != 1 || res.GapsError != nil || !h.holds(t, segmentName(2)) {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestBackfillWithoutPlace(t *testing.T) {
	h := newHost(t)
	if _, err := Backfill(t.Context(), h.repo, filepath.Join(h.pgWAL, "none"), 1, h.pushOptions()); err == nil {
		t.Error("no error")
	}
	if res, err := Backfill(t.Context(), h.repo, h.pgWAL, 1, h.pushOptions()); err != nil || res.Looked != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if err := os.WriteFile(statusDir(h.pgWAL), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Backfill(t.Context(), h.repo, h.pgWAL, 1, h.pushOptions()); err == nil {
		t.Error("no error where archive_status can't be read")
	}
}
