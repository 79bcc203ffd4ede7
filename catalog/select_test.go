package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"walden/codec"
	"walden/postgres/wal"
)

var day0 = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

// atHour is a moment on the clock of the stories below: a backup taken in an
// hour ends in it.
func atHour(h float64) time.Time { return day0.Add(time.Duration(h * float64(time.Hour))) }

// backupAt is a complete backup that ended in that hour at LSN hour/100, when
// transaction 100*hour was the next.
func backupAt(hour int, timeline wal.Timeline) Backup {
	stop := wal.LSN(hour)<<32 | 0x100
	size := wal.DefaultSegmentSize
	return Backup{ID: idAt(hour), Status: StatusComplete, Commit: &Commit{
		ID: idAt(hour), StoppedAt: atHour(float64(hour)), NextXID: uint64(100 * hour), SegmentSize: size,
		WAL: WALNeed{Timeline: timeline, StartLSN: stop - 0x50, StopLSN: stop,
			First: wal.SegmentAt(timeline, stop-0x50, size), Last: wal.SegmentBefore(timeline, stop, size)},
	}}
}

func idAt(hour int) string {
	return fmt.Sprintf("%s-%04x", atHour(float64(hour)).Format("20060102T150405Z"), hour)
}

func withStatus(b Backup, s Status) Backup {
	b.Status, b.Reason = s, "because"
	if s == StatusUnfinished {
		b.Commit = nil
	}
	return b
}

// branch is a timeline that leaves its parents at LSNs hour/0.
func branch(id wal.Timeline, parents ...int) Timeline {
	h := wal.History{Timeline: id}
	for i := 0; i < len(parents); i += 2 {
		h.Ancestors = append(h.Ancestors, wal.Ancestor{Timeline: wal.Timeline(parents[i]), End: wal.LSN(parents[i+1]) << 32})
	}
	return Timeline{ID: id, History: &h}
}

