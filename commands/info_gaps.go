package commands

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
)

// infoGap is WAL that was given up and that the repository still does not hold.
type infoGap struct {
	Timeline wal.Timeline `json:"timeline"`
	First    wal.Segment  `json:"first"`
	Last     wal.Segment  `json:"last"`
	Segments int          `json:"segments"`
	Reason   string       `json:"reason"`
	Host     string       `json:"host"`
	NotedAt  time.Time    `json:"noted_at"`
}

// describeGaps takes what was stored after all out of the gaps on record. What
// two records speak of is shown once.
func describeGaps(gaps []catalog.Gap, timelines []catalog.Timeline, size wal.SegmentSize) []infoGap {
	shown := []infoGap{}
	for _, g := range gaps {
		// What the shown ones cover counts as stored.
		known := catalog.Timeline{ID: g.First.Timeline}
		for _, t := range timelines {
			if t.ID == known.ID {
				known.Ranges = append(known.Ranges, t.Ranges...)
			}
		}
		for _, s := range shown {
			if s.Timeline == known.ID {
				known.Ranges = append(known.Ranges, catalog.Range{First: s.First, Last: s.Last})
			}
		}
		slices.SortFunc(known.Ranges, func(a, b catalog.Range) int {
			return cmp.Compare(a.First.Number(size), b.First.Number(size))
		})
		for _, r := range g.Missing(known, size) {
			shown = append(shown, infoGap{
				Timeline: g.First.Timeline, First: r.First, Last: r.Last, Segments: r.Segments,
				Reason: g.Reason, Host: g.Host, NotedAt: g.NotedAt,
			})
		}
	}
	slices.SortStableFunc(shown, func(a, b infoGap) int {
		return cmp.Or(cmp.Compare(a.Timeline, b.Timeline), cmp.Compare(a.First.Number(size), b.First.Number(size)))
	})
	return shown
}

// explained reports whether a hole, between the last segment before it and the
// first behind it, has something in it that was given up.
func explained(before, behind wal.Segment, gaps []infoGap) bool {
	return slices.ContainsFunc(gaps, func(g infoGap) bool {
		return g.Timeline == before.Timeline && before.Less(g.First) && g.Last.Less(behind)
	})
}

func writeGaps(w io.Writer, gaps []infoGap) {
	if len(gaps) == 0 {
		return
	}
	fmt.Fprintln(w, "\n  GAP ON TIMELINE\tFIRST SEGMENT\tLAST SEGMENT\tSEGMENTS\tSINCE\tHOST")
	for _, g := range gaps {
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%s\t%s\n", g.Timeline, g.First, g.Last, g.Segments,
			g.NotedAt.Local().Format("2006-01-02 15:04:05 MST"), g.Host)
		fmt.Fprintf(w, "    %s\n", g.Reason)
	}
	fmt.Fprintln(w, "    no recovery passes a gap: only backups taken after it can be recovered beyond it")
}
