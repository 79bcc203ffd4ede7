package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walden/catalog"
	"walden/postgres/server"
	"walden/postgres/wal"
)

// ArchiveCheck is what CheckArchiving found.
type ArchiveCheck struct {
	Server  server.Identity
	Segment wal.Segment // that was switched, and has arrived
	Took    time.Duration
}

// CheckArchiving proves that the running server of a data directory archives into
// the repository: it ends the current WAL segment and waits until the repository
// has it. ErrRefused means that the server can't archive as it is configured or in
// its role, or that the segment did not arrive within timeout.
func CheckArchiving(ctx context.Context, repo catalog.Cluster, dir string, cfg server.Config, timeout time.Duration) (c ArchiveCheck, err error) {
	s, err := connect(ctx, dir, cfg)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	c.Server = s.server
	if err := canArchive(s.server); err != nil {
		return c, err
	}
	if c.Segment, err = s.endSegment(ctx); err != nil {
		return c, err
	}
	began := time.Now()
	need := catalog.WALNeed{Timeline: c.Segment.Timeline, First: c.Segment, Last: c.Segment}
	missing, err := awaitWAL(ctx, repo, need, s.ctl.SegmentSize, timeout)
	c.Took = time.Since(began)
	if err != nil {
		return c, err
	}
	if len(missing) > 0 {
		return c, s.explainWait(ctx, fmt.Errorf("segment %s did not arrive in the repository within %s: %w", c.Segment, timeout, errArchiving))
	}
	return c, nil
}

var errArchiving = fmt.Errorf("archiving does not work: %w", ErrRefused)

func canArchive(id server.Identity) error {
	switch {
	case id.InRecovery:
		return fmt.Errorf("the server is a standby and cannot end a WAL segment: run check on its primary: %w", ErrRefused)
	case id.ArchiveMode == "off":
		return fmt.Errorf("archive_mode is off: set it to on, set archive_command, and restart the server: %w", ErrRefused)
	case id.ArchiveLibrary == "" && (id.ArchiveCommand == "" || id.ArchiveCommand == "(disabled)"):
		return fmt.Errorf("archive_command is empty: set it (see 'walden wal-push --help') and reload the server: %w", ErrRefused)
	}
	return nil
}

// endSegment makes the server end its current WAL segment, which holds a record
// at least, and returns it.
func (s *session) endSegment(ctx context.Context) (wal.Segment, error) {
	if _, err := s.conn.LogicalMessage(ctx, "walden", "check"); err != nil {
		return wal.Segment{}, err
	}
	lsn, err := s.conn.SwitchWAL(ctx)
	return wal.SegmentBefore(s.server.Timeline, lsn, s.ctl.SegmentSize), err
}
