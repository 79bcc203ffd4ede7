package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

func (p *program) info() *cli.Command {
	return p.command(&cli.Command{
		Name:  "info",
		Usage: "show clusters, backups and WAL in the repository",
		Description: `Shows the cluster of --cluster, --pgdata, PGDATA or the working directory, and all clusters where
none of them says which. The status of a backup is worked out anew each time: complete means that
its data and all the WAL it needs are there.

Exits 0 when every cluster shown has a complete backup, 1 when one conclusively has none, 2 when
that can't be told.`,
		Flags: concat(repoFlags(storeTimeout), []cli.Flag{pgdataFlag(), clusterFlag(), identityFlag(), boolFlag("json", "print JSON (see docs/json.md)")}),
		Action: func(c *cli.Context) error {
			if err := arguments(c, 0, 0); err != nil {
				return err
			}
			return p.showInfo(c)
		},
	})
}

// infoReport is what info prints; docs/json.md describes its JSON.
type infoReport struct {
	Version           int           `json:"version"`
	Repository        string        `json:"repository"`
	ConditionalCreate bool          `json:"conditional_create"`
	Clusters          []infoCluster `json:"clusters"`
}

type infoCluster struct {
	SystemID        uint64          `json:"system_identifier,string"`
	PostgresVersion int             `json:"postgres_version"`
	SegmentSize     wal.SegmentSize `json:"wal_segment_size"`
	Backups         []infoBackup    `json:"backups"`
	Timelines       []infoTimeline  `json:"timelines"`
	Gaps            []infoGap       `json:"gaps"`
}

type infoBackup struct {
	ID              string         `json:"id"`
	Status          catalog.Status `json:"status"`
	Reason          string         `json:"reason,omitempty"`
	Type            string         `json:"type,omitempty"`
	Host            string         `json:"host,omitempty"`
	FromStandby     bool           `json:"from_standby"`
	Encrypted       bool           `json:"encrypted"`
	StartedAt       *time.Time     `json:"started_at,omitempty"`
	StoppedAt       *time.Time     `json:"stopped_at,omitempty"`
	PostgresVersion int            `json:"postgres_version,omitempty"`
	Files           int64          `json:"files"`
	Bytes           int64          `json:"bytes"`
	StoredBytes     int64          `json:"stored_bytes"`

	WAL           *catalog.WALNeed     `json:"wal,omitempty"`
	RecoverableTo *wal.Segment         `json:"recoverable_to,omitempty"` // end of the WAL that follows without a hole on its timeline
	Tablespaces   []catalog.Tablespace `json:"tablespaces,omitempty"`
}

type infoTimeline struct {
	ID       wal.Timeline  `json:"id"`
	Parent   *wal.Timeline `json:"parent,omitempty"`
	SwitchAt *wal.LSN      `json:"switch_at,omitempty"` // where it left its parent
	// ParentLacks is the first segment that is missing at the end of the parent's
	// WAL, before the switch: recovery can't come here from an older backup.
	ParentLacks *wal.Segment `json:"parent_lacks,omitempty"`
	// HistoryError says why its history file can't be read, or that there is none.
	HistoryError string      `json:"history_error,omitempty"`
	Ranges       []infoRange `json:"ranges"`
}

type infoRange struct {
	First       wal.Segment `json:"first"`
	Last        wal.Segment `json:"last"`
	Segments    int         `json:"segments"`
	StoredBytes int64       `json:"stored_bytes"`
}

func (p *program) showInfo(c *cli.Context) error {
	ids, err := identities(c)
	if err != nil {
		return err
	}
	store, loc, err := p.openStore(c)
	if err != nil {
		return err
	}
	repos, err := p.clustersToShow(c, store)
	if err != nil {
		return err
	}
	report := infoReport{Version: 1, Repository: loc.String(), ConditionalCreate: loc.Conditional(), Clusters: []infoCluster{}}
	for _, repo := range repos {
		cluster, err := describe(c.Context, repo, ids)
		if err != nil {
			return fmt.Errorf("cluster %d: %w", repo.SystemID, err)
		}
		report.Clusters = append(report.Clusters, cluster)
	}
	if err := p.print(c, report, report.writeText); err != nil {
		return err
	}
	return report.verdict()
}

