package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/internal/spill"
	"walden/postgres/pgdata"
	"walden/storage"
)

// noControl makes sure that no server could start from a directory.
func noControl(t *testing.T, dir string) {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, pgdata.ControlPath)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a restore that failed left a pg_control (%v)", err)
	}
}

// TestDamagedSlicesAreFound damages a slice in every way: the error names the file
// and the slice, and the restored directory can't be started.
func TestDamagedSlicesAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a"), hard(4*maxStored)) // four slices of the same layout
	write(t, filepath.Join(dir, "b"), easy(1000))
	damages := []struct {
		name string
		kind error
		do   func(t *testing.T, slice, other string)
	}{
		{"missing", storage.ErrNotExist, func(t *testing.T, slice, _ string) { must(t, os.Remove(slice)) }},
		{"truncated", codec.ErrCorrupt, func(t *testing.T, slice, _ string) {
			must(t, os.Truncate(slice, int64(len(readFile(t, slice))/2)))
		}},
		{"empty", codec.ErrCorrupt, func(t *testing.T, slice, _ string) { must(t, os.Truncate(slice, 0)) }},
		{"flipped", codec.ErrCorrupt, func(t *testing.T, slice, _ string) {
			b := readFile(t, slice)
			b[len(b)/2] ^= 0x10
			must(t, os.Chmod(slice, 0o600))
			write(t, slice, b)
		}},
		{"swapped", codec.ErrCorrupt, func(t *testing.T, slice, other string) {
			must(t, errors.Join(os.Rename(slice, slice+"x"), os.Rename(other, slice), os.Rename(slice+"x", other)))
		}},
	}
	plainAndEncrypted(t, func(t *testing.T, k keys) {
		for _, damage := range damages {
			t.Run(damage.name, func(t *testing.T) {
				repo := newRepository(t)
				b, err := pushTree(t, repo.Cluster, asWalk(entriesOf(t, dir)), k, codec.LevelNone, nil)
				if err != nil {
					t.Fatal(err)
				}
				damage.do(t, repo.slicePath(t, b.ID, 2), repo.slicePath(t, b.ID, 1))
				to := emptyDir(t)
				err = Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to, Identities: k.identities})
				if !errors.Is(err, damage.kind) {
					t.Fatalf("got %v", err)
				}
				for _, word := range []string{"restore a:", "slice ", b.ID, "unfinished restore"} {
					if !strings.Contains(err.Error(), word) {
						t.Errorf("the message lacks %q: %v", word, err)
					}
				}
				noControl(t, to)
			})
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestDamagedManifestWritesNothing damages the manifest: nothing is restored.
func TestDamagedManifestWritesNothing(t *testing.T) {
	dir, repo := t.TempDir(), newRepository(t)
	makeTree(t, dir, false)
	b := mustPush(t, repo.Cluster, dir, keys{})
	path := filepath.Join(repo.dir, fmt.Sprint(testSystemID), "backups", b.ID, "manifest")
	m := readFile(t, path)
	m[len(m)/2] ^= 1
	must(t, os.Chmod(path, 0o600))
	write(t, path, m)
	to := emptyDir(t)
	err := Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to})
	if !errors.Is(err, storage.ErrCorrupt) || strings.Contains(err.Error(), "unfinished") {
		t.Fatalf("got %v", err)
	}
	isEmpty(t, to)
}

func isEmpty(t *testing.T, dir string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil || len(list) > 0 {
		t.Errorf("%s holds %v (%v)", dir, list, err)
	}
}

