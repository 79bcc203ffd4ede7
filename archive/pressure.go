package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"walden/catalog"
	"walden/postgres/wal"
	"walden/storage"
)

// DropOptions say when a segment is given up to keep the database alive. The zero
// value never gives up anything.
type DropOptions struct {
	// Over is how large pg_wal must have grown.
	Over Limit
	Host string // for the record of the gap

	// Slow is how long storage must have been waited for before it is left alone for
	// some seconds: one that fails at once costs nothing to ask again. 0 means a
	// second.
	Slow time.Duration

	// Hasty is the repository by a store that soon gives up when it gets no
	// answer. It is used while there are gaps that the repository does not know
	// of: at the full pace of a busy database there is no time to wait for each
	// segment. nil means the store of the requested file.
	Hasty storage.Store
}

// DropResult says what PushOrDrop did.
type DropResult struct {
	AheadResult

	// Dropped is why the segment was given up: it is not in the repository, and
	// PostgreSQL may forget it. nil when it is stored.
	Dropped error

	Gaps []catalog.Gap // written to the repository now
	// GapsError says why gaps that were noted could not be written, although the
	// file could. The next call tries again.
	GapsError error
}

// awayLife is how long storage that did not answer is not asked again while
// pg_wal is too large.
const awayLife = 5 * time.Second

const defaultSlow = time.Second

// PushOrDrop is PushAhead. When the repository can't take WAL and pg_wal has grown
// too large, it gives up a segment: the gap is noted in the spool before it
// returns, and written to the repository when that can be reached again. A file
// that would be refused, or conflicts with what is stored, is never given up, nor
// is anything but a whole segment.
func PushOrDrop(ctx context.Context, repo catalog.Cluster, path string, opts AheadOptions, drop DropOptions) (DropResult, error) {
	d := dropper{repo: repo, path: path, opts: opts, drop: drop}
	if opts.Spool != nil {
		d.noted = notes{spool: opts.Spool, repository: opts.Repository, systemID: repo.SystemID}
	}
	if cause := d.hopeless(ctx); cause != nil {
		return d.giveUp(cause)
	}
	began := time.Now()
	res, err := PushAhead(ctx, d.chooseStore(), path, opts)
	if err != nil {
		if !unavailable(err) {
			return DropResult{}, err
		}
		given, err := d.giveUp(err)
		if err == nil && time.Since(began) >= cmp.Or(drop.Slow, defaultSlow) {
			_ = opts.Spool.Mark(d.awayMark()) // without it the next call asks again
		}
		return given, err
	}
	all := DropResult{AheadResult: res}
	if opts.Spool != nil && !res.Recorded {
		all.Gaps, all.GapsError = d.noted.publish(ctx, repo, opts.SegmentSize)
	}
	return all, nil
}

// unavailable reports whether an error means that the repository can't take WAL
// now, whatever the WAL.
func unavailable(err error) bool {
	for _, conclusive := range []error{ErrRefused, catalog.ErrConflict, context.Canceled} {
		if errors.Is(err, conclusive) {
			return false
		}
	}
	for _, away := range []error{storage.ErrUnavailable, storage.ErrDenied, storage.ErrConfig, context.DeadlineExceeded} {
		if errors.Is(err, away) {
			return true
		}
	}
	return false
}

type dropper struct {
	repo  catalog.Cluster
	path  string
	opts  AheadOptions
	drop  DropOptions
	noted notes
}

// pressed reports whether the file is one that may be given up, and pg_wal has
// grown past the limit. It says by how much.
func (d dropper) pressed() (wal.Segment, string, bool, error) {
	name, err := base(d.path)
	if err != nil || d.drop.Over.IsZero() || name.Kind != wal.KindSegment {
		return wal.Segment{}, "", false, err
	}
	dir := filepath.Dir(d.path)
	used, err := walSize(dir)
	if err != nil {
		return wal.Segment{}, "", false, err
	}
	limit, err := d.drop.Over.bytesOf(dir)
	if err != nil {
		return wal.Segment{}, "", false, err
	}
	growth := fmt.Sprintf("pg_wal holds %d bytes, more than the limit of %s", used, d.drop.Over)
	return name.Segment, growth, used > limit, nil
}

func (d dropper) awayMark() string { return "away-" + localKey(d.opts.Repository, d.repo.SystemID) }

var errAway = fmt.Errorf("%w: it did not answer a moment ago, and was not asked again", storage.ErrUnavailable)

// hopeless returns why it is not worth asking the repository: it was away a
// moment ago, and there is no room to wait. A file that would be refused, or that
// is stored already, is not judged by that.
func (d dropper) hopeless(ctx context.Context) error {
	if d.opts.Spool == nil || !d.opts.Spool.Marked(d.awayMark(), awayLife) {
		return nil
	}
	s, _, pressed, err := d.pressed()
	if err != nil || !pressed {
		return nil
	}
	stored := records{spool: d.opts.Spool, repository: d.opts.Repository, systemID: d.repo.SystemID}
	if stored.covers(s.String(), d.path) {
		return nil
	}
	f, err := os.Open(d.path)
	if err != nil {
		return nil // Push will say so
	}
	defer f.Close() // it was only read
	name := wal.FileName{Kind: wal.KindSegment, Timeline: s.Timeline, Segment: s}
	if _, err := inspect(ctx, f, name, d.repo.SystemID, d.opts.SegmentSize); err != nil {
		return nil
	}
	return errAway
}

// chooseStore returns the repository as it is to be asked now.
func (d dropper) chooseStore() catalog.Cluster {
	if d.opts.Spool == nil || d.drop.Hasty == nil {
		return d.repo
	}
	if gaps, err := d.noted.all(); err != nil || len(gaps) == 0 {
		return d.repo
	}
	if _, _, pressed, err := d.pressed(); err != nil || !pressed {
		return d.repo
	}
	return catalog.Open(d.drop.Hasty, d.repo.SystemID)
}

// giveUp gives up the segment that could not be stored because of cause, if that
// is allowed and the gap can be noted. Else cause is the result.
func (d dropper) giveUp(cause error) (DropResult, error) {
	s, growth, pressed, err := d.pressed()
	if err != nil {
		return DropResult{}, errors.Join(cause, err)
	}
	if !pressed {
		return DropResult{}, cause
	}
	if d.opts.Spool == nil {
		return DropResult{}, fmt.Errorf("%w; %s, but without a spool the gap can't be noted", cause, growth)
	}
	reason := growth + "; " + strings.ReplaceAll(cause.Error(), "\n", "; ")
	if err := d.noted.add(s, reason, d.drop.Host); err != nil {
		return DropResult{}, fmt.Errorf("%w; %s, but the gap can't be noted: %w", cause, growth, err)
	}
	return DropResult{Dropped: fmt.Errorf("%s: %w", growth, cause)}, nil
}