// clustersToShow returns the cluster that is asked for, else all.
func (p *program) clustersToShow(c *cli.Context, store storage.Store) ([]catalog.Cluster, error) {
	t, err := p.dataDirectory(c, p.operatorsPlaces())
	if err != nil {
		return nil, err
	}
	if t.dir != "" || c.String("cluster") != "" {
		t, err := p.clusterOf(c, store, p.operatorsPlaces())
		return []catalog.Cluster{t.repo}, err
	}
	ids, err := catalog.Clusters(c.Context, store)
	if err != nil {
		return nil, err
	}
	var repos []catalog.Cluster
	for _, id := range ids {
		repos = append(repos, catalog.Open(store, id))
	}
	return repos, nil
}

// describe collects what the repository holds of a cluster, which may be nothing.
func describe(ctx context.Context, repo catalog.Cluster, ids []codec.Identity) (infoCluster, error) {
	shown := infoCluster{SystemID: repo.SystemID, Backups: []infoBackup{}, Timelines: []infoTimeline{}, Gaps: []infoGap{}}
	id, err := repo.Identity(ctx)
	if errors.Is(err, storage.ErrNotExist) {
		known, err := repo.Known(ctx)
		if err == nil && known {
			err = fmt.Errorf("cluster.json is missing although there are other objects: %w", storage.ErrCorrupt)
		}
		return shown, err
	}
	if err != nil {
		return shown, err
	}
	shown.PostgresVersion, shown.SegmentSize = id.PostgresVersion, id.SegmentSize
	backups, err := repo.Backups(ctx)
	if err != nil {
		return shown, err
	}
	timelines, err := repo.Timelines(ctx, id.SegmentSize, ids)
	if err != nil {
		return shown, err
	}
	for _, b := range backups {
		shown.Backups = append(shown.Backups, describeBackup(b, timelines))
	}
	for _, t := range timelines {
		line := describeTimeline(t)
		line.ParentLacks = parentLacks(t, timelines, id.SegmentSize)
		shown.Timelines = append(shown.Timelines, line)
	}
	gaps, err := repo.Gaps(ctx)
	if err != nil {
		return shown, err
	}
	shown.Gaps = describeGaps(gaps, timelines, id.SegmentSize)
	return shown, nil
}

func describeBackup(b catalog.Backup, timelines []catalog.Timeline) infoBackup {
	shown := infoBackup{ID: b.ID, Status: b.Status, Reason: b.Reason}
	if s := b.Start; s != nil {
		shown.Type, shown.Host, shown.FromStandby = s.Type, s.Host, s.FromStandby
		shown.StartedAt, shown.PostgresVersion = &s.StartedAt, s.PostgresVersion
	}
	m := b.Commit
	if m == nil {
		return shown
	}
	shown.Type, shown.FromStandby, shown.Encrypted, shown.PostgresVersion = m.Type, m.FromStandby, m.Encrypted, m.PostgresVersion
	shown.StartedAt, shown.StoppedAt, shown.WAL, shown.Tablespaces = &m.StartedAt, &m.StoppedAt, &m.WAL, m.Tablespaces
	shown.Files, shown.Bytes, shown.StoredBytes = m.Files, m.Bytes, m.StoredBytes
	if b.Status != catalog.StatusComplete {
		return shown
	}
	for _, t := range timelines {
		if t.ID == m.WAL.Timeline {
			end := t.EndOf(m.WAL.Last)
			shown.RecoverableTo = &end
		}
	}
	return shown
}

// parentLacks returns the first segment that is missing at the end of the WAL of a
// timeline's parent, nil if it reaches the switch. The segment of the switch itself
// is the child's.
func parentLacks(t catalog.Timeline, all []catalog.Timeline, size wal.SegmentSize) *wal.Segment {
	if t.History == nil || len(t.History.Ancestors) == 0 {
		return nil
	}
	parent := t.History.Ancestors[len(t.History.Ancestors)-1]
	for _, p := range all {
		if p.ID != parent.Timeline || len(p.Ranges) == 0 {
			continue
		}
		next := p.Ranges[len(p.Ranges)-1].Last.Next(size)
		if next.End(size) <= parent.End {
			return &next
		}
	}
	return nil
}

