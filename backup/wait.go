package backup

import (
	"context"
	"errors"
	"fmt"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
)

// DefaultWaitTimeout is how long Push waits for WAL when nothing else is asked.
const DefaultWaitTimeout = 10 * time.Minute

// The repository is asked for WAL in growing intervals between these.
const (
	firstLook = 100 * time.Millisecond
	lastLook  = 5 * time.Second
)

// waitForWAL returns when all WAL that the backup needs is in the repository,
// whoever archives it.
func (p *pusher) waitForWAL(ctx context.Context) error {
	timeout := p.opts.WaitTimeout
	if timeout <= 0 {
		timeout = DefaultWaitTimeout
	}
	p.report.Step(fmt.Sprintf("waiting for WAL %s to %s in the repository", p.commit.WAL.First, p.commit.WAL.Last))
	missing, err := awaitWAL(ctx, p.repo, p.commit.WAL, p.commit.SegmentSize, timeout)
	if err != nil {
		return fmt.Errorf("%w: %s: looking for its WAL failed: %w", ErrWaiting, p.commit.ID, err)
	}
	if len(missing) == 0 {
		return nil
	}
	return p.explainWait(ctx, fmt.Errorf("%w: after %s, %d segments that %s needs are not in the repository, the first is %s; "+
		"it becomes complete by itself when they arrive", ErrWaiting, timeout, len(missing), p.commit.ID, missing[0]))
}

// awaitWAL looks until the repository has all of need or the time is over, and
// returns what is missing then.
func awaitWAL(ctx context.Context, repo catalog.Cluster, need catalog.WALNeed, size wal.SegmentSize, timeout time.Duration) ([]wal.Segment, error) {
	giveUp := time.Now().Add(timeout)
	for every := firstLook; ; every = min(2*every, lastLook) {
		missing, err := repo.MissingWAL(ctx, need, size)
		if err != nil || len(missing) == 0 || time.Now().After(giveUp) {
			return missing, err
		}
		select {
		case <-ctx.Done():
			return missing, ctx.Err()
		case <-time.After(min(every, time.Until(giveUp))):
		}
	}
}

// explainWait adds what the server says about archiving to an error.
func (s *session) explainWait(ctx context.Context, err error) error {
	if s.server.InRecovery {
		return fmt.Errorf("%w; on a quiet primary run SELECT pg_switch_wal() there", err)
	}
	a, askErr := s.conn.Archiver(ctx)
	switch {
	case askErr != nil:
		return errors.Join(err, askErr)
	case a.Failing():
		return fmt.Errorf("%w; archive_command last failed at %s for %s: the cause is in the server's log",
			err, a.LastFailedTime.Format(time.RFC3339), a.LastFailed)
	case a.LastArchived == "":
		return fmt.Errorf("%w; the server has not archived anything yet: look at archive_command and at the server's log", err)
	}
	return fmt.Errorf("%w; the server last archived %s: does its archive_command push to this repository?", err, a.LastArchived)
}
