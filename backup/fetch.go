package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"

	"walden/catalog"
	"walden/codec"
	"walden/internal/durable"
	"walden/internal/spill"
	"walden/postgres/pgdata"
)

// FetchOptions say how a backup is restored. Dir is required.
type FetchOptions struct {
	Dir         string            // the new data directory: absent or empty
	Tablespaces map[uint32]string // other places for tablespaces, by OID
	Jobs        int               // files or slices restored at once; 0 means DefaultJobs
	Identities  []codec.Identity
	Recovery    Recovery
	Report      Reporter
}

// fetcher is one restore on its way.
type fetcher struct {
	opts   FetchOptions
	repo   catalog.Cluster
	commit catalog.Commit
	report Reporter
	places map[uint32]string // where each tablespace goes
	owner  *owner            // nil: files belong to whoever runs this

	sources  []string        // the backups that extents point into
	links    []catalog.Entry // symbolic links, which are made when all else is there
	labelled bool            // there is a backup_label
}

// Fetch restores a complete backup into opts.Dir and sets up recovery. When it
// returns nil, every file has the content that was backed up and survives a
// power loss. pg_control is written last: no server starts from a directory that
// was restored in part.
//
// ErrRefused means that nothing was written: the backup is not complete, or a
// directory is not empty.
func Fetch(ctx context.Context, repo catalog.Cluster, b catalog.Backup, opts FetchOptions) (err error) {
	if b.Status != catalog.StatusComplete {
		return fmt.Errorf("backup %s is %s (%s): %w", b.ID, b.Status, b.Reason, ErrRefused)
	}
	f := &fetcher{opts: opts, repo: repo, commit: *b.Commit, report: orSilent(opts.Report)}
	if f.commit.Encrypted && len(opts.Identities) == 0 {
		return fmt.Errorf("backup %s is %w: use --identity: %w", b.ID, codec.ErrNoIdentity, ErrRefused)
	}
	if err := f.prepare(); err != nil {
		return err
	}
	manifest := spill.Buffer{Limit: manifestMemory}
	defer func() { err = errors.Join(err, manifest.Close()) }()
	if err := f.repo.ReadManifest(ctx, f.commit, &manifest); err != nil {
		return err
	}
	if err := f.restore(ctx, &manifest); err != nil {
		return fmt.Errorf("%w (%s holds an unfinished restore: remove it before you try again)", err, opts.Dir)
	}
	return nil
}

// prepare finds out where everything goes and refuses what is not empty before
// anything is written.
func (f *fetcher) prepare() (err error) {
	if f.opts.Dir, err = filepath.Abs(f.opts.Dir); err != nil {
		return err
	}
	if err := f.findPlaces(); err != nil {
		return err
	}
	for _, t := range f.commit.Tablespaces {
		if err := mustBeEmpty(f.places[t.OID]); err != nil {
			return fmt.Errorf("tablespace %d: %w; choose another place with --tablespace %d=DIR", t.OID, err, t.OID)
		}
	}
	if err := mustBeEmpty(f.opts.Dir); err != nil {
		return err
	}
	f.owner, err = ownerFor(f.opts.Dir)
	return err
}

// findPlaces works out where tablespaces go.
func (f *fetcher) findPlaces() error {
	f.places = map[uint32]string{}
	for _, t := range f.commit.Tablespaces {
		f.places[t.OID] = t.Location
	}
	for oid, dir := range f.opts.Tablespaces {
		if _, ok := f.places[oid]; !ok {
			return fmt.Errorf("backup %s has no tablespace %d (it has %s): %w", f.commit.ID, oid, f.tablespaceList(), ErrRefused)
		}
		f.places[oid] = filepath.Clean(dir)
	}
	for oid, dir := range f.places {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("tablespace %d: %s is not an absolute path: %w", oid, dir, ErrRefused)
		}
	}
	return f.placesApart()
}

// placesApart refuses tablespaces and a data directory of which one lies in
// another, or that share a place.
func (f *fetcher) placesApart() error {
	name, place := []string{"the data directory"}, []string{realPath(f.opts.Dir)}
	for _, t := range f.commit.Tablespaces {
		name, place = append(name, fmt.Sprintf("tablespace %d", t.OID)), append(place, realPath(f.places[t.OID]))
	}
	for i := range place {
		for j := range place {
			if rel, err := filepath.Rel(place[i], place[j]); i != j && err == nil && filepath.IsLocal(rel) {
				return fmt.Errorf("%s would lie in %s, at %s: choose another place with --tablespace OID=DIR: %w", name[j], name[i], place[j], ErrRefused)
			}
		}
	}
	return nil
}

// realPath resolves the symbolic links of an absolute path, of which the end need
// not exist.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	parent := filepath.Dir(path)
	if parent == path {
		return path
	}
	return filepath.Join(realPath(parent), filepath.Base(path))
}

func (f *fetcher) tablespaceList() string {
	if len(f.commit.Tablespaces) == 0 {
		return "none"
	}
	var list []string
	for _, t := range f.commit.Tablespaces {
		list = append(list, fmt.Sprintf("%d at %s", t.OID, t.Location))
	}
	return strings.Join(list, ", ")
}

// mustBeEmpty refuses anything but an empty directory or nothing at all.
func mustBeEmpty(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close() // it was only read
	names, err := d.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%s is not a directory: %w", dir, ErrRefused)
	case err != nil:
		return err
	}
	return fmt.Errorf("%s is not empty (it has %s); nothing was written: %w", dir, names[0], ErrRefused)
}

