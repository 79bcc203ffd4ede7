package wal_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"walden/postgres/wal"
)

func TestHistoryOfServers(t *testing.T) {
	eachCaptured(t, func(t *testing.T, c captured) {
		h, err := wal.ParseHistory(2, c.read(t, "00000002.history"))
		want := []wal.Ancestor{{Timeline: 1, End: mustLSN(t, c.parents), Reason: "no recovery target specified"}}
		if err != nil || h.Timeline != 2 || !reflect.DeepEqual(h.Ancestors, want) {
			t.Errorf("history of timeline 2: %+v, %v; want %+v", h, err, want)
		}

		// Recovery followed timeline 2, but stopped before that begins.
		h, err = wal.ParseHistory(3, c.read(t, "00000003.history"))
		if err != nil || len(h.Ancestors) != 2 {
			t.Fatalf("history of timeline 3: %+v, %v", h, err)
		}
		fork := mustLSN(t, c.fork)
		if a := h.Ancestors[1]; a.Timeline != 2 || a.End != fork || !strings.HasPrefix(a.Reason, "after LSN ") || fork >= h.Ancestors[0].End {
			t.Errorf("history of timeline 3 comes from timeline 2 by %+v", a)
		}
		if before, at := h.TimelineAt(fork-1), h.TimelineAt(fork); before != 1 || at != 3 {
			t.Errorf("timeline before and at the fork is %v and %v, want 1 and 3", before, at)
		}
	})
}

func TestParseHistory(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       []wal.Ancestor
	}{
		{"empty", "", nil},
		{"as written", "1\t0/3000000\tno recovery target specified\n\n2\t1/A0000028\tbefore 2000-01-01 00:00:00+00\n",
			[]wal.Ancestor{{1, 0x3000000, "no recovery target specified"}, {2, 0x1A0000028, "before 2000-01-01 00:00:00+00"}}},
		{"spaces", "  1   0/3000000   by  hand\t x \n", []wal.Ancestor{{1, 0x3000000, "by  hand\t x"}}},
		{"no reason, no newline", "1\t0/3000000", []wal.Ancestor{{1, 0x3000000, ""}}},
		{"comments", "# 1\t0/1\tno\n \t# no\n1\t0/3000000\ta # b\n\n \n", []wal.Ancestor{{1, 0x3000000, "a # b"}}},
		{"carriage returns", "1\t0/3000000\tx\r\n\r\n2\t0/4000000\r\n", []wal.Ancestor{{1, 0x3000000, "x"}, {2, 0x4000000, ""}}},
		{"gaps", "1 0/1 a\n4 0/1 b\n9 0/1 c\n", []wal.Ancestor{{1, 1, "a"}, {4, 1, "b"}, {9, 1, "c"}}},
	} {
		h, err := wal.ParseHistory(10, []byte(c.data))
		if err != nil || h.Timeline != 10 || !reflect.DeepEqual(h.Ancestors, c.want) {
			t.Errorf("%s: %+v, %v; want %+v", c.name, h, err, c.want)
		}
	}
}

func TestParseHistoryRefuses(t *testing.T) {
	for name, data := range map[string]string{
		"no timeline":         "x\t0/3000000\treason\n",
		"hexadecimal":         "A\t0/3000000\treason\n",
		"no switch point":     "1\n",
		"half a switch point": "1\t0/\n",
		"swapped fields":      "0/3000000\t1\n",
		"glued fields":        "1,0/3000000\n",
		"sign":                "-1\t0/3000000\n",
		"timeline 0":          "0\t0/3000000\n",
		"timeline too large":  "4294967297\t0/3000000\n",
		"switch point large":  "1\t0/300000000\n",
		"same timeline twice": "1\t0/3000000\n1\t0/4000000\n",
		"descending":          "2\t0/3000000\n1\t0/4000000\n",
		"itself":              "10\t0/3000000\n",
		"younger than itself": "1\t0/1\n11\t0/3000000\n",
		"binary":              "\x00\x00\x00\x00",
	} {
		if h, err := wal.ParseHistory(10, []byte(data)); !errors.Is(err, wal.ErrSyntax) || h.Timeline != 0 {
			t.Errorf("%s: %+v, %v; want ErrSyntax", name, h, err)
		}
	}
}

