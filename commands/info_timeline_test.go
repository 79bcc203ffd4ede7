package commands

import (
	"testing"

	"walden/catalog"
	"walden/postgres/wal"
)

// TestParentLacks: the WAL of a parent has to reach the segment in which it was
// left, which is the child's.
func TestParentLacks(t *testing.T) {
	const size = 16 << 20
	segment := func(name string) wal.Segment {
		s, err := wal.ParseSegment(name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	child := func(at wal.LSN) catalog.Timeline {
		return catalog.Timeline{ID: 2, History: &wal.History{Timeline: 2, Ancestors: []wal.Ancestor{{Timeline: 1, End: at}}}}
	}
	parent := catalog.Timeline{ID: 1, Ranges: []catalog.Range{{First: segment("000000010000000000000001"), Last: segment("000000010000000000000003")}}}
	for at, want := range map[wal.LSN]string{
		0x2000000: "",                         // left in the middle of what is there
		0x4000000: "",                         // left at the end of what is there
		0x4000028: "",                         // left in the segment behind
		0x5000000: "000000010000000000000004", // that was finished
		0x9000000: "000000010000000000000004",
	} {
		got := ""
		if s := parentLacks(child(at), []catalog.Timeline{parent, child(at)}, size); s != nil {
			got = s.String()
		}
		if got != want {
			t.Errorf("left at %s: lacks %q, want %q", at, got, want)
		}
	}
	if s := parentLacks(parent, []catalog.Timeline{parent}, size); s != nil {
		t.Errorf("without a parent: %s", s)
	}
	if s := parentLacks(child(0x9000000), []catalog.Timeline{child(0x9000000)}, size); s != nil {
		t.Errorf("nothing of the parent is there: %s", s)
	}
}