func TestChoose(t *testing.T) {
	one := []Timeline{{ID: 1}}
	straight := []Backup{backupAt(1, 1), backupAt(2, 1), backupAt(3, 1)}
	// The primary of timeline 1 went on after its standby was promoted at 5/0,
	// and took backup 6. Timeline 3 began from timeline 1 at 3/0, by a restore
	// to a point before: backup 2 alone leads to it.
	forks := []Timeline{{ID: 1}, branch(2, 1, 5), branch(3, 1, 3)}
	forked := []Backup{backupAt(2, 1), backupAt(4, 1), backupAt(6, 1), backupAt(7, 2)}
	two := []Timeline{{ID: 1}, branch(2, 1, 5)}
	chain := []Timeline{{ID: 1}, branch(2, 1, 5), branch(3, 1, 5, 2, 8)}
	chained := []Backup{backupAt(2, 1), backupAt(6, 2), backupAt(9, 2), backupAt(10, 3)}
	damagedHistory := []Timeline{{ID: 1}, {ID: 2, HistoryError: codec.ErrCorrupt}}
	gap := []Timeline{{ID: 1}, branch(2, 1, 5), {ID: 3}, branch(4, 1, 5, 2, 8, 3, 9)}
	leftAtTheEnd := []Timeline{{ID: 1}, {ID: 2, History: &wal.History{Timeline: 2,
		Ancestors: []wal.Ancestor{{Timeline: 1, End: backupAt(5, 1).Commit.WAL.StopLSN}}}}}
	leftJustBefore := []Timeline{{ID: 1}, {ID: 2, History: &wal.History{Timeline: 2,
		Ancestors: []wal.Ancestor{{Timeline: 1, End: backupAt(5, 1).Commit.WAL.StopLSN - 1}}}}}
	for _, c := range []struct {
		name      string
		backups   []Backup
		timelines []Timeline
		target    Target
		want      int // hour of the backup; 0: unreachable
		why       string
	}{
		{"the newest", straight, one, Target{}, 3, ""},
		{"nothing there", nil, nil, Target{}, 0, "there is none"},
		{"a running one is none", append(slices.Clone(straight), withStatus(backupAt(4, 1), StatusUnfinished)), one, Target{}, 3, ""},
		{"one that waits for WAL is none", append(slices.Clone(straight), withStatus(backupAt(4, 1), StatusWaiting)), one, Target{}, 3, ""},
		{"a damaged one is none", append(slices.Clone(straight), withStatus(backupAt(4, 1), StatusDamaged)), one, Target{}, 3, ""},
		{"only a running one", []Backup{withStatus(backupAt(4, 1), StatusUnfinished)}, one, Target{}, 0, "is unfinished (because)"},
		{"the reason of a complete one counts", []Backup{backupAt(3, 1), withStatus(backupAt(4, 1), StatusUnfinished)}, one,
			Target{Time: atHour(1)}, 0, idAt(3) + " ended at"},

		{"time between", straight, one, Target{Time: atHour(2.5)}, 2, ""},
		{"time of the end", straight, one, Target{Time: atHour(2)}, 2, ""},
		{"time just before the end", straight, one, Target{Time: atHour(2).Add(-time.Microsecond)}, 1, ""},
		{"time after all", straight, one, Target{Time: atHour(99)}, 3, ""},
		{"time before all", straight, one, Target{Time: atHour(0.5)}, 0, "after the target time"},
		{"LSN between", straight, one, Target{LSN: 2<<32 | 0x200}, 2, ""},
		{"LSN of the end", straight, one, Target{LSN: 2<<32 | 0x100}, 2, ""},
		{"LSN just before the end", straight, one, Target{LSN: 2<<32 | 0xff}, 1, ""},
		{"LSN before all", straight, one, Target{LSN: 5}, 0, "after the target LSN 0/5"},
		{"xid between", straight, one, Target{XID: 250}, 2, ""},
		{"xid that was the next", straight, one, Target{XID: 200}, 2, ""},
		{"xid just before", straight, one, Target{XID: 199}, 1, ""},
		{"xid before all", straight, one, Target{XID: 99}, 0, "transaction 300 was the next"},
		{"xid with the epoch", straight, one, Target{XID: 5<<32 | 250}, 2, ""},
		{"immediate", straight, one, Target{Immediate: true}, 3, ""},
		{"name with one candidate", straight[:1], one, Target{Name: "x"}, 1, ""},

		{"newest timeline, not the newest backup", forked, forks, Target{}, 2, ""},
		{"timeline 2 by number", forked, forks, Target{Timeline: 2}, 7, ""},
		{"timeline 2 before its own backup", forked, forks, Target{Timeline: 2, Time: atHour(6.5)}, 4, ""},
		{"the old primary's leftover is not on timeline 2", forked[:3], two, Target{}, 4, ""},
		{"the old primary's leftover by timeline 1", forked, forks, Target{Timeline: 1}, 6, ""},
		{"the old primary's leftover at once", forked[:3], two, Target{Immediate: true}, 6, ""},
		{"the newest backup along its own timeline", forked, forks, Target{Current: true}, 7, ""},
		{"the newest backup before, along its own timeline", forked, forks, Target{Current: true, LSN: 6<<32 | 0x200}, 6, ""},
		{"only the leftover", forked[2:3], two, Target{}, 0, "does not lead to timeline 00000002"},
		{"left where the backup ended", []Backup{backupAt(5, 1)}, leftAtTheEnd, Target{}, 5, ""},
		{"left a byte before the backup ended", []Backup{backupAt(5, 1)}, leftJustBefore, Target{}, 0, "does not lead to timeline 00000002"},
		{"a chain of three", chained, chain, Target{}, 10, ""},
		{"a chain of three, by way of the second", chained, chain, Target{LSN: 8 << 32}, 6, ""},
		{"a chain of three, from the first", chained, chain, Target{LSN: 5 << 32}, 2, ""},
		{"what timeline 2 wrote after it was left", chained, chain, Target{Timeline: 2}, 9, ""},
		{"a timeline that nobody knows", straight, one, Target{Timeline: 7}, 0, "00000007.history"},
		{"timeline 1 needs no history", straight, one, Target{Timeline: 1}, 3, ""},
		{"back to a parent", chained[3:], chain, Target{Timeline: 2}, 0, "does not lead to timeline 00000002"},
		{"a backup of a newer timeline counts as that timeline", append(slices.Clone(straight), withStatus(backupAt(4, 2), StatusWaiting)), one, Target{}, 0,
			"00000002.history is not in the repository"},
		{"a damaged record does not", append(slices.Clone(straight), withStatus(backupAt(4, 9), StatusDamaged)), one, Target{}, 3, ""},

		{"damaged history of the newest", straight, damagedHistory, Target{}, 0, "corrupt"},
		{"damaged history of another", straight, damagedHistory, Target{Timeline: 1}, 3, ""},
		{"damaged history, own timeline", straight, damagedHistory, Target{Current: true}, 3, ""},
		{"PostgreSQL would stop at a missing history", []Backup{backupAt(2, 1)}, gap, Target{}, 0, "00000003.history"},
		{"behind the missing history", []Backup{backupAt(10, 4)}, gap, Target{}, 10, ""},
		{"over the missing history by number", []Backup{backupAt(2, 1)}, gap, Target{Timeline: 4}, 2, ""},
		{"timeline without a history of its own: archiving began there", []Backup{backupAt(2, 5)}, []Timeline{{ID: 5}}, Target{}, 2, ""},
		{"the same by number, which PostgreSQL refuses", []Backup{backupAt(2, 5)}, []Timeline{{ID: 5}}, Target{Timeline: 5}, 0, "00000005.history"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := Choose(c.backups, c.timelines, c.target)
			if c.want == 0 {
				mustBe(t, err, ErrUnreachable)
				mustSay(t, err.Error(), c.why)
				return
			}
			if err != nil || b.ID != idAt(c.want) {
				t.Fatalf("%s, %v; want %s", b.ID, err, idAt(c.want))
			}
			if err := CheckReach(b, c.backups, c.timelines, c.target); err != nil {
				t.Errorf("chosen, and yet: %v", err)
			}
		})
	}
}

