package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

// maxNeed bounds the WAL that one backup may need; a record that names more is
// damaged.
const maxNeed = 1 << 24

func (n WALNeed) valid(size wal.SegmentSize) bool {
	return n.First.Timeline == n.Timeline && n.Last.Timeline == n.Timeline &&
		n.First.ValidFor(size) && n.Last.ValidFor(size) &&
		n.First.Number(size) <= n.Last.Number(size) && n.Last.Number(size)-n.First.Number(size) < maxNeed
}

// MissingWAL returns the segments of n that the repository does not hold.
func (c Cluster) MissingWAL(ctx context.Context, n WALNeed, size wal.SegmentSize) ([]wal.Segment, error) {
	var missing []wal.Segment
	want := n.First
	for s, err := range c.segments(ctx, n.Timeline, n.First) {
		if err != nil {
			return nil, err
		}
		for want.Less(s.Segment) && !n.Last.Less(want) {
			missing = append(missing, want)
			want = want.Next(size)
		}
		if n.Last.Less(want) {
			return missing, nil
		}
		if s.Segment == want {
			want = want.Next(size)
		}
	}
	for ; !n.Last.Less(want); want = want.Next(size) {
		missing = append(missing, want)
	}
	return missing, nil
}

// NextSegment returns the first whole segment that the repository holds after s
// on the same timeline.
func (c Cluster) NextSegment(ctx context.Context, s wal.Segment) (wal.Segment, bool, error) {
	for next, err := range c.segments(ctx, s.Timeline, s) {
		if err != nil {
			return wal.Segment{}, false, err
		}
		if s.Less(next.Segment) {
			return next.Segment, true, nil
		}
	}
	return wal.Segment{}, false, nil
}

// storedSegment is a whole segment in the repository.
type storedSegment struct {
	wal.Segment
	size int64 // as it is stored
}

// segments lists the whole segments of a timeline from the given one on,
// ascending.
func (c Cluster) segments(ctx context.Context, t wal.Timeline, from wal.Segment) func(yield func(storedSegment, error) bool) {
	return func(yield func(storedSegment, error) bool) {
		// A key sorts before all that it is a prefix of, so cut the last character
		// off to have the first segment itself listed.
		after := c.segmentKey(from)
		after = after[:len(after)-1]
		for info, err := range c.Store.List(ctx, c.timelinePrefix(t), after) {
			if err != nil {
				yield(storedSegment{}, fmt.Errorf("list WAL of timeline %s: %w", t, err))
				return
			}
			s, err := wal.ParseSegment(info.Key[strings.LastIndexByte(info.Key, '/')+1:])
			if err != nil || s.Timeline != t || s.Less(from) {
				continue // .partial and .backup files
			}
			if !yield(storedSegment{Segment: s, size: info.Size}, nil) {
				return
			}
		}
	}
}

// Range is a run of WAL segments without a hole on one timeline.
type Range struct {
	First, Last wal.Segment
	Segments    int
	StoredBytes int64
}

// Timeline is what the repository holds of one timeline.
type Timeline struct {
	ID      wal.Timeline
	History *wal.History // nil when there is no .history file, as for the first timeline
	Ranges  []Range      // ascending; more than one means holes between them
}

// Lineage returns the cluster's timelines, ascending, with their histories and
// without their WAL. It makes two requests a timeline. Histories may be encrypted:
// one that ids can't decrypt is left out.
func (c Cluster) Lineage(ctx context.Context, ids []codec.Identity) ([]Timeline, error) {
	var all []Timeline
	for after := ""; ; {
		info, found, err := first(c.Store.List(ctx, c.key("wal/"), after))
		if err != nil {
			return nil, fmt.Errorf("list timelines: %w", err)
		}
		if !found {
			return all, nil
		}
		after = info.Key
		name, _, isDir := strings.Cut(strings.TrimPrefix(info.Key, c.key("wal/")), "/")
		if isDir {
			after = behind(c.key("wal/" + name))
		}
		t, err := wal.ParseTimeline(strings.TrimSuffix(name, ".history"))
		if err != nil {
			continue
		}
		if len(all) == 0 || all[len(all)-1].ID != t { // a history file sorts before its timeline's directory
			all = append(all, Timeline{ID: t})
		}
		if isDir {
			continue
		}
		h, err := c.History(ctx, t, ids)
		switch {
		case err == nil:
			all[len(all)-1].History = &h
		case !errors.Is(err, codec.ErrNoIdentity) && !errors.Is(err, codec.ErrWrongIdentity):
			return nil, err
		}
	}
}

// Timelines is Lineage with the WAL of every timeline, all of which it lists.
func (c Cluster) Timelines(ctx context.Context, size wal.SegmentSize, ids []codec.Identity) ([]Timeline, error) {
	all, err := c.Lineage(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range all {
		for s, err := range c.segments(ctx, all[i].ID, wal.Segment{Timeline: all[i].ID}) {
			if err != nil {
				return nil, err
			}
			all[i].add(s, size)
		}
	}
	return all, nil
}

// EndOf returns the last segment that follows s without a hole, s itself at
// least.
func (t Timeline) EndOf(s wal.Segment) wal.Segment {
	for _, r := range t.Ranges {
		if !s.Less(r.First) && !r.Last.Less(s) {
			return r.Last
		}
	}
	return s
}

func (t *Timeline) add(s storedSegment, size wal.SegmentSize) {
	if n := len(t.Ranges); n > 0 && t.Ranges[n-1].Last.Next(size) == s.Segment {
		r := &t.Ranges[n-1]
		r.Last, r.Segments, r.StoredBytes = s.Segment, r.Segments+1, r.StoredBytes+s.size
		return
	}
	t.Ranges = append(t.Ranges, Range{First: s.Segment, Last: s.Segment, Segments: 1, StoredBytes: s.size})
}

// maxHistory bounds a history file: a timeline takes about a hundred bytes.
const maxHistory = 16 << 20

// History reads the history file of a timeline.
func (c Cluster) History(ctx context.Context, t wal.Timeline, ids []codec.Identity) (h wal.History, err error) {
	name := wal.FileName{Kind: wal.KindHistory, Timeline: t}
	r, err := c.Store.Get(ctx, c.WALKey(name), 0, -1)
	if err != nil {
		return wal.History{}, fmt.Errorf("read %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	or, err := codec.NewObjectReader(r, ids)
	if err != nil {
		return wal.History{}, fmt.Errorf("read %s: %w", name, err)
	}
	data, err := io.ReadAll(io.LimitReader(or, maxHistory))
	if err != nil {
		return wal.History{}, fmt.Errorf("read %s: %w", name, err)
	}
	if h, err = wal.ParseHistory(t, data); err != nil {
		return wal.History{}, fmt.Errorf("%s: %w: %w", name, err, storage.ErrCorrupt)
	}
	return h, nil
}
