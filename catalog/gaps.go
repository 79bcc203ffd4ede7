package catalog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	"walden/postgres/wal"
	"walden/storage"
)

// Gap is gaps/<first segment>-<random>.json: WAL that was given up, by choice of
// an operator, before the repository could take it. Two records may speak of the
// same segments, and one may speak of segments that were stored after all.
type Gap struct {
	Format   int         `json:"format"`
	SystemID uint64      `json:"system_identifier,string"`
	First    wal.Segment `json:"first"`
	Last     wal.Segment `json:"last"` // of the same timeline
	Reason   string      `json:"reason"`
	Host     string      `json:"host"`
	NotedAt  time.Time   `json:"noted_at"` // when the first of the segments was given up
}

func (c Cluster) gapsPrefix() string { return c.key("gaps/") }

// CreateGap records a gap under a name of its own.
func (c Cluster) CreateGap(ctx context.Context, g Gap) error {
	var random [4]byte
	if _, err := rand.Read(random[:]); err != nil {
		return fmt.Errorf("name the record of a gap: %w", err)
	}
	g.Format, g.SystemID = Format, c.SystemID
	return c.createRecord(ctx, c.gapsPrefix()+g.First.String()+"-"+hex.EncodeToString(random[:])+".json", g)
}

// Gaps returns the recorded gaps, in the order of their first segments.
func (c Cluster) Gaps(ctx context.Context) ([]Gap, error) {
	var gaps []Gap
	for info, err := range c.Store.List(ctx, c.gapsPrefix(), "") {
		if err != nil {
			return nil, fmt.Errorf("list gaps: %w", err)
		}
		var g Gap
		if err := c.readRecord(ctx, info.Key, &g); err != nil {
			return nil, err
		}
		if g.SystemID != c.SystemID || g.First.Timeline != g.Last.Timeline || g.Last.Less(g.First) {
			return nil, fmt.Errorf("read %s: it names WAL from %s to %s of cluster %d: %w", info.Key, g.First, g.Last, g.SystemID, storage.ErrCorrupt)
		}
		gaps = append(gaps, g)
	}
	return gaps, nil
}

// Lost reports whether a segment of the gap is still not in the repository. t is
// the gap's timeline.
func (g Gap) Lost(t Timeline) bool {
	for _, r := range t.Ranges {
		if !g.First.Less(r.First) && !r.Last.Less(g.Last) {
			return false
		}
	}
	return true
}

// Missing returns the parts of the gap that are still not in the repository. t is
// the gap's timeline; there is nothing stored of these ranges.
func (g Gap) Missing(t Timeline, size wal.SegmentSize) []Range {
	var missing []Range
	next, last := g.First.Number(size), g.Last.Number(size)
	until := func(end uint64) { // exclusive
		if end > last+1 {
			end = last + 1
		}
		if next < end {
			missing = append(missing, Range{
				First:    wal.NumberedSegment(g.First.Timeline, next, size),
				Last:     wal.NumberedSegment(g.First.Timeline, end-1, size),
				Segments: int(end - next),
			})
		}
	}
	for _, r := range t.Ranges {
		until(r.First.Number(size))
		next = max(next, r.Last.Number(size)+1)
	}
	until(last + 1)
	return missing
}
