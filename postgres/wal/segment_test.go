package wal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"walden/internal/testkit"
	"walden/postgres/wal"
)

// allSizes are all sizes that initdb --wal-segsize takes.
func allSizes() []wal.SegmentSize {
	var sizes []wal.SegmentSize
	for size := wal.MinSegmentSize; size <= wal.MaxSegmentSize; size *= 2 {
		sizes = append(sizes, size)
	}
	return sizes
}

func TestSegmentSizes(t *testing.T) {
	if n := len(allSizes()); n != 11 {
		t.Fatalf("%d sizes, want the 11 from 1 MiB to 1 GiB", n)
	}
	for _, size := range allSizes() {
		if !size.Valid() || size.PerLog()*uint64(size) != 1<<32 {
			t.Errorf("%v: valid %v, %d in a log", size, size.Valid(), size.PerLog())
		}
		for _, text := range []string{size.String(), fmt.Sprint(int64(size)), fmt.Sprintf("%dkB", int64(size)>>10)} {
			if got, err := wal.ParseSegmentSize(text); err != nil || got != size {
				t.Errorf("ParseSegmentSize(%q) = %v, %v; want %v", text, got, err, size)
			}
		}
	}
	for _, size := range []wal.SegmentSize{0, 1, -1, -1 << 20, 512 << 10, 3 << 20, 2 << 30, 16<<20 + 1, -1 << 63} {
		if size.Valid() || size.PerLog() != 0 {
			t.Errorf("%d passes for valid", int64(size))
		}
	}
	for _, text := range []string{"", "MB", "16", "16 MB", "16mb", "16M", "0", "-16MB", "+16MB", "3MB", "2GB", "1TB",
		"16777217", "17179869184GB", "9007199254740992kB"} {
		if got, err := wal.ParseSegmentSize(text); !errors.Is(err, wal.ErrSyntax) {
			t.Errorf("ParseSegmentSize(%q) = %v, %v; want ErrSyntax", text, got, err)
		}
	}
}

func TestSegmentNames(t *testing.T) {
	const last = 1<<64 - 1
	for _, c := range []struct {
		tli  wal.Timeline
		lsn  wal.LSN
		size wal.SegmentSize
		name string
	}{
		{1, 0, 16 << 20, "000000010000000000000000"},
		{1, 0x1000000, 16 << 20, "000000010000000000000001"},
		{1, 0x1000000 - 1, 16 << 20, "000000010000000000000000"},
		{1, 0xFF000000, 16 << 20, "0000000100000000000000FF"},
		{1, 0x100000000, 16 << 20, "000000010000000100000000"},
		{10, 0x16B374D848, 16 << 20, "0000000A00000016000000B3"},
		{1, 0xFFFFFFFF, 1 << 20, "000000010000000000000FFF"},
		{1, 0x100000000, 1 << 20, "000000010000000100000000"},
		{1, 0xFFFFFFFF, 1 << 30, "000000010000000000000003"},
		{1, 0xC0000000, 1 << 30, "000000010000000000000003"},
		{1<<32 - 1, last, 16 << 20, "FFFFFFFFFFFFFFFF000000FF"},
		{1<<32 - 1, last, 1 << 20, "FFFFFFFFFFFFFFFF00000FFF"},
	} {
		if got := wal.SegmentAt(c.tli, c.lsn, c.size).String(); got != c.name {
			t.Errorf("timeline %d, %v, %v: %s, want %s", c.tli, c.lsn, c.size, got, c.name)
		}
	}
}

// TestSegmentArithmetic checks, for every size, what must hold for any LSN.
func TestSegmentArithmetic(t *testing.T) {
	for _, size := range allSizes() {
		t.Run(size.String(), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, uint64(size)))
			lsns := []wal.LSN{0, 1, wal.LSN(size) - 1, wal.LSN(size), 1<<32 - 1, 1 << 32, 1<<32 + 1, 7<<32 - 1, 7 << 32, 1<<64 - 1}
			for range 2000 {
				lsns = append(lsns, wal.LSN(random.Uint64()>>random.IntN(64)))
			}
			for _, lsn := range lsns {
				checkSegmentAt(t, wal.Timeline(random.Uint32()), lsn, size)
			}
		})
	}
}

