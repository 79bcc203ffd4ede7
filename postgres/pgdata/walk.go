package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Type is what an Entry is.
type Type int

const (
	File Type = iota + 1
	Dir
	Symlink
)

// String names the type for messages.
func (t Type) String() string {
	switch t {
	case File:
		return "file"
	case Dir:
		return "directory"
	case Symlink:
		return "symbolic link"
	default:
		return fmt.Sprintf("type %d", int(t))
	}
}

// Entry is a file, directory or symbolic link that belongs in a base backup.
type Entry struct {
	Path    string // with slashes, relative to PGDATA; tablespaces are at pg_tblspc/<oid>/...
	Source  string // absolute path to open
	Type    Type
	Mode    fs.FileMode // permission bits only
	Size    int64       // of a File, in bytes, when it was seen; a running server changes it
	ModTime time.Time
	Link    string // of a Symlink: its target
}

// Walk yields what a base backup of the cluster copies, and leaves out what the server's own base backups leave out
// (sendDir, src/backend/backup/basebackup.c): what a start of the server removes or makes anew, temporary and unlogged
// relations, WAL, and all that is neither file nor directory nor link. global/pg_control is left out too: it must be
// copied after everything else. PGDATA itself has no entry.
//
// A directory comes before its content, and names in it are in bytewise order. Memory holds no more than the names in the
// directories on the way to the current one. What vanishes while the server runs is skipped. The first error ends the
// walk: ErrNoCluster, ErrTablespace, or one of the file system.
//
// Links are seen through where the server does so: pg_wal and the other directories that PostgreSQL makes, everything
// inside of them, and tablespaces come out as what the links point to. A restored cluster that shared files with the
// one it was copied from would destroy both. Elsewhere (configuration, logs) a link comes out as itself.
func Walk(pgdata string, ctl Control) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		w := walker{version: ctl.TablespaceDirectory(), yield: yield}
		err := w.start(pgdata)
		if err != nil && !errors.Is(err, errStopped) {
			yield(Entry{}, fmt.Errorf("list the files of %s: %w", pgdata, err))
		}
	}
}

// errStopped says that the consumer wants no more.
var errStopped = errors.New("stopped")

type walker struct {
	root    string          // absolute
	version string          // Control.TablespaceDirectory
	nested  map[string]bool // directories in PGDATA that are locations of tablespaces
	yield   func(Entry, error) bool
	parents []fs.FileInfo // of the directories on the way to the current one
}

func (w *walker) start(pgdata string) error {
	root, err := filepath.Abs(pgdata)
	if err != nil {
		return err
	}
	w.root = root
	list, err := Tablespaces(root)
	if err != nil {
		return err
	}
	w.nested = nestedLocations(root, list)
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	return w.content("", info)
}

// nestedLocations finds the tablespaces that lie inside PGDATA against PostgreSQL's advice, so as not to copy them twice.
// The paths are relative to root.
func nestedLocations(root string, list []Tablespace) map[string]bool {
	nested := map[string]bool{}
	realRoot, err := filepath.EvalSymlinks(root)
	if err != nil {
		realRoot = root
	}
	for _, t := range list {
		realLocation, err := filepath.EvalSymlinks(t.Location)
		if err != nil {
			continue // the walk will say so when it comes there
		}
		rel, err := filepath.Rel(realRoot, realLocation)
		if err == nil && filepath.IsLocal(rel) && rel != "." {
			nested[filepath.ToSlash(rel)] = true
		}
	}
	return nested
}

// emit hands over one entry.
func (w *walker) emit(rel string, t Type, info fs.FileInfo, link string) error {
	e := Entry{Path: rel, Source: w.abs(rel), Type: t, Mode: info.Mode().Perm(), ModTime: info.ModTime(), Link: link}
	if t == File {
		e.Size = info.Size()
	}
	if !w.yield(e, nil) {
		return errStopped
	}
	return nil
}

func (w *walker) abs(rel string) string { return filepath.Join(w.root, filepath.FromSlash(rel)) }

// directory emits a directory and what is in it.
func (w *walker) directory(rel string, info fs.FileInfo) error {
	if err := w.emit(rel, Dir, info, ""); err != nil {
		return err
	}
	return w.content(rel, info)
}

