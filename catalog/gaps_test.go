package catalog

import (
	"fmt"
	"strings"
	"testing"

	"walden/postgres/wal"
)

// TestGapMissing: what is stored after all is no gap.
func TestGapMissing(t *testing.T) {
	const size = 1 << 30 // 4 segments a log number
	at := func(n int) wal.Segment { return wal.NumberedSegment(1, uint64(n), size) }
	gap := Gap{First: at(10), Last: at(20)}
	for stored, want := range map[string]string{
		"":                 "10-20 (11)",
		"1-9":              "10-20 (11)",
		"21-30":            "10-20 (11)",
		"1-10":             "11-20 (10)",
		"20-40":            "10-19 (10)",
		"9-21":             "",
		"10-20":            "",
		"12-12":            "10-11 (2), 13-20 (8)",
		"1-11 14-15 19-30": "12-13 (2), 16-18 (3)",
		"1-12 11-13":       "14-20 (7)",
	} {
		var timeline Timeline
		for r := range strings.FieldsSeq(stored) {
			var first, last int
			if _, err := fmt.Sscanf(r, "%d-%d", &first, &last); err != nil {
				t.Fatal(err)
			}
			timeline.Ranges = append(timeline.Ranges, Range{First: at(first), Last: at(last)})
		}
		var got []string
		for _, r := range gap.Missing(timeline, size) {
			got = append(got, fmt.Sprintf("%d-%d (%d)", r.First.Number(size), r.Last.Number(size), r.Segments))
		}
		if text := strings.Join(got, ", "); text != want {
			t.Errorf("with %s stored: %s, want %s", stored, text, want)
		}
	}
}