// TestFetchRefuses tries what must be refused before anything is written.
func TestFetchRefuses(t *testing.T) {
	source, repo := t.TempDir(), newRepository(t)
	must(t, os.Mkdir(filepath.Join(source, "global"), 0o700))
	good := mustPush(t, repo.Cluster, source, keys{}).Backup
	good.Commit.Tablespaces = []catalog.Tablespace{{OID: 16400, Location: "/nowhere/ts1"}, {OID: 16401, Location: "/nowhere/ts2"}}
	var base string // of each case, all below which must stay as it is
	at := func(name string) string { return filepath.Join(base, name) }
	cases := map[string]struct {
		change func(b *catalog.Backup, o *FetchOptions)
		word   string
	}{
		"not empty":          {func(_ *catalog.Backup, o *FetchOptions) { o.Dir = at("full") }, "not empty"},
		"a file":             {func(_ *catalog.Backup, o *FetchOptions) { o.Dir = at("full/file") }, "not a directory"},
		"tablespace full":    {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = at("full") }, "--tablespace 16400="},
		"tablespace a file":  {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = at("full/file") }, "not a directory"},
		"tablespace inside":  {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = at("empty/ts") }, "would lie in the data directory"},
		"inside tablespace":  {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = base }, "would lie in tablespace 16400"},
		"same tablespace":    {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = at("ts2") }, "would lie in tablespace"},
		"nested tablespaces": {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = at("ts2/ts1") }, "would lie in tablespace 16401"},
		"through a link":     {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = at("link/ts") }, "would lie in the data directory"},
		"unknown tablespace": {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[99] = at("ts9") }, "16400 at /nowhere/ts1"},
		"relative":           {func(_ *catalog.Backup, o *FetchOptions) { o.Tablespaces[16400] = "ts1" }, "absolute"},
		"relative location": {func(b *catalog.Backup, o *FetchOptions) {
			delete(o.Tablespaces, 16400)
			b.Commit.Tablespaces[0].Location = "x"
		}, "absolute"},
		"waiting": {func(b *catalog.Backup, _ *FetchOptions) {
			b.Status, b.Reason = catalog.StatusWaiting, "its WAL is on its way"
		}, "its WAL is on its way"},
		"unfinished": {func(b *catalog.Backup, _ *FetchOptions) { b.Status, b.Commit = catalog.StatusUnfinished, nil }, "unfinished"},
		"damaged":    {func(b *catalog.Backup, _ *FetchOptions) { b.Status = catalog.StatusDamaged }, "damaged"},
		"no key":     {func(b *catalog.Backup, _ *FetchOptions) { b.Commit.Encrypted = true }, "--identity"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			base = t.TempDir()
			must(t, errors.Join(os.Mkdir(at("full"), 0o700), os.Mkdir(at("empty"), 0o700), os.Symlink("empty", at("link"))))
			write(t, at("full/file"), nil)
			giveAway(t, at("empty"))
			before := listing(t, base)
			b := good
			commit := *good.Commit
			commit.Tablespaces = append([]catalog.Tablespace(nil), commit.Tablespaces...)
			b.Commit = &commit
			o := FetchOptions{Dir: at("empty"), Tablespaces: map[uint32]string{16400: at("ts1"), 16401: at("ts2")}}
			c.change(&b, &o)
			err := Fetch(t.Context(), repo.Cluster, b, o)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), c.word) || strings.Contains(err.Error(), "unfinished restore") {
				t.Errorf("got %v", err)
			}
			if after := listing(t, base); after != before {
				t.Errorf("something was written: before\n%safter\n%s", before, after)
			}
		})
	}
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	var s strings.Builder
	forEach(t, dir, func(rel string, info fs.FileInfo) { fmt.Fprintln(&s, rel, info.Mode(), info.Size(), info.ModTime()) })
	return s.String()
}

// TestModesAndOwners restores into directories that are absent or there, of
// clusters with and without access for the group.
func TestModesAndOwners(t *testing.T) {
	source, repo := t.TempDir(), newRepository(t)
	makeTree(t, source, false)
	b := mustPush(t, repo.Cluster, source, keys{})
	b.Commit.Tablespaces = []catalog.Tablespace{{OID: 16400, Location: "/nowhere"}}
	for _, mode := range []fs.FileMode{0o700, 0o750} {
		t.Run(mode.String(), func(t *testing.T) {
			b.Commit.DataDirectoryMode = catalog.FileMode(mode)
			base := t.TempDir()
			to, ts := filepath.Join(base, "a/b/pg"), filepath.Join(base, "c/d/ts")
			if os.Geteuid() == 0 {
				must(t, os.MkdirAll(to, 0o755))
				giveAway(t, to)
			}
			if err := Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to, Tablespaces: map[uint32]string{16400: ts}}); err != nil {
				t.Fatal(err)
			}
			for path, want := range map[string]fs.FileMode{to: mode, ts: 0o700, filepath.Dir(ts): 0o700} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
					t.Errorf("%s has mode %v, want %v (%v)", path, info.Mode(), want, err)
				}
			}
			forEach(t, base, func(rel string, info fs.FileInfo) {
				if uid := info.Sys().(*syscall.Stat_t).Uid; os.Geteuid() == 0 && uid != nobody && rel != "a" && rel != "a/b" {
					t.Errorf("%s belongs to user %d", rel, uid)
				}
			})
			mapped := string(readFile(t, filepath.Join(to, mapPath)))
			if mapped != fmt.Sprintf("16400 %s\n", ts) {
				t.Errorf("tablespace_map is %q", mapped)
			}
			if link, err := os.Readlink(filepath.Join(to, "pg_tblspc/16400")); link != ts {
				t.Errorf("pg_tblspc/16400 leads to %q (%v)", link, err)
			}
		})
	}
}