func TestChooseByNameIsAmbiguous(t *testing.T) {
	backups := []Backup{backupAt(1, 1), backupAt(2, 1), withStatus(backupAt(3, 1), StatusUnfinished)}
	_, err := Choose(backups, nil, Target{Name: "before the release"})
	mustBe(t, err, ErrAmbiguous)
	mustSay(t, err.Error(), "before the release", idAt(1), idAt(2))
	if strings.Contains(err.Error(), idAt(3)) {
		t.Errorf("names one that is not complete: %v", err)
	}
	if err := CheckReach(backups[1], backups, nil, Target{Name: "before the release"}); err != nil {
		t.Error(err)
	}
}

func TestCheckReach(t *testing.T) {
	b := backupAt(2, 1)
	err := CheckReach(b, []Backup{b}, nil, Target{Time: atHour(1)})
	mustBe(t, err, ErrUnreachable)
	mustSay(t, err.Error(), b.ID)
	mustBe(t, CheckReach(b, []Backup{b}, nil, Target{XID: b.Commit.NextXID - 1}), nil) // perhaps it was open then
	mustBe(t, CheckReach(withStatus(b, StatusDamaged), nil, nil, Target{}), ErrUnreachable)
}

// TestPrecedes: transaction ids are a circle of 2^32.
func TestPrecedes(t *testing.T) {
	for _, c := range []struct {
		a, b uint64
		want bool
	}{
		{5, 6, true}, {6, 5, false}, {5, 5, false},
		{0xffffffff, 3, true}, {3, 0xffffffff, false}, // around the wrap
		{0xffffffff, 1<<32 | 3, true}, {1<<32 | 3, 0xffffffff, false},
		{3, 7<<32 | 4, true}, {7<<32 | 4, 3, false}, // with and without an epoch
		{10, 10 + 1<<31 - 1, true}, {10, 10 + 1<<31 + 1, false},
	} {
		if got := precedes(c.a, c.b); got != c.want {
			t.Errorf("%d before %d: %v", c.a, c.b, got)
		}
	}
}

// TestChooseXIDAroundTheWrap: ids start again at 3 after 2^32-1.
func TestChooseXIDAroundTheWrap(t *testing.T) {
	backups := []Backup{backupAt(1, 1), backupAt(2, 1)}
	backups[0].Commit.NextXID = 1<<32 - 50
	backups[1].Commit.NextXID = 1<<32 + 50
	for xid, want := range map[uint64]int{1<<32 - 10: 1, 20: 1, 1<<32 + 20: 1, 60: 2, 1<<32 + 60: 2, 1<<32 - 60: 0} {
		b, err := Choose(backups, nil, Target{XID: xid})
		if want == 0 {
			mustBe(t, err, ErrUnreachable)
		} else if err != nil || b.ID != idAt(want) {
			t.Errorf("xid %d: %s, %v; want %s", xid, b.ID, err, idAt(want))
		}
	}
}

