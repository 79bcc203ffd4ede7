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
const maxNeed = 1 << 20

func (n WALNeed) valid(size wal.SegmentSize) bool {
	return n.Timeline != 0 && n.First.Timeline == n.Timeline && n.Last.Timeline == n.Timeline &&
		n.First.ValidFor(size) && n.Last.ValidFor(size) &&
		n.First.Number(size) <= n.Last.Number(size) && n.Last.Number(size)-n.First.Number(size) < maxNeed
}

// agrees reports whether the segments are those that hold what lies between the
// two LSNs.
func (n WALNeed) agrees(size wal.SegmentSize) bool {
	return n.StartLSN < n.StopLSN &&
		n.First == wal.SegmentAt(n.Timeline, n.StartLSN, size) && n.Last == wal.SegmentBefore(n.Timeline, n.StopLSN, size)
}

// MissingWAL returns the segments of n that the repository does not hold,
// ascending. A range that no cluster with segments of that size can have is
// storage.ErrCorrupt.
func (c Cluster) MissingWAL(ctx context.Context, n WALNeed, size wal.SegmentSize) ([]wal.Segment, error) {
	if !n.valid(size) {
		return nil, fmt.Errorf("WAL from %s to %s with segments of %s: impossible range: %w", n.First, n.Last, size, storage.ErrCorrupt)
	}
	var missing []wal.Segment
	next, end := n.First.Number(size), n.Last.Number(size)+1
	missUpTo := func(number uint64) {
		for ; next < number; next++ {
			missing = append(missing, wal.NumberedSegment(n.Timeline, next, size))
		}
	}
	for s, err := range c.segments(ctx, n.Timeline, n.First) {
		if err != nil {
			return nil, err
		}
		if n.Last.Less(s.Segment) {
			break
		}
		if s.ValidFor(size) {
			missUpTo(s.Number(size))
			next++
		}
	}
	missUpTo(end)
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

// LaterWAL returns the first segment after s on the same timeline of which the
// repository holds anything: the whole of it, its beginning, or the history of a
// backup that began in it. So s was once finished.
func (c Cluster) LaterWAL(ctx context.Context, s wal.Segment) (later wal.Segment, found bool, err error) {
	for info, err := range c.Store.List(ctx, c.timelinePrefix(s.Timeline), c.segmentKey(s)) {
		if err != nil {
			return wal.Segment{}, false, fmt.Errorf("list WAL of timeline %s: %w", s.Timeline, err)
		}
		name, err := wal.ParseFileName(info.Key[strings.LastIndexByte(info.Key, '/')+1:])
		if err == nil && info.Key == c.WALKey(name) && s.Less(name.Segment) {
			return name.Segment, true, nil
		}
	}
	return wal.Segment{}, false, nil
}

// LeftBehind returns a later timeline that comes from the timeline of s, and left it
// only behind s: so s was once finished, although the repository may hold nothing
// later of its timeline. A history that is there and can't be read is an error:
// it may say so.
func (c Cluster) LeftBehind(ctx context.Context, s wal.Segment, size wal.SegmentSize, ids []codec.Identity) (child wal.Timeline, at wal.LSN, found bool, err error) {
	later, err := c.lineage(ctx, behind(c.key("wal/"+s.Timeline.String())), ids)
	if err != nil {
		return 0, 0, false, err
	}
	for _, t := range later {
		if t.HistoryError != nil {
			return 0, 0, false, t.HistoryError
		}
		if t.History == nil {
			continue
		}
		if at, ok := t.History.SwitchPoint(s.Timeline); ok && s.End(size) <= at {
			return t.ID, at, true, nil
		}
	}
	return 0, 0, false, nil
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
			if err != nil || info.Key != c.segmentKey(s) || s.Less(from) {
				continue // .partial and .backup files, and what is not walden's
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
	History *wal.History // nil when there is no .history file, as for the first timeline, or when it can't be read
	Ranges  []Range      // ascending; more than one means holes between them

	// HistoryError says why a .history file that is there can't be read: it is
	// damaged, or encrypted to other keys than those given.
	HistoryError error
}

// Lineage returns the cluster's timelines, ascending, with their histories and
// without their WAL. It makes two requests a timeline. A history that can't be
// read, though the store delivers it, doesn't hide the others: see
// Timeline.HistoryError.
func (c Cluster) Lineage(ctx context.Context, ids []codec.Identity) ([]Timeline, error) {
	return c.lineage(ctx, "", ids)
}

// lineage is Lineage from a key on.
func (c Cluster) lineage(ctx context.Context, after string, ids []codec.Identity) ([]Timeline, error) {
	var all []Timeline
	for {
		info, found, err := first(c.Store.List(ctx, c.key("wal/"), after))
		if err != nil {
			return nil, fmt.Errorf("list timelines: %w", err)
		}
		if !found {
			return all, nil
		}
		name, _, isDir := strings.Cut(strings.TrimPrefix(info.Key, c.key("wal/")), "/")
		after = info.Key
		if isDir {
			after = behind(c.key("wal/" + name))
		}
		digits, isHistory := strings.CutSuffix(name, ".history")
		t, err := wal.ParseTimeline(digits)
		if err != nil || isDir == isHistory {
			continue // not walden's
		}
		if len(all) == 0 || all[len(all)-1].ID != t { // a history file sorts before its timeline's directory
			all = append(all, Timeline{ID: t})
		}
		if isHistory {
			if err := c.addHistory(ctx, &all[len(all)-1], ids); err != nil {
				return nil, err
			}
		}
	}
}

// addHistory reads the history of t. An error means that the store didn't answer.
func (c Cluster) addHistory(ctx context.Context, t *Timeline, ids []codec.Identity) error {
	h, err := c.History(ctx, t.ID, ids)
	if err == nil {
		t.History = &h
		return nil
	}
	for _, ofTheFile := range []error{codec.ErrCorrupt, storage.ErrCorrupt, codec.ErrNewer, codec.ErrNoIdentity, codec.ErrWrongIdentity} {
		if errors.Is(err, ofTheFile) {
			t.HistoryError = err
			return nil
		}
	}
	return err
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

// History reads the history file of a timeline. codec.ErrCorrupt and
// storage.ErrCorrupt mean that it is damaged.
func (c Cluster) History(ctx context.Context, t wal.Timeline, ids []codec.Identity) (wal.History, error) {
	name := wal.FileName{Kind: wal.KindHistory, Timeline: t}
	data, err := c.readHistory(ctx, name, ids)
	if err != nil {
		return wal.History{}, fmt.Errorf("read %s: %w", name, err)
	}
	h, err := wal.ParseHistory(t, data)
	if err != nil {
		return wal.History{}, fmt.Errorf("%s: %w: %w", name, err, storage.ErrCorrupt)
	}
	return h, nil
}

func (c Cluster) readHistory(ctx context.Context, name wal.FileName, ids []codec.Identity) (data []byte, err error) {
	r, err := c.Store.Get(ctx, c.WALKey(name), 0, -1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	or, err := codec.NewObjectReader(r, ids)
	if err != nil {
		return nil, err
	}
	if fp := or.Fingerprint(); fp.Name != name.String() || fp.SystemID != c.SystemID || fp.Size > maxHistory {
		return nil, fmt.Errorf("the object holds %s: %w", fp, storage.ErrCorrupt)
	}
	return io.ReadAll(or) // of no more than the fingerprint says
}