// TestRootNeedsAnOwner: PostgreSQL doesn't run as root.
func TestRootNeedsAnOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("is about root")
	}
	source, repo := t.TempDir(), newRepository(t)
	must(t, os.Mkdir(filepath.Join(source, "global"), 0o700))
	b := mustPush(t, repo.Cluster, source, keys{})
	base := t.TempDir()
	for _, dir := range []string{base, filepath.Join(base, "absent")} {
		if err := Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: dir}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %v", dir, err)
		}
	}
	isEmpty(t, base)
}

// TestFullDisk restores onto a disk that is too small.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount a tmpfs")
	}
	source, repo := t.TempDir(), newRepository(t)
	must(t, os.Mkdir(filepath.Join(source, "global"), 0o700))
	for i := range 10 {
		write(t, filepath.Join(source, fmt.Sprint(i)), hard(frameSize))
	}
	b := mustPush(t, repo.Cluster, source, keys{})
	to := t.TempDir()
	must(t, syscall.Mount("walden-test", to, "tmpfs", 0, "size=4m"))
	t.Cleanup(func() { must(t, syscall.Unmount(to, 0)) })
	giveAway(t, to)
	err := Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to})
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "unfinished restore") {
		t.Errorf("got %v", err)
	}
	noControl(t, to)
}

// TestHostileManifests are those that would write outside of the directory.
func TestHostileManifests(t *testing.T) {
	type entry = catalog.Entry
	link := func(path, target string) entry {
		return entry{Path: path, Type: catalog.TypeSymlink, Mode: 0o777, Target: target}
	}
	var outside string
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	file := func(path string) entry {
		return entry{Path: path, Type: catalog.TypeFile, Mode: 0o600, SHA256: empty}
	}
	directory := func(path string) entry { return entry{Path: path, Type: catalog.TypeDir, Mode: 0o755} }
	cases := map[string]func() []entry{
		"file behind a link":         func() []entry { return []entry{link("x", outside), file("x/evil")} },
		"file before its link":       func() []entry { return []entry{file("x/evil"), link("x", outside)} },
		"directory behind a link":    func() []entry { return []entry{link("x", outside), directory("x/evil")} },
		"link behind a link":         func() []entry { return []entry{link("x", outside), link("x/evil", "y")} },
		"link instead of a file":     func() []entry { return []entry{link("x", outside+"/evil"), file("x")} },
		"link instead of global":     func() []entry { return []entry{link("global", outside)} },
		"link instead of a name":     func() []entry { return []entry{link(controlTemp, outside+"/evil")} },
		"link at a temporary name":   func() []entry { return []entry{link(autoConf+".walden", outside+"/evil")} },
		"file behind a relative one": func() []entry { return []entry{link("x", "../outside"), file("x/evil")} },
	}
	for name, hostile := range cases {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			outside = filepath.Join(base, "outside")
			to := filepath.Join(base, "pg")
			must(t, errors.Join(os.Mkdir(outside, 0o777), os.Mkdir(to, 0o700)))
			giveAway(t, to)
			repo := newRepository(t)
			b := forge(t, repo, hostile())
			if err := Fetch(t.Context(), repo.Cluster, b, FetchOptions{Dir: to}); err == nil {
				t.Error("restored")
			}
			isEmpty(t, outside)
			noControl(t, to)
		})
	}
}