// tree is a random tree of timelines: which one each left, and in which hour.
type tree struct {
	parent, left []int
}

func randomTree(rnd *rand.Rand, n int) tree {
	tr := tree{parent: []int{0, 0}, left: []int{0, 0}} // of timelines 0, which is none, and 1
	for id := 2; id <= n; id++ {
		p := 1 + rnd.IntN(id-1)
		tr.parent, tr.left = append(tr.parent, p), append(tr.left, tr.left[p]+1+rnd.IntN(20))
	}
	return tr
}

func (tr tree) timelines() (all []Timeline) {
	for id := 1; id < len(tr.parent); id++ {
		var parents []int
		for at := id; at > 1; at = tr.parent[at] {
			parents = append([]int{tr.parent[at], tr.left[at]}, parents...)
		}
		tl := branch(wal.Timeline(id), parents...)
		if id == 1 {
			tl.History = nil
		}
		all = append(all, tl)
	}
	return all
}

// reaches walks from a timeline back to the backup's: it must have ended before
// every switch on the way.
func (tr tree) reaches(hour, on, along int) bool {
	for at := along; at != 0; at = tr.parent[at] {
		if at == on {
			return true
		}
		if hour >= tr.left[at] {
			return false
		}
	}
	return false
}

// TestChooseAgainstModel compares with what a walk through the tree says.
func TestChooseAgainstModel(t *testing.T) {
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 77))
		tr := randomTree(rnd, 1+rnd.IntN(6))
		newest := len(tr.parent) - 1
		on := map[string]int{}
		var backups []Backup
		for hour := 1; hour < 60; hour += 1 + rnd.IntN(6) {
			id := 1 + rnd.IntN(newest)
			if hour < tr.left[id] {
				continue // that timeline had not begun
			}
			b := backupAt(hour, wal.Timeline(id))
			if rnd.IntN(5) == 0 {
				b = withStatus(b, []Status{StatusDamaged, StatusWaiting, StatusUnfinished}[rnd.IntN(3)])
			}
			on[b.ID] = id
			backups = append(backups, b)
		}
		target, limit, along := randomTarget(rnd, newest)
		want := ""
		for _, b := range backups {
			hour := int(mustHour(t, b.ID))
			to := along
			if along == 0 {
				to = on[b.ID]
			}
			if b.Status == StatusComplete && hour <= limit && tr.reaches(hour, on[b.ID], to) {
				want = b.ID
			}
		}
		got, err := Choose(backups, tr.timelines(), target)
		if (want == "") != errors.Is(err, ErrUnreachable) || got.ID != want {
			t.Fatalf("seed %d: tree %+v, target %+v: %q, %v; want %q", seed, tr, target, got.ID, err, want)
		}
	}
}

// randomTarget also returns the last hour in which a backup may have ended, and
// the timeline to follow, 0 for the backup's own.
func randomTarget(rnd *rand.Rand, newest int) (t Target, limit, along int) {
	limit, along = 1000, newest
	hour := 1 + rnd.IntN(60)
	switch rnd.IntN(5) {
	case 0:
		t.Time, limit = atHour(float64(hour)+0.5), hour
	case 1:
		t.LSN, limit = wal.LSN(hour)<<32|0x200, hour
	case 2:
		t.XID, limit = uint64(100*hour+50), hour
	case 3:
		t.Immediate, along = true, 0
	}
	switch rnd.IntN(4) {
	case 0:
		along = 1 + rnd.IntN(newest)
		t.Timeline = wal.Timeline(along)
	case 1:
		t.Current, along = true, 0
	}
	return t, limit, along
}

func mustHour(t *testing.T, id string) (hour int64) {
	t.Helper()
	if _, err := fmt.Sscanf(id[len(id)-4:], "%x", &hour); err != nil {
		t.Fatal(err)
	}
	return hour
}
