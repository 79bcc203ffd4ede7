package catalog

import (
	"context"

	"walden/postgres/wal"
)

// RunAfter returns the segments that follow s on its timeline without a hole, as
// far as the repository holds them, ascending, and at most limit. It takes one
// listing, which never fails for what is not there.
func (c Cluster) RunAfter(ctx context.Context, s wal.Segment, size wal.SegmentSize, limit int) ([]wal.Segment, error) {
	var run []wal.Segment
	for next, err := range c.segments(ctx, s.Timeline, s) {
		if err != nil {
			return nil, err
		}
		if !s.Less(next.Segment) {
			continue
		}
		last := s
		if len(run) > 0 {
			last = run[len(run)-1]
		}
		if len(run) == limit || next.Segment != last.Next(size) {
			break
		}
		run = append(run, next.Segment)
	}
	return run, nil
}
