package storage

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// List walks directories in the order of whole keys. It reads one directory
// at a time; what changes meanwhile may or may not be seen.
func (s *fileStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		if err := cmp.Or(ctx.Err(), s.checkRoot()); err != nil {
			yield(Info{}, err)
			return
		}
		dir, _ := path.Split(prefix)
		w := &fileWalk{store: s, ctx: ctx, prefix: prefix, after: after, yield: yield}
		w.dir(dir)
	}
}

// A fileWalk is one listing under way.
type fileWalk struct {
	store  *fileStore
	ctx    context.Context
	prefix string
	after  string
	yield  func(Info, error) bool
}

// dir yields what is below a directory, given as "" or as a key's beginning
// that ends at a slash. It reports whether to go on.
func (w *fileWalk) dir(base string) bool {
	names, err := w.names(base)
	if err != nil {
		return w.fail(err)
	}
	for _, name := range names {
		key := base + name
		switch {
		case w.ctx.Err() != nil:
			return w.fail(w.ctx.Err())
		case !overlaps(key, w.prefix):
		case strings.HasSuffix(name, "/"):
			if w.isBefore(key) {
				continue
			}
			if !w.dir(key) {
				return false
			}
		case strings.HasPrefix(key, w.prefix) && key > w.after:
			if !w.file(key) {
				return false
			}
		}
	}
	return true
}

// overlaps reports whether one of the two begins with the other.
func overlaps(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }

// isBefore reports whether all keys that begin with base sort up to after.
func (w *fileWalk) isBefore(base string) bool {
	return base < w.after && !strings.HasPrefix(w.after, base)
}

func (w *fileWalk) file(key string) bool {
	info, err := os.Stat(w.store.path(key))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true // deleted meanwhile
	case err != nil:
		return w.fail(w.store.classify(err))
	}
	return w.yield(Info{Key: key, Size: info.Size(), ModTime: info.ModTime()}, nil)
}

func (w *fileWalk) fail(err error) bool {
	w.yield(Info{}, err)
	return false
}

// names returns the objects and directories in a directory, those with a
// slash at the end, sorted as the keys that they begin: "a-b", "a.b", "a/c".
func (w *fileWalk) names(base string) ([]string, error) {
	dir := w.store.path(base)
	entries, err := os.ReadDir(dir)
	if err != nil {
		if err = w.store.classify(err); errors.Is(err, ErrNotExist) {
			return nil, nil // nothing begins with this prefix, or it was deleted meanwhile
		}
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, entry := range entries {
		name, mode := entry.Name(), entry.Type()
		if isHidden(name) || checkKey(name) != nil || name == "lost+found" && mode.IsDir() {
			continue
		}
		if mode&fs.ModeSymlink != 0 {
			// A directory that was moved to another disk is a fair thing.
			target, err := os.Stat(filepath.Join(dir, name))
			if errors.Is(err, fs.ErrNotExist) {
				return nil, errBrokenLink(filepath.Join(dir, name))
			}
			if err != nil {
				return nil, w.store.classify(err)
			}
			mode = target.Mode().Type()
		}
		switch {
		case mode.IsDir():
			names = append(names, name+"/")
		case mode.IsRegular():
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