func (f *fetcher) restore(ctx context.Context, manifest *spill.Buffer) error {
	f.report.Step(fmt.Sprintf("restoring %s into %s", f.commit.ID, f.opts.Dir))
	f.report.Total(f.commit.Bytes)
	if err := f.makeRoots(); err != nil {
		return err
	}
	control, err := f.unpack(ctx, manifest)
	if err != nil {
		return err
	}
	if err := f.makeLinks(); err != nil {
		return err
	}
	if err := f.remapTablespaces(); err != nil {
		return err
	}
	if err := f.opts.Recovery.write(f.opts.Dir, f.owner); err != nil {
		return fmt.Errorf("set up recovery: %w", err)
	}
	f.report.Step("writing everything to disk")
	for _, root := range f.roots() {
		if err := durable.SyncTree(root); err != nil {
			return err
		}
	}
	return f.publishControl(control)
}

func (f *fetcher) roots() []string {
	roots := []string{f.opts.Dir}
	for _, t := range f.commit.Tablespaces {
		roots = append(roots, f.places[t.OID])
	}
	return roots
}

// makeRoots creates the data directory, the tablespaces' directories, and the
// links to them, so that files find their way by path.
func (f *fetcher) makeRoots() error {
	for _, dir := range f.roots() {
		if err := f.owner.makeDir(dir); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
	}
	if mode := fs.FileMode(f.commit.DataDirectoryMode); mode != 0 {
		if err := os.Chmod(f.opts.Dir, mode); err != nil {
			return err
		}
	}
	if len(f.places) == 0 {
		return nil
	}
	links := filepath.Join(f.opts.Dir, "pg_tblspc")
	if err := f.owner.makeDir(links); err != nil {
		return err
	}
	for oid, dir := range f.places {
		link := filepath.Join(links, strconv.FormatUint(uint64(oid), 10))
		if err := os.Symlink(dir, link); err != nil {
			return err
		}
		if err := f.owner.own(link); err != nil {
			return err
		}
	}
	return nil
}

// unpack restores every file and directory of the manifest. pg_control, which it
// returns, gets a name under which no server finds it.
func (f *fetcher) unpack(ctx context.Context, manifest *spill.Buffer) (control *catalog.Entry, err error) {
	m, err := catalog.NewManifestReader(manifest.Reader())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.Header.Backup != f.commit.ID || m.Header.SystemID != f.commit.SystemID {
		return nil, fmt.Errorf("manifest of %s names backup %s: %w", f.commit.ID, m.Header.Backup, codec.ErrCorrupt)
	}
	f.sources = m.Header.Sources
	jobs := f.opts.Jobs
	if jobs <= 0 {
		jobs = DefaultJobs()
	}
	g, gctx := errgroup.WithContext(ctx)
	batches := make(chan []catalog.Entry)
	for range jobs {
		g.Go(func() error { return f.worker(gctx, batches) })
	}
	g.Go(func() error {
		defer close(batches)
		control, err = f.distribute(gctx, m, batches)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	switch {
	case control == nil:
		return nil, fmt.Errorf("backup %s holds no %s: %w", f.commit.ID, pgdata.ControlPath, codec.ErrCorrupt)
	case !f.labelled: // recovery would begin anywhere
		return nil, fmt.Errorf("backup %s holds no %s: %w", f.commit.ID, labelPath, codec.ErrCorrupt)
	}
	return control, f.fetchControl(ctx, *control)
}

// distribute makes directories as they come, and sends files to the workers in
// batches that share slices.
func (f *fetcher) distribute(ctx context.Context, m *catalog.ManifestReader, batches chan<- []catalog.Entry) (control *catalog.Entry, err error) {
	var b batcher
	send := func(batch []catalog.Entry) error {
		if len(batch) == 0 {
			return nil
		}
		select {
		case batches <- batch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for {
		e, err := m.Next()
		switch {
		case errors.Is(err, io.EOF):
			return control, send(b.batch)
		case err != nil:
			return nil, err
		case e.Type == catalog.TypeSymlink:
			f.links = append(f.links, e)
			continue
		case e.Type == catalog.TypeDir:
			if err := f.makeDir(e); err != nil {
				return nil, fmt.Errorf("restore %s: %w", e.Path, err)
			}
			continue
		case e.Path == pgdata.ControlPath:
			control = &e
			continue
		}
		f.labelled = f.labelled || e.Path == labelPath
		if err := send(b.add(e)); err != nil {
			return nil, err
		}
	}
}

func (f *fetcher) makeDir(e catalog.Entry) error {
	path := f.path(e.Path)
	err := os.Mkdir(path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) { // pg_tblspc, and what lies behind its links
		return err
	}
	if err := os.Chmod(path, fs.FileMode(e.Mode)|0o700); err != nil {
		return err
	}
	return f.owner.own(path)
}

// makeLinks makes the symbolic links of the backup: last, so that nothing can be
// written through one of them, and none of them through another.
func (f *fetcher) makeLinks() (err error) {
	root, err := os.OpenRoot(f.opts.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	for _, e := range f.links {
		if err := root.Symlink(e.Target, e.Path); err != nil {
			return fmt.Errorf("restore %s: %w", e.Path, err)
		}
		if f.owner == nil {
			continue
		}
		if err := root.Lchown(e.Path, f.owner.uid, f.owner.gid); err != nil {
			return fmt.Errorf("restore %s: %w", e.Path, err)
		}
	}
	return nil
}

func (f *fetcher) path(name string) string {
	return filepath.Join(f.opts.Dir, filepath.FromSlash(name))
}
