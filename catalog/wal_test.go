package catalog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

// walModel is which segments a repository holds, by timeline and number.
type walModel struct {
	size wal.SegmentSize
	held map[wal.Timeline]map[uint64]bool
}

// name works a segment's name out by itself: the high and the low half of its
// first byte's address.
func (m walModel) name(id wal.Timeline, number uint64) string {
	start := number * uint64(m.size)
	return fmt.Sprintf("%08X%08X%08X", uint32(id), start>>32, start&0xffffffff/uint64(m.size))
}

// randomWAL fills a directory with segments of two timelines around the border
// of a log, and with what may lie beside them.
func randomWAL(t *testing.T, rnd *rand.Rand, dir string, c Cluster, size wal.SegmentSize) (m walModel, low, high uint64) {
	border := (1 + rnd.Uint64N(5)) * (1 << 32 / uint64(size))
	low, high = border-min(border, 12), border+12
	m = walModel{size: size, held: map[wal.Timeline]map[uint64]bool{}}
	for _, id := range []wal.Timeline{1, 0xA} {
		m.held[id] = map[uint64]bool{}
		density := 1 + rnd.IntN(10)
		for n := low; n <= high; n++ {
			if rnd.IntN(10) < density {
				m.held[id][n] = true
				putSegments(t, dir, c, m.name(id, n))
			}
			if rnd.IntN(6) == 0 {
				putSegments(t, dir, c, m.name(id, n)+".partial", m.name(id, n)+".00000028.backup")
			}
			if rnd.IntN(12) == 0 { // not walden's
				put(t, dir, filepath.Dir(c.segmentKey(segment(t, m.name(id, n))))+"/"+m.name(id+1, n), nil)
				put(t, dir, c.timelinePrefix(id)+"FFFFFFF0/"+m.name(id, n), nil)
				put(t, dir, c.WALKey(fileName(t, m.name(id, n)))+".tmp", nil)
			}
		}
	}
	return m, low, high
}

// TestWALAgainstModel asks about random sets of segments.
func TestWALAgainstModel(t *testing.T) {
	ctx := context.Background()
	for _, size := range segmentSizes() {
		t.Run(size.String(), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(6) {
				rnd := rand.New(rand.NewPCG(seed, uint64(size)))
				store, dir := directory(t)
				c := Open(store, testSystemID)
				m, low, high := randomWAL(t, rnd, dir, c, size)
				for range 30 {
					id := []wal.Timeline{1, 0xA, 7}[rnd.IntN(3)]
					first := low + rnd.Uint64N(high-low+3)
					m.checkMissing(ctx, t, c, id, first, first+rnd.Uint64N(8))
					m.checkNext(ctx, t, c, id, first)
				}
				m.checkTimelines(ctx, t, c, low, high)
				if t.Failed() {
					t.Fatalf("seed %d, held %v", seed, m.held)
				}
			}
		})
	}
}

func (m walModel) checkMissing(ctx context.Context, t *testing.T, c Cluster, id wal.Timeline, first, last uint64) {
	var want []string
	for n := first; n <= last; n++ {
		if !m.held[id][n] {
			want = append(want, m.name(id, n))
		}
	}
	need := WALNeed{Timeline: id, First: segment(t, m.name(id, first)), Last: segment(t, m.name(id, last))}
	missing, err := c.MissingWAL(ctx, need, m.size)
	if err != nil {
		t.Fatal(err)
	}
	check(t, fmt.Sprintf("missing of %s to %s", need.First, need.Last), missing, want)
}

func (m walModel) checkNext(ctx context.Context, t *testing.T, c Cluster, id wal.Timeline, after uint64) {
	want, found := "", false
	for n := after + 1; n < after+50 && !found; n++ {
		if found = m.held[id][n]; found {
			want = m.name(id, n)
		}
	}
	next, ok, err := c.NextSegment(ctx, segment(t, m.name(id, after)))
	if err != nil {
		t.Fatal(err)
	}
	if ok != found || (ok && next.String() != want) {
		t.Errorf("next after %s: %s, %v; want %s, %v", m.name(id, after), next, ok, want, found)
	}
}

