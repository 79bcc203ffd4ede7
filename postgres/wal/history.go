package wal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// History is the content of a timeline history file: the line of descent of one timeline.
type History struct {
	Timeline  Timeline
	Ancestors []Ancestor // oldest first; empty for a timeline without parents
}

// Ancestor is a timeline that a History passes through, and where it was left for the next one.
type Ancestor struct {
	Timeline Timeline
	End      LSN    // the switch point: the first byte that is not of this timeline any more; see TimelineAt
	Reason   string // free text of PostgreSQL's, such as "no recovery target specified"
}

// ParseHistory reads the history file of tli, by the rules of readTimeLineHistory (src/backend/access/transam/timeline.c):
// a line is a decimal timeline, white space, the switch point, and a reason that runs to the end of the line; blank lines
// and lines that start with # don't count; timelines ascend and stay below tli. Anything else is ErrSyntax.
//
// Switch points need not ascend: recovery that stops before the switch point of the timeline it follows leaves such a
// file behind. TimelineAt gives the right answer for those, too.
func ParseHistory(tli Timeline, data []byte) (History, error) {
	h := History{Timeline: tli}
	for n, line := range strings.Split(string(data), "\n") {
		line = strings.Trim(line, cSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		a, err := parseAncestor(line)
		if err != nil {
			return History{}, fmt.Errorf("parse history of timeline %d, line %d: %w", tli, n+1, err)
		}
		if last := len(h.Ancestors) - 1; last >= 0 && a.Timeline <= h.Ancestors[last].Timeline {
			return History{}, fmt.Errorf("parse history of timeline %d, line %d: timeline %d follows %d, but they must ascend: %w",
				tli, n+1, a.Timeline, h.Ancestors[last].Timeline, ErrSyntax)
		}
		if a.Timeline >= tli {
			return History{}, fmt.Errorf("parse history of timeline %d, line %d: timeline %d can't be its ancestor: %w",
				tli, n+1, a.Timeline, ErrSyntax)
		}
		h.Ancestors = append(h.Ancestors, a)
	}
	return h, nil
}

// cSpace is what isspace() matches in C, which sscanf skips.
const cSpace = " \t\n\v\f\r"

// parseAncestor reads a line by the scanf format "%u\t%X/%X" of timeline.c, less what scanf tolerates in numbers (signs,
// a 0x, overflow). Its tab matches any white space.
func parseAncestor(line string) (Ancestor, error) {
	field, rest := cutSpace(line)
	tli, err := strconv.ParseUint(field, 10, 32)
	if err != nil || tli == 0 {
		return Ancestor{}, fmt.Errorf("no timeline at its start: %q: %w", line, ErrSyntax)
	}
	field, reason := cutSpace(rest)
	end, err := ParseLSN(field)
	if err != nil {
		return Ancestor{}, fmt.Errorf("no switch point after the timeline: %q: %w", line, ErrSyntax)
	}
	return Ancestor{Timeline: Timeline(tli), End: end, Reason: reason}, nil
}

// cutSpace splits s after its first field.
func cutSpace(s string) (field, rest string) {
	i := strings.IndexAny(s, cSpace)
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], cSpace)
}

// TimelineAt is the timeline of the path at lsn: the one whose WAL holds the byte there. As tliOfPointInHistory in
// timeline.c.
func (h History) TimelineAt(lsn LSN) Timeline {
	tli := h.Timeline
	for _, parent := range slices.Backward(h.Ancestors) {
		if parent.End <= lsn { // where tli begins: the newest that does so at or before lsn wins
			return tli
		}
		tli = parent.Timeline
	}
	return tli
}

// Contains tells whether the byte at lsn on timeline tli is on the path of h: whether recovery along h replays it.
func (h History) Contains(tli Timeline, lsn LSN) bool { return h.TimelineAt(lsn) == tli }

// SwitchPoint is where h leaves tli for the next timeline. ok is false where it doesn't: for h.Timeline itself, and for
// timelines that h doesn't pass through.
func (h History) SwitchPoint(tli Timeline) (lsn LSN, ok bool) {
	for _, a := range h.Ancestors {
		if a.Timeline == tli {
			return a.End, true
		}
	}
	return 0, false
}

// After is the timeline that follows tli on the path of h. It is 0 where none does: for h.Timeline itself, and for
// timelines that h doesn't pass through.
func (h History) After(tli Timeline) Timeline {
	next := h.Timeline
	for _, a := range slices.Backward(h.Ancestors) {
		if a.Timeline == tli {
			return next
		}
		next = a.Timeline
	}
	return 0
}