// content emits what is in a directory.
func (w *walker) content(rel string, info fs.FileInfo) error {
	if slices.ContainsFunc(w.parents, func(p fs.FileInfo) bool { return os.SameFile(p, info) }) {
		return fmt.Errorf("%s is a link to a directory that it lies in", w.abs(rel))
	}
	w.parents = append(w.parents, info)
	defer func() { w.parents = w.parents[:len(w.parents)-1] }()
	names, err := readNames(w.abs(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	skip := w.filter(rel, names)
	for _, name := range names {
		if skip(name) {
			continue
		}
		if err := w.visit(rel, name); err != nil {
			return err
		}
	}
	return nil
}

// readNames lists a directory, sorted.
func readNames(dir string) (names []string, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	names, err = f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// filter gives the rule by which names in a directory are left out unseen.
func (w *walker) filter(rel string, names []string) func(name string) bool {
	database := w.isDatabaseDir(rel)
	if !database && rel != "global" {
		return isExcludedFile
	}
	unlogged := map[string]bool{} // an unlogged relation is one that has an init fork
	for _, name := range names {
		if number, ok := strings.CutSuffix(name, "_init"); ok {
			unlogged[number] = true
		}
	}
	return func(name string) bool {
		if isExcludedFile(name) || rel+"/"+name == ControlPath {
			return true
		}
		if r, ok := parseRelation(name); ok {
			return r.fork != "init" && unlogged[r.number]
		}
		return database && isTemporaryRelation(name)
	}
}

// isDatabaseDir tells base/<oid> and pg_tblspc/<oid>/PG_*/<oid>.
func (w *walker) isDatabaseDir(rel string) bool {
	parent, name := path.Split(rel)
	if _, rest := cutDigits(name); name == "" || rest != "" {
		return false
	}
	return parent == "base/" || strings.HasPrefix(parent, tablespaceDir+"/") && path.Base(parent) == w.version
}

// visit emits one name of a directory, and what is below it.
func (w *walker) visit(dir, name string) error {
	rel := path.Join(dir, name)
	info, err := os.Lstat(w.abs(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	isLink := info.Mode()&fs.ModeSymlink != 0
	if _, isOID := parseOID(name); dir == tablespaceDir && isOID && (isLink || info.IsDir()) {
		return w.tablespace(rel, isLink)
	}
	empty := isEmptiedDir(name) || rel == "pg_wal"
	if isLink {
		if top, _, _ := strings.Cut(rel, "/"); !empty && !isOwnedDir(top) {
			return w.symlink(rel, info)
		}
		info, err = w.follow(rel, empty)
		if info == nil {
			return err
		}
	}
	switch {
	case info.Mode().IsRegular():
		return w.emit(rel, File, info, "")
	case !info.IsDir():
		return nil // a socket or the like
	case rel == "pg_wal":
		return w.walDirectory(rel, info)
	case empty || w.nested[rel]:
		return w.emit(rel, Dir, info, "")
	default:
		return w.directory(rel, info)
	}
}

// symlink emits a link as itself.
func (w *walker) symlink(rel string, info fs.FileInfo) error {
	target, err := os.Readlink(w.abs(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return w.emit(rel, Symlink, info, target)
}

// follow gives what a link points to, and neither info nor error if the link has vanished. Where only the name of a
// directory counts, it may point to nothing: a tmpfs may be empty.
func (w *walker) follow(rel string, nameOnly bool) (fs.FileInfo, error) {
	info, err := os.Stat(w.abs(rel))
	switch {
	case err == nil:
		return info, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("follow the link: %w", err)
	case w.vanishes(rel):
		return nil, nil
	case nameOnly:
		return w.parents[0], nil // a directory with the permissions of PGDATA
	default:
		return nil, fmt.Errorf("follow the link: %w", err)
	}
}

// walDirectory emits pg_wal and the directories in it, all empty: a restored cluster gets its WAL from the archive.
func (w *walker) walDirectory(rel string, info fs.FileInfo) error {
	if err := w.emit(rel, Dir, info, ""); err != nil {
		return err
	}
	for _, name := range []string{"archive_status", "summaries"} {
		sub, err := os.Stat(w.abs(path.Join(rel, name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		}
		if err := w.emit(path.Join(rel, name), Dir, sub, ""); err != nil {
			return err
		}
	}
	return nil
}

// tablespace emits a tablespace's location, the one directory in it that belongs to this cluster, and what is in that.
//
// The server makes that directory before it makes the link, and removes the link right after it. Where only the link
// stays, a disk is not mounted or a DROP TABLESPACE was cut off, and a backup without the data must not pass for a whole one.
func (w *walker) tablespace(rel string, isLink bool) error {
	version := path.Join(rel, w.version)
	info, err := os.Stat(w.abs(rel))
	var versionInfo fs.FileInfo
	if err == nil {
		versionInfo, err = os.Stat(w.abs(version))
	}
	switch {
	case err == nil:
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case !isLink || w.vanishes(rel):
		return nil
	default:
		target, _ := os.Readlink(w.abs(rel))
		return fmt.Errorf("%s points to %s, which has no %s (is its disk mounted?): %w", w.abs(rel), target, w.version, ErrTablespace)
	}
	if err := w.emit(rel, Dir, info, ""); err != nil {
		return err
	}
	return w.directory(version, versionInfo)
}

// How often, and how long apart, vanishes looks at a link.
const (
	vanishTries = 20
	vanishPause = 10 * time.Millisecond
)

// vanishes tells whether a link that points to nothing goes away within a moment, as that of a tablespace does while it
// is being dropped.
func (w *walker) vanishes(link string) bool {
	for range vanishTries {
		if _, err := os.Lstat(w.abs(link)); errors.Is(err, fs.ErrNotExist) {
			return true
		}
		time.Sleep(vanishPause)
	}
	return false
}
