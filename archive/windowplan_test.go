package archive

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"walden/postgres/wal"
)

// short reads segments of 1 MB in a notation of its own: "1:3" is number 3 of timeline 1.
func short(t testing.TB, text string) []wal.Segment {
	t.Helper()
	var all []wal.Segment
	for word := range strings.FieldsSeq(text) {
		timeline, number, ok := strings.Cut(word, ":")
		if !ok || len(timeline) != 1 {
			t.Fatalf("%q is no segment", word)
		}
		n := uint64(0)
		for _, digit := range number {
			n = 10*n + uint64(digit-'0')
		}
		all = append(all, wal.NumberedSegment(wal.Timeline(timeline[0]-'0'), n, small))
	}
	return all
}

func TestPlanWindow(t *testing.T) {
	for what, c := range map[string]struct {
		asked, present string
		ahead          int
		want, remove   string
	}{
		"empty":          {"1:3", "", 4, "1:4 1:5 1:6 1:7", ""},
		"full":           {"1:3", "1:4 1:5 1:6 1:7", 4, "", ""},
		"one is missing": {"1:3", "1:4 1:6 1:7", 4, "1:5", ""},
		"what was asked for may be on its way out": {"1:3", "1:3 1:4", 2, "1:5", ""},
		"behind": {"1:3", "1:1 1:2 1:3", 1, "1:4", "1:1 1:2"},
		"beyond": {"1:3", "1:5 1:6 1:9", 2, "1:4", "1:6 1:9"},
		"recovery has begun anew from further back": {"1:3", "1:20 1:21", 2, "1:4 1:5", "1:20 1:21"},
		"across logs": {"1:4094", "", 3, "1:4095 1:4096 1:4097", ""},
		"an older timeline is never asked for again":  {"2:3", "1:3 1:4 1:5 2:4", 3, "2:5 2:6", "1:3 1:4 1:5"},
		"a newer timeline's may be asked for next":    {"1:3", "2:4 1:4", 4, "1:5 1:6", ""},
		"newer ones keep half of the window":          {"1:3", "2:4 3:4 2:5 2:6", 4, "1:4 1:5", "2:5 2:6"},
		"and none where there is no half":             {"1:3", "2:4", 1, "1:4", "2:4"},
		"newer ones behind and beyond":                {"1:3", "2:2 2:8", 4, "1:4 1:5 1:6 1:7", "2:2 2:8"},
		"what is asked for, of a newer timeline, too": {"1:3", "2:3", 4, "1:4 1:5 1:6", ""},
		"no window": {"1:3", "1:4", 0, "", "1:4"},
	} {
		got := planWindow(short(t, c.asked)[0], short(t, c.present), c.ahead, small)
		if !slices.Equal(got.want, short(t, c.want)) || !slices.Equal(got.remove, short(t, c.remove)) {
			t.Errorf("%s: want %v, remove %v", what, got.want, got.remove)
		}
	}
}

func TestPlanWindowAtTheEndOfAllAddresses(t *testing.T) {
	last := wal.Segment{Timeline: 1, Log: 0xFFFFFFFF, Seg: 0xFFE}
	if got := planWindow(last, nil, 8, small); !slices.Equal(got.want, []wal.Segment{last.Next(small)}) {
		t.Errorf("want %v", got.want)
	}
}

// TestPlanWindowBounds: whatever lies there, what is kept and what comes never exceed the window, nothing is
// fetched twice, and a second plan has nothing to remove.
func TestPlanWindowBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 7))
	for range 20_000 {
		ahead := rnd.IntN(10)
		asked := wal.NumberedSegment(wal.Timeline(1+rnd.IntN(3)), uint64(4090+rnd.IntN(10)), small)
		present := map[wal.Segment]bool{}
		for range rnd.IntN(20) {
			present[wal.NumberedSegment(wal.Timeline(1+rnd.IntN(3)), uint64(4085+rnd.IntN(30)), small)] = true
		}
		var there []wal.Segment
		for s := range present {
			there = append(there, s)
		}
		p := planWindow(asked, there, ahead, small)
		for _, s := range p.remove {
			if !present[s] {
				t.Fatalf("remove %s, which is not there", s)
			}
			delete(present, s)
		}
		for _, s := range p.want {
			if present[s] || s.Timeline != asked.Timeline {
				t.Fatalf("want %s", s)
			}
			present[s] = true
		}
		delete(present, asked)
		if len(present) > ahead {
			t.Fatalf("the window of %d comes to hold %v", ahead, present)
		}
		there = there[:0]
		for s := range present {
			there = append(there, s)
		}
		if again := planWindow(asked, there, ahead, small); len(again.want)+len(again.remove) != 0 {
			t.Fatalf("after %v: %v", p, again)
		}
	}
}

func TestDueAfter(t *testing.T) {
	for what, c := range map[string]struct {
		handed, end, present string
		want                 bool
	}{
		"the first":                               {"1:3", "", "", true},
		"full":                                    {"1:3", "", "1:4 1:5 1:6 1:7", false},
		"half full":                               {"1:3", "", "1:4 1:5", false},
		"less than half":                          {"1:3", "", "1:4", true},
		"one is missing in front":                 {"1:3", "", "1:5 1:6 1:7", true},
		"others'":                                 {"1:3", "", "2:4 2:5 2:6", true},
		"it was waited for":                       {"1:3", "1:3", "", false},
		"only the end is missing":                 {"1:3", "1:5", "1:4", false},
		"the end is right behind":                 {"1:3", "1:4", "", false},
		"the second after an end":                 {"1:4", "1:3", "", true},
		"there is something to fetch before":      {"1:3", "1:6", "1:4", true},
		"an end of long ago":                      {"1:9", "1:3", "", true},
		"an end further on, of an older recovery": {"1:3", "1:100", "", true},
	} {
		var end wal.Segment
		if c.end != "" {
			end = short(t, c.end)[0]
		}
		if got := dueAfter(short(t, c.handed)[0], end, short(t, c.present), 4, small); got != c.want {
			t.Errorf("%s: %v", what, got)
		}
	}
}
