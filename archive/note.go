package archive

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
	"walden/walspool"
)

// note is gaps/<repository>-<cluster>/<segment> in the spool: a segment that was
// given up, of which the repository does not know yet.
type note struct {
	Format     int       `json:"format"`
	Repository string    `json:"repository"` // storage.Location.ID
	SystemID   uint64    `json:"system_identifier,string"`
	Segment    string    `json:"segment"`
	Reason     string    `json:"reason"`
	Host       string    `json:"host"`
	NotedAt    time.Time `json:"noted_at"`
}

const noteFormat = 1

// notes are those of one repository and cluster.
type notes struct {
	spool      *walspool.Spool
	repository string
	systemID   uint64
}

func (n notes) dir() string { return "gaps/" + localKey(n.repository, n.systemID) }

func (n notes) path(segment string) string { return n.dir() + "/" + segment }

// add notes durably that a segment is given up.
func (n notes) add(s wal.Segment, reason, host string) error {
	content, err := json.Marshal(note{
		Format: noteFormat, Repository: n.repository, SystemID: n.systemID,
		Segment: s.String(), Reason: reason, Host: host, NotedAt: time.Now().UTC(),
	})
	if err != nil {
		return err
	}
	return n.spool.WriteFile(n.path(s.String()), append(content, '\n'))
}

// all returns what was noted, as gaps of one segment each, ascending. A note that
// can't be read still says by its name which segment was given up.
func (n notes) all() ([]catalog.Gap, error) {
	names, err := n.spool.Files(n.dir())
	if err != nil {
		return nil, err
	}
	var gaps []catalog.Gap
	for _, name := range names {
		s, err := wal.ParseSegment(name)
		if err != nil {
			continue // not ours
		}
		gaps = append(gaps, n.read(s))
	}
	return gaps, nil
}

func (n notes) read(s wal.Segment) catalog.Gap {
	g := catalog.Gap{First: s, Last: s, Reason: "unknown: the note about it is damaged"}
	content, err := n.spool.ReadFile(n.path(s.String()))
	if err != nil {
		return g
	}
	if found, err := parseNote(content); err == nil {
		g.Reason, g.Host, g.NotedAt = found.Reason, found.Host, found.NotedAt
	}
	return g
}

func parseNote(content []byte) (note, error) {
	var n note
	if err := json.Unmarshal(content, &n); err != nil {
		return note{}, fmt.Errorf("parse note: %w", err)
	}
	if n.Format != noteFormat {
		return note{}, fmt.Errorf("parse note: format %d", n.Format)
	}
	return n, nil
}

// merge joins gaps, which are ascending, that follow one another without a
// segment between them.
func merge(gaps []catalog.Gap, size wal.SegmentSize) []catalog.Gap {
	var merged []catalog.Gap
	for _, g := range gaps {
		if n := len(merged); n > 0 && merged[n-1].Last.Next(size) == g.First {
			last := &merged[n-1]
			last.Last = g.Last
			if g.NotedAt.Before(last.NotedAt) {
				last.NotedAt = g.NotedAt
			}
			continue
		}
		merged = append(merged, g)
	}
	return merged
}

// publish writes what was noted to the repository, and forgets each note when
// the store has confirmed it. It returns what it wrote.
func (n notes) publish(ctx context.Context, repo catalog.Cluster, size wal.SegmentSize) ([]catalog.Gap, error) {
	noted, err := n.all()
	if err != nil {
		return nil, fmt.Errorf("write gaps to the repository: %w", err)
	}
	var written []catalog.Gap
	for _, g := range merge(noted, size) {
		if err := repo.CreateGap(ctx, g); err != nil {
			return written, fmt.Errorf("write the gap from %s to %s to the repository: %w", g.First, g.Last, err)
		}
		written = append(written, g)
		in := func(one catalog.Gap) bool { return !one.First.Less(g.First) && !g.Last.Less(one.First) }
		for _, one := range slices.DeleteFunc(slices.Clone(noted), func(one catalog.Gap) bool { return !in(one) }) {
			if err := n.spool.RemoveFile(n.path(one.First.String())); err != nil {
				return written, fmt.Errorf("forget that %s was given up: %w", one.First, err)
			}
		}
	}
	return written, nil
}