func checkSegmentAt(t *testing.T, tli wal.Timeline, lsn wal.LSN, size wal.SegmentSize) {
	t.Helper()
	s := wal.SegmentAt(tli, lsn, size)
	next := s.Next(size)
	isLast := s.End(size) == 0
	switch {
	case s.Timeline != tli || !s.ValidFor(size):
		t.Errorf("%v is on %s, no name of a segment of timeline %v", lsn, s, tli)
	case lsn < s.Start(size) || lsn-s.Start(size) >= wal.LSN(size):
		t.Errorf("%v is on %s, which starts at %v", lsn, s, s.Start(size))
	case s.Log != uint32(lsn>>32) || uint64(s.Seg) != uint64(uint32(lsn))/uint64(size):
		t.Errorf("%v is on %s", lsn, s)
	case wal.NumberedSegment(tli, s.Number(size), size) != s:
		t.Errorf("%s is not the segment of its number %d", s, s.Number(size))
	case mustSegment(t, s.String()) != s:
		t.Errorf("%s reads as %s", s, mustSegment(t, s.String()))
	case wal.SegmentAt(tli, s.End(size)-1, size) != s || wal.SegmentBefore(tli, s.Start(size)+1, size) != s:
		t.Errorf("%s does not hold its first and last byte", s)
	case !isLast && wal.SegmentBefore(tli, s.End(size), size) != s:
		t.Errorf("%s is not the one before its end", s)
	case isLast && next != (wal.Segment{Timeline: tli}):
		t.Errorf("%s is the last of all, but then comes %s", s, next)
	case !isLast && (next.Start(size) != s.End(size) || next.Number(size) != s.Number(size)+1 || next.Timeline != tli):
		t.Errorf("after %s, which ends at %v, comes %s", s, s.End(size), next)
	case !isLast && (!s.Less(next) || next.Less(s) || s.Less(s) || s.String() >= next.String()):
		t.Errorf("%s does not sort before %s", s, next)
	}
}

func TestNextCrossesLogs(t *testing.T) {
	for size, name := range map[wal.SegmentSize]string{
		1 << 20:  "00000002000000070000" + "0FFF",
		16 << 20: "00000002000000070000" + "00FF",
		64 << 20: "00000002000000070000" + "003F",
		1 << 30:  "00000002000000070000" + "0003",
	} {
		if got := mustSegment(t, name).Next(size).String(); got != "000000020000000800000000" {
			t.Errorf("%v: after %s comes %s", size, name, got)
		}
		beyond := mustSegment(t, name)
		beyond.Seg++
		if beyond.ValidFor(size) {
			t.Errorf("%s passes for a name where segments are of %v", beyond, size)
		}
	}
}

func TestSegmentsOrderAsNames(t *testing.T) {
	names := []string{"000000010000000000000001", "000000010000000000000002", "000000010000000100000000", "000000020000000000000000",
		"0000000A0000000000000000", "FFFFFFFF0000000000000000"}
	for i, a := range names {
		for j, b := range names {
			if got, want := mustSegment(t, a).Compare(mustSegment(t, b)), strings.Compare(a, b); got != want {
				t.Errorf("%s (%d) compares to %s (%d) as %d, want %d", a, i, b, j, got, want)
			}
		}
	}
}

// TestNoArithmeticOnInvalidSizes: sizes may come from damaged files, so they must do no harm.
func TestNoArithmeticOnInvalidSizes(t *testing.T) {
	s := wal.Segment{Timeline: 1, Log: 2, Seg: 3}
	for _, size := range []wal.SegmentSize{0, -1, 3 << 20, 1 << 40} {
		if s.ValidFor(size) || s.Start(size) != 0 || s.End(size) != 0 || !s.Next(size).IsZero() ||
			!wal.SegmentAt(1, 5, size).IsZero() || !wal.SegmentBefore(1, 0, size).IsZero() || !wal.NumberedSegment(1, 5, size).IsZero() {
			t.Errorf("size %d gives results", int64(size))
		}
	}
}

// TestSegmentNamesOfServer compares with what a server calls the segments of random positions.
func TestSegmentNamesOfServer(t *testing.T) {
	for _, megabytes := range []int{1, 64} {
		t.Run(fmt.Sprintf("%dMB", megabytes), func(t *testing.T) {
			c := testkit.NewCluster(t, testkit.ClusterOptions{Major: 15, SegmentSize: megabytes})
			c.Start(t)
			size, err := wal.ParseSegmentSize(c.QueryValue(t, "show wal_segment_size"))
			if err != nil || size != wal.SegmentSize(megabytes)<<20 {
				t.Fatalf("SHOW wal_segment_size: %v, %v", size, err)
			}
			random := rand.New(rand.NewPCG(2, uint64(size)))
			lsns := []wal.LSN{1, wal.LSN(size), wal.LSN(size) + 1, 1 << 32, 1<<32 + 1, 1<<64 - 1}
			for range 200 {
				lsns = append(lsns, wal.LSN(random.Uint64()>>random.IntN(60)))
			}
			var query strings.Builder
			for _, lsn := range lsns {
				fmt.Fprintf(&query, ", ('%s'::pg_lsn)", lsn)
			}
			rows := c.Query(t, "select lsn, pg_walfile_name(lsn) from (values "+query.String()[2:]+") as v(lsn)")
			for i, row := range rows {
				// Up to 16, pg_walfile_name takes a position on a boundary for an end.
				if got := wal.SegmentBefore(1, lsns[i], size).String(); row[0] != lsns[i].String() || row[1] != got {
					t.Errorf("%v: %s; the server says %s on %s", lsns[i], got, row[0], row[1])
				}
			}
		})
	}
}
