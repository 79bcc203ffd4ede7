package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"walden/catalog"
	"walden/codec"
	"walden/internal/spill"
	"walden/postgres/pgdata"
	"walden/postgres/server"
	"walden/postgres/wal"
	"walden/storage"
)

// PushOptions say how a base backup is taken. PGData is required.
type PushOptions struct {
	PGData     string
	Server     server.Config // its PGData is set from the one above
	Spread     bool          // spread the checkpoint that the backup begins with, instead of doing it at once
	Jobs       int           // slices built at once; 0 means DefaultJobs
	Level      codec.Level
	Recipients []codec.Recipient

	// NoWait returns when the backup is stored, and takes backups of servers
	// that don't archive.
	NoWait bool
	// WaitTimeout is how long to wait for the WAL that the backup needs; 0 means
	// DefaultWaitTimeout.
	WaitTimeout time.Duration

	Host    string // of this host, for the record
	Version string // of this program, for the record
	Report  Reporter
}

// pusher is one backup on its way.
type pusher struct {
	*session
	opts   PushOptions
	repo   catalog.Cluster
	report Reporter

	commit      catalog.Commit
	manifest    *catalog.ManifestWriter
	tablespaces []pgdata.Tablespace // when the backup began
}

// Push takes a full base backup of the running cluster in opts.PGData and returns
// its commit record when the backup, and all WAL that it needs, is in the
// repository.
//
// It proves first that the server it talks to is the server of that directory:
// server.ErrOtherCluster, with nothing written. ErrWaiting means that the backup
// is stored but not all of its WAL yet.
func Push(ctx context.Context, store storage.Store, opts PushOptions) (b catalog.Commit, err error) {
	s, err := connect(ctx, opts.PGData, opts.Server)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	p := &pusher{session: s, opts: opts, report: orSilent(opts.Report)}
	if err := p.accept(); err != nil {
		return b, err
	}
	p.repo = catalog.Open(store, p.ctl.SystemID)
	if err := p.prepareRepository(ctx); err != nil {
		return b, err
	}
	if err := p.take(ctx); err != nil {
		return b, err
	}
	if opts.NoWait {
		return p.commit, nil
	}
	return p.commit, p.waitForWAL(ctx)
}

// accept refuses a server whose backup could not become complete.
func (p *pusher) accept() error {
	// What a standby's setting says does not matter: its primary archives.
	if p.server.ArchiveMode == "off" && !p.server.InRecovery && !p.opts.NoWait {
		return fmt.Errorf("archive_mode is off, so the WAL that a backup needs is not archived and it could not be restored: %w; "+
			"set archive_mode = on and archive_command (see 'walden wal-push --help') and restart the server, "+
			"or use --no-wait if something else stores its WAL in this repository", ErrRefused)
	}
	role := "primary"
	if p.server.InRecovery {
		role = "standby"
	}
	p.report.Step(fmt.Sprintf("backing up %s: PostgreSQL %d, port %d, %s, system identifier %d",
		p.dir, p.server.Major, p.server.Port, role, p.ctl.SystemID))
	return nil
}

func (p *pusher) prepareRepository(ctx context.Context) error {
	err := p.repo.EnsureIdentity(ctx, catalog.Identity{SegmentSize: p.ctl.SegmentSize, PostgresVersion: p.ctl.Major})
	if err != nil {
		return err
	}
	return p.repo.ProbeConditional(ctx)
}

// take does everything from the start of the backup to its commit record.
func (p *pusher) take(ctx context.Context) (err error) {
	if err := p.start(ctx); err != nil {
		return err
	}
	manifest := spill.Buffer{Limit: manifestMemory}
	defer func() { err = errors.Join(err, manifest.Close()) }()
	p.manifest, err = catalog.NewManifestWriter(&manifest,
		catalog.ManifestHeader{Backup: p.commit.ID, SystemID: p.ctl.SystemID, Sources: []string{p.commit.ID}})
	if err != nil {
		return err
	}
	if err := p.copyCluster(ctx); err != nil {
		return err
	}
	if err := p.manifest.Close(); err != nil {
		return err
	}
	return p.store(ctx, &manifest)
}

