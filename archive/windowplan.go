package archive

import (
	"slices"

	"walden/postgres/wal"
)

// A windowPlan says what a window should come to hold.
type windowPlan struct {
	want   []wal.Segment // to be fetched, in the order in which recovery will ask
	remove []wal.Segment // of no use any more
}

// planWindow plans for a recovery that has asked for a segment and was given one of
// that timeline. PostgreSQL goes forward, from a timeline to a newer one, and never
// asks for an older one again (XLogFileReadAnyTLI,
// src/backend/access/transam/xlogrecovery.c); so a newer one's segments stay, as
// long as they fill no more than half of the window, and an older one's go. What
// was asked for stays until recovery asks for the next: it may be on its way out.
func planWindow(asked wal.Segment, present []wal.Segment, ahead int, size wal.SegmentSize) (p windowPlan) {
	first := asked.Number(size)
	outside := func(s wal.Segment) bool {
		n := s.Number(size)
		return n < first || n > first+uint64(ahead) || s.Timeline < asked.Timeline
	}
	room := ahead
	for _, s := range present {
		if s.Timeline == asked.Timeline && s != asked && !outside(s) {
			room--
		}
	}
	mostNewer := min(ahead/2, room)
	for _, s := range slices.SortedFunc(slices.Values(present), nearest(size)) {
		newer := s.Timeline > asked.Timeline
		switch {
		case outside(s), newer && mostNewer == 0:
			p.remove = append(p.remove, s)
		case newer:
			mostNewer--
			room--
		}
	}
	for s := asked.Next(size); len(p.want) < room && s.Number(size) > first; s = s.Next(size) {
		if !slices.Contains(present, s) {
			p.want = append(p.want, s)
		}
	}
	return p
}

// nearest orders segments by position, then by timeline.
func nearest(size wal.SegmentSize) func(a, b wal.Segment) int {
	return func(a, b wal.Segment) int {
		if x, y := a.Number(size), b.Number(size); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return a.Compare(b)
	}
}

// dueAfter reports whether a prefetch should start after a segment was handed over,
// where end, if not zero, is the segment at which the archive was last seen to end
// on that timeline.
//
// A server that follows an archive asks again and again for the segment at its end,
// and gets one after the other: it must not make a prefetcher look for more each
// time. So none starts for a segment that was waited for, nor when that is all that
// is missing from the window. When the archive has grown by two meanwhile, the
// second makes one start.
func dueAfter(handed, end wal.Segment, present []wal.Segment, ahead int, size wal.SegmentSize) bool {
	if end == handed {
		return false
	}
	next, ready := handed.Next(size), 0
	for ; slices.Contains(present, next); next = next.Next(size) {
		ready++
	}
	return next != end && 2*ready < ahead
}