func TestHistoryPath(t *testing.T) {
	h, err := wal.ParseHistory(5, []byte("1\t0/3000000\n3\t0/5000000\n4\t0/5000000\n"))
	if err != nil {
		t.Fatal(err)
	}
	for lsn, want := range map[wal.LSN]wal.Timeline{
		0: 1, 0x2FFFFFF: 1, 0x3000000: 3, 0x4FFFFFF: 3, 0x5000000: 5, 1<<64 - 1: 5, // nothing of 4 is on the path
	} {
		if got := h.TimelineAt(lsn); got != want {
			t.Errorf("timeline at %v is %v, want %v", lsn, got, want)
		}
		for tli := range wal.Timeline(7) {
			if got := h.Contains(tli, lsn); got != (tli == want) {
				t.Errorf("Contains(%v, %v) = %v", tli, lsn, got)
			}
		}
	}
	for tli, want := range map[wal.Timeline]wal.LSN{1: 0x3000000, 3: 0x5000000, 4: 0x5000000} {
		if got, ok := h.SwitchPoint(tli); !ok || got != want {
			t.Errorf("timeline %v is left at %v, %v; want %v", tli, got, ok, want)
		}
	}
	for _, tli := range []wal.Timeline{0, 2, 5, 6} {
		if got, ok := h.SwitchPoint(tli); ok {
			t.Errorf("timeline %v is left at %v", tli, got)
		}
	}
}

// scan is tliOfPointInHistory as it stands in timeline.c, newest first, for comparison.
func scan(h wal.History, lsn wal.LSN) (tli wal.Timeline, found bool) {
	type entry struct {
		tli        wal.Timeline
		begin, end wal.LSN
	}
	var entries []entry
	var begin wal.LSN
	for _, a := range h.Ancestors {
		entries = append(entries, entry{a.Timeline, begin, a.End})
		begin = a.End
	}
	entries = append(entries, entry{h.Timeline, begin, 0})
	for _, e := range slices.Backward(entries) {
		if (e.begin == 0 || e.begin <= lsn) && (e.end == 0 || lsn < e.end) {
			return e.tli, true
		}
	}
	return 0, false
}

func FuzzParseHistory(f *testing.F) {
	for _, c := range allCaptured() {
		f.Add(uint32(3), c.read(f, "00000003.history"))
		f.Add(uint32(2), c.read(f, "00000002.history"))
	}
	f.Add(uint32(9), []byte("# x\n1 0/0 y\n\n  7\t0/9\r\n"))
	f.Fuzz(func(t *testing.T, tli uint32, data []byte) {
		h, err := wal.ParseHistory(wal.Timeline(tli), data)
		if err != nil {
			if !errors.Is(err, wal.ErrSyntax) {
				t.Fatalf("%v is not ErrSyntax", err)
			}
			return
		}
		last := wal.Timeline(0)
		for _, a := range h.Ancestors {
			if a.Timeline <= last || a.Timeline >= h.Timeline {
				t.Fatalf("ancestors of %v: %+v", tli, h.Ancestors)
			}
			last = a.Timeline
			for _, lsn := range []wal.LSN{a.End - 1, a.End, a.End + 1} {
				if want, found := scan(h, lsn); !found || h.TimelineAt(lsn) != want {
					t.Fatalf("timeline at %v of %+v is %v; PostgreSQL says %v, %v", lsn, h, h.TimelineAt(lsn), want, found)
				}
			}
		}
	})
}

func TestHistoryAfter(t *testing.T) {
	h, err := wal.ParseHistory(7, []byte("1\t0/3000000\tx\n2\t0/5000000\tx\n5\t0/4000000\tx\n"))
	if err != nil {
		t.Fatal(err)
	}
	for tli, want := range map[wal.Timeline]wal.Timeline{1: 2, 2: 5, 5: 7, 7: 0, 3: 0, 0: 0} {
		if got := h.After(tli); got != want {
			t.Errorf("after %d comes %d, want %d", tli, got, want)
		}
	}
}