// forge stores a backup with the given entries, and what every backup has.
func forge(t *testing.T, repo repository, entries []catalog.Entry) catalog.Backup {
	t.Helper()
	source := t.TempDir()
	must(t, os.Mkdir(filepath.Join(source, "global"), 0o700))
	b := mustPush(t, repo.Cluster, source, keys{})
	var manifest spill.Buffer
	defer manifest.Close()
	p := pusherFor(t, repo.Cluster, keys{}, codec.LevelFastest, nil)
	p.commit.Slices, p.commit.StoredBytes = b.Commit.Slices, b.Commit.StoredBytes
	m, err := catalog.NewManifestWriter(&manifest, catalog.ManifestHeader{Backup: p.commit.ID, SystemID: testSystemID, Sources: []string{b.ID}})
	must(t, err)
	for _, e := range entries {
		must(t, m.Add(e))
	}
	for _, e := range b.entries {
		must(t, m.Add(e))
	}
	must(t, m.Close())
	must(t, p.store(t.Context(), &manifest))
	return catalog.Backup{ID: p.commit.ID, Status: catalog.StatusComplete, Commit: &p.commit}
}

// TestIncompleteManifests lack what makes a recovery begin in the right place.
func TestIncompleteManifests(t *testing.T) {
	for _, lacks := range []string{labelPath, pgdata.ControlPath} {
		repo := newRepository(t)
		var kept []catalog.Entry
		full := forge(t, repo, nil)
		var manifest spill.Buffer
		must(t, repo.ReadManifest(t.Context(), *full.Commit, &manifest))
		r, err := catalog.NewManifestReader(manifest.Reader())
		must(t, err)
		for e, err := r.Next(); err == nil; e, err = r.Next() {
			if e.Path != lacks {
				kept = append(kept, e)
			}
		}
		must(t, errors.Join(r.Close(), manifest.Close()))
		p := pusherFor(t, repo.Cluster, keys{}, codec.LevelFastest, nil)
		var forged spill.Buffer
		m, err := catalog.NewManifestWriter(&forged, catalog.ManifestHeader{Backup: p.commit.ID, SystemID: testSystemID, Sources: r.Header.Sources})
		must(t, err)
		for _, e := range kept {
			must(t, m.Add(e))
		}
		must(t, errors.Join(m.Close(), p.store(t.Context(), &forged), forged.Close()))
		to := emptyDir(t)
		err = Fetch(t.Context(), repo.Cluster, catalog.Backup{ID: p.commit.ID, Status: catalog.StatusComplete, Commit: &p.commit}, FetchOptions{Dir: to})
		if !errors.Is(err, codec.ErrCorrupt) || !strings.Contains(err.Error(), lacks) {
			t.Errorf("without %s: got %v", lacks, err)
		}
		noControl(t, to)
	}
}

// TestCancelledRestoreEnds cancels in the middle.
func TestCancelledRestoreEnds(t *testing.T) {
	source, repo := t.TempDir(), newRepository(t)
	makeTree(t, source, true)
	b := mustPush(t, repo.Cluster, source, keys{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	to, began := emptyDir(t), time.Now()
	err := Fetch(ctx, repo.Cluster, b.Backup, FetchOptions{Dir: to, Report: onAdd(cancel)})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s to end", took)
	}
	noControl(t, to)
}

// TestLinkedSettingsStayAsTheyAre restores a cluster whose postgresql.auto.conf
// leads to a file outside, which may be that of a running cluster.
func TestLinkedSettingsStayAsTheyAre(t *testing.T) {
	source, repo := t.TempDir(), newRepository(t)
	outside := filepath.Join(t.TempDir(), "auto.conf")
	write(t, outside, []byte("work_mem = '1GB'\n"))
	must(t, errors.Join(os.Mkdir(filepath.Join(source, "global"), 0o700), os.Symlink(outside, filepath.Join(source, autoConf))))
	b := mustPush(t, repo.Cluster, source, keys{})
	to := emptyDir(t)
	must(t, Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to}))
	if got := string(readFile(t, outside)); got != "work_mem = '1GB'\n" {
		t.Errorf("a file outside of the restored directory became %q", got)
	}
	info, err := os.Lstat(filepath.Join(to, autoConf))
	if err != nil || !info.Mode().IsRegular() {
		t.Errorf("%s is %v (%v)", autoConf, info, err)
	}
}
