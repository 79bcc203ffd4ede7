package commands

import (
	"strings"
	"testing"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
)

func at(n int) wal.Segment { return wal.NumberedSegment(1, uint64(n), 16<<20) }

// TestDescribeGaps: what was stored after all is left out, what two records speak
// of is shown once, and other timelines don't matter.
func TestDescribeGaps(t *testing.T) {
	now := time.Now()
	gaps := []catalog.Gap{
		{First: at(5), Last: at(9), Reason: "a", Host: "h", NotedAt: now},
		{First: at(8), Last: at(12), Reason: "b", Host: "h", NotedAt: now},
		{First: at(20), Last: at(21), Reason: "c"},
	}
	timelines := []catalog.Timeline{
		{ID: 1, Ranges: []catalog.Range{{First: at(1), Last: at(4)}, {First: at(7), Last: at(7)}, {First: at(13), Last: at(30)}}},
		{ID: 2, Ranges: []catalog.Range{{First: wal.NumberedSegment(2, 5, 16<<20), Last: wal.NumberedSegment(2, 12, 16<<20)}}},
	}
	var got []string
	shown := describeGaps(gaps, timelines, 16<<20)
	for _, g := range shown {
		got = append(got, g.First.String()[16:]+"-"+g.Last.String()[16:]+g.Reason)
	}
	if text := strings.Join(got, " "); text != "00000005-00000006a 00000008-00000009a 0000000A-0000000Cb" {
		t.Errorf("shown: %s", text)
	}
	if !explained(at(4), at(7), shown) || !explained(at(7), at(13), shown) || explained(at(30), at(40), shown) {
		t.Error("which holes are explained?")
	}
	timeline := infoTimeline{ID: 1, Ranges: []infoRange{{First: at(1), Last: at(4)}, {First: at(7), Last: at(7)}, {First: at(31), Last: at(31)}}}
	var out strings.Builder
	timeline.writeText(&out, shown[:1])
	writeGaps(&out, shown)
	lines := strings.Split(out.String(), "\n")
	if !strings.Contains(lines[1], "after a gap: given up") || !strings.Contains(lines[2], "after a hole") || strings.Count(out.String(), "\th\n") != 3 {
		t.Errorf("text:\n%s", out.String())
	}
}