func describeTimeline(t catalog.Timeline) infoTimeline {
	shown := infoTimeline{ID: t.ID, Ranges: []infoRange{}}
	if t.History != nil && len(t.History.Ancestors) > 0 {
		parent := t.History.Ancestors[len(t.History.Ancestors)-1]
		shown.Parent, shown.SwitchAt = &parent.Timeline, &parent.End
	}
	switch {
	case t.HistoryError != nil:
		shown.HistoryError = oneLine(t.HistoryError)
	case t.History == nil && t.ID > 1:
		shown.HistoryError = fmt.Sprintf("%s.history is not in the repository", t.ID)
	}
	for _, r := range t.Ranges {
		shown.Ranges = append(shown.Ranges, infoRange(r))
	}
	return shown
}

// verdict is the exit code: whether every cluster shown has a complete backup.
func (r infoReport) verdict() error {
	if len(r.Clusters) == 0 {
		return errNo
	}
	for _, c := range r.Clusters {
		complete := false
		for _, b := range c.Backups {
			complete = complete || b.Status == catalog.StatusComplete
		}
		if !complete {
			return errNo
		}
	}
	return nil
}

// print writes a report as JSON or as text.
func (p *program) print(c *cli.Context, report any, text func(io.Writer) error) error {
	if !c.Bool("json") {
		return text(p.env.Stdout)
	}
	enc := json.NewEncoder(p.env.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(report)
}

func (r infoReport) writeText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "repository %s\n", r.Repository)
	if !r.ConditionalCreate {
		fmt.Fprintln(tw, "  conditional=off: two hosts that write the same name at the same moment are not told apart")
	}
	if len(r.Clusters) == 0 {
		fmt.Fprintln(tw, "  holds no cluster: nothing has been stored in it yet")
	}
	for _, c := range r.Clusters {
		c.writeText(tw)
	}
	return tw.Flush()
}

func (c infoCluster) writeText(w io.Writer) {
	if c.PostgresVersion == 0 {
		fmt.Fprintf(w, "\ncluster %d\n  the repository holds nothing of it\n", c.SystemID)
		return
	}
	fmt.Fprintf(w, "\ncluster %d, PostgreSQL %d, WAL segments of %s\n", c.SystemID, c.PostgresVersion, c.SegmentSize)
	if len(c.Backups) == 0 {
		fmt.Fprintln(w, "  no backups")
	} else {
		fmt.Fprintln(w, "\n  BACKUP\tSTATUS\tTYPE\tENDED\tSIZE\tSTORED\tTIMELINE\tRECOVERABLE TO THE END OF")
	}
	for _, b := range c.Backups {
		b.writeText(w)
	}
	if len(c.Timelines) == 0 {
		fmt.Fprintln(w, "  no WAL")
		writeGaps(w, c.Gaps)
		return
	}
	fmt.Fprintln(w, "\n  TIMELINE\tFIRST SEGMENT\tLAST SEGMENT\tSEGMENTS\tSTORED\t")
	for _, t := range c.Timelines {
		t.writeText(w, c.Gaps)
	}
	writeGaps(w, c.Gaps)
}

func (b infoBackup) writeText(w io.Writer) {
	ended, timeline, end := "-", "-", "-"
	if b.StoppedAt != nil {
		ended, timeline = b.StoppedAt.Local().Format("2006-01-02 15:04:05 MST"), b.WAL.Timeline.String()
	}
	if b.RecoverableTo != nil {
		end = b.RecoverableTo.String()
	}
	kind := b.Type
	if b.Encrypted {
		kind += ", encrypted"
	}
	fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", b.ID, b.Status, kind, ended, size(b.Bytes), size(b.StoredBytes), timeline, end)
	if b.Reason != "" {
		fmt.Fprintf(w, "    %s\n", b.Reason)
	}
}

func (t infoTimeline) writeText(w io.Writer, gaps []infoGap) {
	for i, r := range t.Ranges {
		note := ""
		if i > 0 {
			note = "after a hole"
			if explained(t.Ranges[i-1].Last, r.First, gaps) {
				note = "after a gap: given up, see below"
			}
		} else if t.Parent != nil {
			note = fmt.Sprintf("left timeline %s at %s", *t.Parent, *t.SwitchAt)
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d\t%s\t%s\n", t.ID, r.First, r.Last, r.Segments, size(r.StoredBytes), note)
	}
	if t.ParentLacks != nil {
		fmt.Fprintf(w, "    a hole before it: timeline %s lacks WAL from %s to where it was left\n", *t.Parent, *t.ParentLacks)
	}
	if t.HistoryError != "" {
		fmt.Fprintf(w, "    where timeline %s comes from is not known: %s\n", t.ID, t.HistoryError)
	}
}