// start begins the backup on the server and in the repository. While the server
// does its checkpoint, the size of the cluster is found out.
func (p *pusher) start(ctx context.Context) (err error) {
	now := time.Now().UTC().Truncate(time.Second)
	if p.commit.ID, err = catalog.NewBackupID(now); err != nil {
		return err
	}
	p.report.Step("starting backup " + p.commit.ID + ": waiting for a checkpoint")
	g, gctx := errgroup.WithContext(ctx)
	var lsn wal.LSN
	g.Go(func() (err error) {
		if lsn, err = p.conn.StartBackup(gctx, "walden "+p.commit.ID, !p.opts.Spread); err != nil {
			return err
		}
		p.tablespaces, err = pgdata.Tablespaces(p.dir)
		return err
	})
	g.Go(func() error {
		var total int64
		for e, err := range pgdata.Walk(p.dir, p.ctl) {
			if err := errors.Join(err, gctx.Err()); err != nil {
				return err
			}
			if e.Type == pgdata.File {
				total += e.Size
			}
		}
		p.report.Total(total)
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	p.commit.SystemID, p.commit.StartedAt, p.commit.WAL.StartLSN = p.ctl.SystemID, now, lsn
	return p.repo.CreateStart(ctx, catalog.Start{
		ID: p.commit.ID, Type: "full", StartedAt: now, Host: p.opts.Host, DataDirectory: p.dir,
		PostgresVersion: p.server.VersionNum, FromStandby: p.server.InRecovery,
		Timeline: p.server.Timeline, StartLSN: lsn, Walden: p.opts.Version,
	})
}

// copyCluster stores all slices, stops the backup on the server before the last
// one, and fills the manifest.
func (p *pusher) copyCluster(ctx context.Context) error {
	p.report.Step("copying from " + p.commit.WAL.StartLSN.String())
	jobs := p.opts.Jobs
	if jobs <= 0 {
		jobs = DefaultJobs()
	}
	c, err := newCopier(p.repo, p.commit.ID, jobs, p.opts.Level, p.opts.Recipients, p.report, p.collect)
	if err != nil {
		return err
	}
	plan := &planner{}
	if err := p.whileConnected(ctx, func(ctx context.Context) error {
		return c.run(ctx, plan.jobs(withoutNew(p.tablespaces, pgdata.Walk(p.dir, p.ctl))))
	}); err != nil {
		return err
	}
	last, err := p.stop(ctx)
	if err != nil {
		return err
	}
	for _, i := range last {
		plan.add(i)
	}
	final, _ := plan.flush()
	return c.finish(ctx, final)
}

// pingInterval is how often the session that holds the backup open is looked at.
const pingInterval = 10 * time.Second

// whileConnected runs do and ends it early when the session that holds the
// backup open is lost: all further copying would be in vain.
func (p *pusher) whileConnected(ctx context.Context, do func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	g.Go(func() error {
		defer close(done)
		return do(gctx)
	})
	g.Go(func() error {
		tick := time.NewTicker(pingInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return nil
			case <-tick.C:
				if err := p.conn.Ping(ctx); err != nil {
					return fmt.Errorf("the session that holds the backup open: %w", err)
				}
			}
		}
	})
	return g.Wait()
}

// collect adds what became of a job to the manifest and the sums.
func (p *pusher) collect(c copied) error {
	p.commit.Slices += c.slices
	p.commit.StoredBytes += c.stored
	for _, e := range c.entries {
		if e.Type == catalog.TypeFile {
			p.commit.Files++
			p.commit.Bytes += e.Size
		}
		if err := p.manifest.Add(*e); err != nil {
			return err
		}
	}
	return nil
}

// stop reads pg_control, which must be the last file that is read, ends the
// backup on the server, and returns the items that end the stream. pg_control is
// the last of them: without it no server starts from a part of a restore.
func (p *pusher) stop(ctx context.Context) ([]item, error) {
	ctl, raw, err := pgdata.ReadControl(p.dir)
	if err != nil {
		return nil, err
	}
	stop, err := p.conn.StopBackup(ctx)
	if err != nil {
		return nil, err
	}
	for _, w := range stop.Warnings {
		p.report.Step("PostgreSQL warns: " + w)
	}
	if err := p.complete(ctl, stop); err != nil {
		return nil, err
	}
	last := []item{p.memory(labelPath, []byte(stop.Label))}
	if stop.TablespaceMap != "" {
		last = append(last, p.memory(mapPath, []byte(stop.TablespaceMap)))
	}
	return append(last, p.memory(pgdata.ControlPath, raw)), nil
}

// complete works out what the commit record says about WAL, time and
// tablespaces.
func (p *pusher) complete(ctl pgdata.Control, stop server.Stop) error {
	label, err := wal.ParseBackupLabel([]byte(stop.Label))
	if err != nil {
		return fmt.Errorf("backup label of the server: %w", err)
	}
	b := &p.commit
	end := stop.LSN
	if p.server.InRecovery {
		// Pages copied from a standby may be as new as its replay was when
		// pg_control was read.
		end = max(end, ctl.MinRecoveryPoint)
		if ctl.MinRecoveryTimeline != label.Timeline {
			return fmt.Errorf("the standby went from timeline %s to %s during the backup: %w: take it again",
				label.Timeline, ctl.MinRecoveryTimeline, server.ErrBackupVoid)
		}
	}
	b.WAL.StartLSN, b.WAL.StopLSN, b.WAL.Timeline = label.Start, end, label.Timeline
	b.WAL.First = wal.SegmentAt(label.Timeline, label.Start, p.ctl.SegmentSize)
	b.WAL.Last = wal.SegmentBefore(label.Timeline, end, p.ctl.SegmentSize)
	tablespaces, err := pgdata.ParseTablespaceMap([]byte(stop.TablespaceMap))
	if err != nil {
		return fmt.Errorf("tablespace map of the server: %w", err)
	}
	for _, t := range p.tablespaces {
		if !slices.ContainsFunc(tablespaces, func(other pgdata.Tablespace) bool { return other.OID == t.OID }) {
			return fmt.Errorf("tablespace %d was made just when the backup began: %w: take it again", t.OID, server.ErrBackupVoid)
		}
	}
	for _, t := range tablespaces {
		b.Tablespaces = append(b.Tablespaces, catalog.Tablespace{OID: t.OID, Location: t.Location})
	}
	root, err := os.Stat(p.dir)
	if err != nil {
		return err
	}
	b.DataDirectoryMode = catalog.FileMode(root.Mode().Perm())
	b.Type, b.StoppedAt, b.NextXID = "full", stop.Time.UTC(), stop.NextXID
	b.PostgresVersion, b.CatalogVersion, b.FromStandby = p.server.VersionNum, p.ctl.CatalogVersion, p.server.InRecovery
	b.SegmentSize, b.Encrypted = p.ctl.SegmentSize, len(p.opts.Recipients) > 0
	return nil
}

func (p *pusher) memory(path string, data []byte) item {
	return item{data: data, Entry: pgdata.Entry{
		Path: path, Type: pgdata.File, Mode: 0o600, Size: int64(len(data)), ModTime: p.commit.StoppedAt,
	}}
}

// store creates the manifest and then the commit record.
func (p *pusher) store(ctx context.Context, manifest *spill.Buffer) error {
	sum := sha256.New()
	if _, err := io.Copy(sum, manifest.Reader()); err != nil {
		return fmt.Errorf("hash manifest: %w", err)
	}
	p.commit.ManifestSize, p.commit.ManifestSHA256 = manifest.Size(), hex.EncodeToString(sum.Sum(nil))
	if err := p.repo.CreateManifest(ctx, p.commit.ID, manifest.Reader(), manifest.Size()); err != nil {
		return err
	}
	if err := p.repo.CreateCommit(ctx, p.commit); err != nil {
		return err
	}
	p.report.Step(fmt.Sprintf("stored %s: %d files, %d bytes as %d", p.commit.ID, p.commit.Files, p.commit.Bytes, p.commit.StoredBytes))
	return nil
}