func (m walModel) checkTimelines(ctx context.Context, t *testing.T, c Cluster, low, high uint64) {
	timelines, err := c.Timelines(ctx, m.size, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[wal.Timeline][]string{}
	for _, tl := range timelines {
		for _, r := range tl.Ranges {
			got[tl.ID] = append(got[tl.ID], fmt.Sprintf("%s %s %d %d", r.First, r.Last, r.Segments, r.StoredBytes))
		}
	}
	for id, held := range m.held {
		var want []string
		for n := low; n <= high; n++ {
			if !held[n] || (n > low && held[n-1]) {
				continue
			}
			count := uint64(1)
			for held[n+count] {
				count++
			}
			want = append(want, fmt.Sprintf("%s %s %d %d", m.name(id, n), m.name(id, n+count-1), count, 24*count))
		}
		check(t, "ranges of timeline "+id.String(), got[id], want)
	}
}

func TestMissingWALRefusesImpossibleRanges(t *testing.T) {
	store, _ := directory(t)
	c := Open(store, testSystemID)
	a, b := wal.Segment{Timeline: 1, Seg: 5}, wal.Segment{Timeline: 1, Seg: 6}
	for name, need := range map[string]WALNeed{
		"nothing":            {},
		"backwards":          {Timeline: 1, First: b, Last: a},
		"two timelines":      {Timeline: 1, First: a, Last: wal.Segment{Timeline: 2, Seg: 6}},
		"another timeline":   {Timeline: 2, First: a, Last: b},
		"too high a segment": {Timeline: 1, First: a, Last: wal.Segment{Timeline: 1, Seg: 256}},
		"too much":           {Timeline: 1, First: a, Last: wal.Segment{Timeline: 1, Log: 1 << 20}},
	} {
		_, err := c.MissingWAL(context.Background(), need, wal.DefaultSegmentSize)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		mustBe(t, err, storage.ErrCorrupt)
	}
	if _, err := c.MissingWAL(context.Background(), WALNeed{Timeline: 1, First: a, Last: b}, 0); err == nil {
		t.Error("a segment size of 0 is accepted")
	}
}

// TestMissingWALAtTheVeryEnd: there is no segment after the last one.
func TestMissingWALAtTheVeryEnd(t *testing.T) {
	store, dir := directory(t)
	c := Open(store, testSystemID)
	for _, size := range segmentSizes() {
		last := wal.SegmentAt(1, ^wal.LSN(0), size)
		first := wal.NumberedSegment(1, last.Number(size)-2, size)
		putSegments(t, dir, c, first.String())
		missing, err := c.MissingWAL(context.Background(), WALNeed{Timeline: 1, First: first, Last: last}, size)
		if err != nil || len(missing) != 2 || missing[1] != last {
			t.Errorf("%s: %v, %v", size, missing, err)
		}
		if err := os.RemoveAll(filepath.Join(dir, c.timelinePrefix(1))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEndOf(t *testing.T) {
	tl := Timeline{ID: 1}
	for _, n := range []uint64{2, 3, 4, 6, 255, 256} {
		tl.add(storedSegment{wal.NumberedSegment(1, n, wal.DefaultSegmentSize), 10}, wal.DefaultSegmentSize)
	}
	for from, want := range map[uint64]uint64{1: 1, 2: 4, 3: 4, 4: 4, 5: 5, 6: 6, 7: 7, 255: 256, 256: 256} {
		got := tl.EndOf(wal.NumberedSegment(1, from, wal.DefaultSegmentSize))
		if got.Number(wal.DefaultSegmentSize) != want {
			t.Errorf("from %d to %s, want %d", from, got, want)
		}
	}
}

func TestLineage(t *testing.T) {
	store, dir := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	if all, err := c.Lineage(ctx, nil); err != nil || all != nil {
		t.Fatalf("an empty repository: %v, %v", all, err)
	}
	putSegments(t, dir, c, "000000010000000000000002", "0000000A0000000000000009", "0000000A0000000100000000")
	putHistory(t, dir, c, 2, "1\t0/3000000")
	putHistory(t, dir, c, 0xA, "1\t0/3000000", "2\t0/8000000")
	for _, stray := range []string{"00000003.history.orig", "00000004.histor", "0000000b.history", "00000005", "x/y", "00000006.history/x", "0000000A-old/x"} {
		put(t, dir, c.key("wal/"+stray), nil)
	}
	all, err := c.Lineage(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tl := range all {
		parents := "none"
		if tl.History != nil {
			parents = fmt.Sprint(len(tl.History.Ancestors))
		}
		got = append(got, tl.ID.String()+" "+parents)
		if tl.HistoryError != nil || tl.Ranges != nil {
			t.Errorf("%+v", tl)
		}
	}
	check(t, "timelines and parents", got, []string{"00000001 none", "00000002 1", "0000000A 2"})
}

// TestLineageOfUnreadableHistories: one bad file hides neither itself nor the
// others.
func TestLineageOfUnreadableHistories(t *testing.T) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	recipients := []codec.Recipient{key.Recipient()}
	const name, content = "00000002.history", "1\t0/3000000\twhy\n"
	good := object(t, name, testSystemID, content, codec.ObjectOptions{})
	flipped := slices.Clone(good)
	flipped[len(flipped)-5] ^= 1
	for what, bad := range map[string]struct {
		object []byte
		want   error
	}{
		"flipped":          {flipped, codec.ErrCorrupt},
		"truncated":        {good[:len(good)-1], codec.ErrCorrupt},
		"empty":            {nil, codec.ErrCorrupt},
		"of another name":  {object(t, "00000003.history", testSystemID, content, codec.ObjectOptions{}), storage.ErrCorrupt},
		"of another host":  {object(t, name, testSystemID+1, content, codec.ObjectOptions{}), storage.ErrCorrupt},
		"not a history":    {object(t, name, testSystemID, "hello\n", codec.ObjectOptions{}), storage.ErrCorrupt},
		"huge":             {object(t, name, testSystemID, strings.Repeat("#\n", maxHistory/2+1), codec.ObjectOptions{}), storage.ErrCorrupt},
		"encrypted":        {object(t, name, testSystemID, content, codec.ObjectOptions{Recipients: recipients}), codec.ErrNoIdentity},
		"of its own child": {object(t, name, testSystemID, "2\t0/3000000\twhy\n", codec.ObjectOptions{}), storage.ErrCorrupt},
	} {
		t.Run(what, func(t *testing.T) {
			store, dir := directory(t)
			c, ctx := Open(store, testSystemID), context.Background()
			put(t, dir, c.WALKey(fileName(t, name)), bad.object)
			putHistory(t, dir, c, 3, "1\t0/3000000")
			all, err := c.Lineage(ctx, nil)
			if err != nil || len(all) != 2 {
				t.Fatalf("%v, %v", all, err)
			}
			mustBe(t, all[0].HistoryError, bad.want)
			if all[0].History != nil || all[1].History == nil || all[1].HistoryError != nil {
				t.Errorf("%+v", all)
			}
			_, err = c.History(ctx, 2, nil)
			mustBe(t, err, bad.want)
		})
	}
}
