package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

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
	links  map[string]bool   // symbolic links of the backup that were made
	owner  *owner            // nil: files belong to whoever runs this
}

// Fetch restores a complete backup into opts.Dir and sets up recovery. When it
// returns nil, every file has the content that was backed up and survives a
// power loss. pg_control is written last: no server starts from a directory that
// was restored in part.
//
// ErrRefused means that nothing was written: the backup is not complete, or a
// directory is not empty.
func Fetch(ctx context.Context, repo catalog.Cluster, b catalog.Backup, opts FetchOptions) error {
	if b.Status != catalog.StatusComplete {
		return fmt.Errorf("backup %s is %s (%s): %w", b.ID, b.Status, b.Reason, ErrRefused)
	}
	f := &fetcher{opts: opts, repo: repo, commit: *b.Commit, report: orSilent(opts.Report), links: map[string]bool{}}
	if f.commit.Encrypted && len(opts.Identities) == 0 {
		return fmt.Errorf("backup %s is %w: use --identity: %w", b.ID, codec.ErrNoIdentity, ErrRefused)
	}
	if err := f.prepare(); err != nil {
		return err
	}
	if err := f.restore(ctx); err != nil {
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
	f.places = map[uint32]string{}
	for _, t := range f.commit.Tablespaces {
		f.places[t.OID] = t.Location
	}
	for oid, dir := range f.opts.Tablespaces {
		if _, ok := f.places[oid]; !ok {
			return fmt.Errorf("backup %s has no tablespace %d (it has %s): %w", f.commit.ID, oid, f.tablespaceList(), ErrRefused)
		}
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("tablespace %d: %s is not an absolute path: %w", oid, dir, ErrRefused)
		}
		f.places[oid] = filepath.Clean(dir)
	}
	if err := mustBeEmpty(f.opts.Dir); err != nil {
		return err
	}
	for oid, dir := range f.places {
		if err := mustBeEmpty(dir); err != nil {
			return fmt.Errorf("tablespace %d: %w; choose another place with --tablespace %d=DIR", oid, err, oid)
		}
	}
	if err := f.placesApart(); err != nil {
		return err
	}
	f.owner, err = ownerFor(f.opts.Dir)
	return err
}

// placesApart refuses tablespaces that share a directory, or lie in the data
// directory.
func (f *fetcher) placesApart() error {
	used := map[string]string{f.opts.Dir: "the data directory"}
	for oid, dir := range f.places {
		name := fmt.Sprintf("tablespace %d", oid)
		if other, ok := used[dir]; ok {
			return fmt.Errorf("%s and %s both go to %s: %w", name, other, dir, ErrRefused)
		}
		if strings.HasPrefix(dir+"/", f.opts.Dir+"/") {
			return fmt.Errorf("%s would lie inside the data directory, at %s: %w", name, dir, ErrRefused)
		}
		used[dir] = name
	}
	return nil
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
	case err != nil:
		return err
	}
	return fmt.Errorf("%s is not empty (it has %s); nothing was written: %w", dir, names[0], ErrRefused)
}

func (f *fetcher) restore(ctx context.Context) (err error) {
	f.report.Step(fmt.Sprintf("restoring %s into %s", f.commit.ID, f.opts.Dir))
	f.report.Total(f.commit.Bytes)
	var manifest spill.Buffer
	defer func() { err = errors.Join(err, manifest.Close()) }()
	if err := f.repo.ReadManifest(ctx, f.commit, &manifest); err != nil {
		return err
	}
	if err := f.makeRoots(); err != nil {
		return err
	}
	control, err := f.unpack(ctx, &manifest)
	if err != nil {
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
	for _, dir := range f.places {
		roots = append(roots, dir)
	}
	return roots
}

// makeRoots creates the data directory, the tablespaces' directories, and the
// links to them, so that files find their way by path.
func (f *fetcher) makeRoots() error {
	for _, dir := range f.roots() {
		if err := durable.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return err
		}
		if err := f.owner.own(dir); err != nil {
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
	if err := os.Mkdir(links, 0o700); err != nil {
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

// unpack restores every entry of the manifest but pg_control, which it returns.
func (f *fetcher) unpack(ctx context.Context, manifest *spill.Buffer) (control *catalog.Entry, err error) {
	m, err := catalog.NewManifestReader(manifest.Reader())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	if m.Header.Backup != f.commit.ID || m.Header.SystemID != f.commit.SystemID {
		return nil, fmt.Errorf("manifest of %s names backup %s: %w", f.commit.ID, m.Header.Backup, codec.ErrCorrupt)
	}
	g, gctx := errgroup.WithContext(ctx)
	batches := make(chan []catalog.Entry)
	jobs := f.opts.Jobs
	if jobs <= 0 {
		jobs = DefaultJobs()
	}
	for range jobs {
		g.Go(func() error { return f.worker(gctx, m.Header.Sources, batches) })
	}
	g.Go(func() error {
		defer close(batches)
		control, err = f.distribute(gctx, m, batches)
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if control == nil {
		return nil, fmt.Errorf("backup %s holds no %s: %w", f.commit.ID, pgdata.ControlPath, codec.ErrCorrupt)
	}
	return control, f.fetchControl(ctx, m.Header.Sources, *control)
}

// distribute makes directories and links as they come, and sends files to the
// workers in batches that share slices.
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
		case f.behindLink(e.Path):
			return nil, fmt.Errorf("manifest of %s: %s lies behind a symbolic link of the backup: %w", f.commit.ID, e.Path, codec.ErrCorrupt)
		case e.Path == pgdata.ControlPath:
			control = &e
			continue
		case e.Type != catalog.TypeFile:
			if err := f.place(e); err != nil {
				return nil, fmt.Errorf("restore %s: %w", e.Path, err)
			}
			continue
		}
		if err := send(b.add(e)); err != nil {
			return nil, err
		}
	}
}

// behindLink tells whether a path leads through a link that the backup itself
// holds: it could lead anywhere, and no backup has such paths.
func (f *fetcher) behindLink(name string) bool {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if f.links[dir] {
			return true
		}
	}
	return false
}

// place makes a directory or a symbolic link.
func (f *fetcher) place(e catalog.Entry) error {
	path := f.path(e.Path)
	if e.Type == catalog.TypeSymlink {
		f.links[e.Path] = true
		if err := os.Symlink(e.Target, path); err != nil {
			return err
		}
		return f.owner.own(path)
	}
	err := os.Mkdir(path, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) { // pg_tblspc, and what lies behind its links
		return err
	}
	if err := os.Chmod(path, fs.FileMode(e.Mode)|0o700); err != nil {
		return err
	}
	return f.owner.own(path)
}

func (f *fetcher) path(name string) string {
	return filepath.Join(f.opts.Dir, filepath.FromSlash(name))
}
