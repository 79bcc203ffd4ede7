package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"io/fs"
	"iter"
	mathrand "math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"walden/catalog"
	"walden/codec"
	"walden/internal/spill"
	"walden/postgres/pgdata"
	"walden/postgres/wal"
	"walden/storage"
)

const testSystemID = 7301234567890123456

// repository is a directory repository of one cluster.
type repository struct {
	catalog.Cluster
	dir string
}

func newRepository(t testing.TB) repository {
	t.Helper()
	dir := t.TempDir()
	return repository{Cluster: catalog.Open(openStore(t, "file://"+dir), testSystemID), dir: dir}
}

func openStore(t testing.TB, url string) storage.Store {
	t.Helper()
	loc, err := storage.ParseLocation(url)
	if err != nil {
		t.Fatal(err)
	}
	store, err := storage.Open(loc, storage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// objects lists the keys below the cluster's part of the repository.
func (r repository) objects(t testing.TB, below string) []string {
	t.Helper()
	prefix := fmt.Sprintf("%d/%s", r.SystemID, below)
	var keys []string
	for info, err := range r.Store.List(t.Context(), prefix, "") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// slice returns the path of the n-th slice of a backup that is there.
func (r repository) slicePath(t testing.TB, id string, slice int) string {
	return filepath.Join(r.dir, filepath.FromSlash(r.SliceKey(id, slice)))
}

// hooked is a store that asks before it creates and gets.
type hooked struct {
	storage.Store
	create func(ctx context.Context, key string) error
}

func (h hooked) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (storage.Info, error) {
	if err := h.create(ctx, key); err != nil {
		return storage.Info{}, err
	}
	return h.Store.Create(ctx, key, body, size)
}

// onAdd is a Reporter that calls itself for each piece of content.
type onAdd func()

func (onAdd) Step(string) {}
func (onAdd) Total(int64) {}
func (f onAdd) Add(int64) { f() }

// keys is a key pair, or none.
type keys struct {
	name       string
	recipients []codec.Recipient
	identities []codec.Identity
	file       string // for the age command
}

// plainAndEncrypted runs a test without and with encryption.
func plainAndEncrypted(t *testing.T, test func(t *testing.T, k keys)) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity")
	write(t, file, []byte(id.String()+"\n"))
	for _, k := range []keys{{name: "plain"}, {"encrypted", []codec.Recipient{id.Recipient()}, []codec.Identity{id}, file}} {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// hard is content that doesn't compress, easy is content that does.
func hard(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails
	return b
}

func easy(size int) []byte {
	return bytes.Repeat([]byte("account 4711 has a balance of 0 "), size/32+1)[:size]
}

// makeTree fills a directory with a tree that has every kind of size, name and
// mode that matters. It looks enough like a data directory for a restore.
func makeTree(t testing.TB, dir string, large bool) {
	t.Helper()
	rng := mathrand.New(mathrand.NewPCG(1, uint64(time.Now().UnixNano())))
	sizes := []int{0, 1, 511, 512, 513, 8192, frameSize - 1, frameSize, frameSize + 1, 3*frameSize + 7}
	long := strings.Repeat("long-", 40) // with others of its kind more than a tar header holds
	dirs := []string{"global", "base", "base/1", "base/16384", "größe", long, long + "/" + long, long + "/" + long + "/" + long, "empty"}
	for i, d := range dirs {
		if err := os.Mkdir(filepath.Join(dir, d), []fs.FileMode{0o700, 0o750}[i%2]); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 120 {
		name := fmt.Sprintf("%s/file%d", dirs[rng.IntN(len(dirs)-1)], i)
		size := sizes[i%len(sizes)]
		if i >= 3*len(sizes) {
			size = rng.IntN(100_000)
		}
		content := easy(size)
		if rng.IntN(2) == 0 {
			content = hard(size)
		}
		write(t, filepath.Join(dir, name), content)
	}
	write(t, filepath.Join(dir, long, long, long, "x"+long[:150]), hard(100))
	if large {
		write(t, filepath.Join(dir, "base/1/easy"), easy(SliceSize+12345))
		write(t, filepath.Join(dir, "base/1/hard"), hard(2*maxStored+12345))
		write(t, filepath.Join(dir, "base/1/exact"), hard(maxStored))
	}
	for name, target := range map[string]string{"log": "/var/log/nowhere", "base/1/rel": "../16384", "s" + long[:100]: strings.Repeat("far/", 200)} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	modes := []fs.FileMode{0o600, 0o640, 0o644, 0o700}
	forEach(t, dir, func(rel string, info fs.FileInfo) {
		if !info.Mode().IsRegular() {
			return
		}
		at := time.Unix(1_700_000_000+rng.Int64N(1_000_000), rng.Int64N(1e9))
		if err := os.Chmod(filepath.Join(dir, rel), modes[rng.IntN(len(modes))]); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, rel), at, at); err != nil {
			t.Fatal(err)
		}
	})
}

// forEach calls do for everything below dir, in order.
func forEach(t testing.TB, dir string, do func(rel string, info fs.FileInfo)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err == nil {
			do(p[len(dir)+1:], info)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// entriesOf describes a tree as pgdata.Walk would.
func entriesOf(t testing.TB, dir string) []pgdata.Entry {
	t.Helper()
	var list []pgdata.Entry
	forEach(t, dir, func(rel string, info fs.FileInfo) {
		e := pgdata.Entry{Path: filepath.ToSlash(rel), Source: filepath.Join(dir, rel), Mode: info.Mode().Perm(), ModTime: info.ModTime()}
		switch {
		case info.IsDir():
			e.Type = pgdata.Dir
		case info.Mode()&fs.ModeSymlink != 0:
			e.Type = pgdata.Symlink
			var err error
			if e.Link, err = os.Readlink(e.Source); err != nil {
				t.Fatal(err)
			}
		default:
			e.Type, e.Size = pgdata.File, info.Size()
		}
		list = append(list, e)
	})
	return list
}

func asWalk(list []pgdata.Entry) iter.Seq2[pgdata.Entry, error] {
	return func(yield func(pgdata.Entry, error) bool) {
		for _, e := range list {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// stored is a backup that a test made without a server.
type stored struct {
	catalog.Backup
	entries []catalog.Entry
}

func (s stored) entry(t testing.TB, path string) catalog.Entry {
	t.Helper()
	for _, e := range s.entries {
		if e.Path == path {
			return e
		}
	}
	t.Fatalf("the manifest has no %s", path)
	return catalog.Entry{}
}

// pusherFor makes what Push would use, without a server.
func pusherFor(t testing.TB, repo catalog.Cluster, k keys, level codec.Level, report Reporter) *pusher {
	t.Helper()
	id, err := catalog.NewBackupID(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := &pusher{
		session: &session{ctl: pgdata.Control{SystemID: testSystemID, SegmentSize: 16 << 20}},
		opts:    PushOptions{Level: level, Recipients: k.recipients},
		repo:    repo, report: orSilent(report),
	}
	segment := wal.Segment{Timeline: 1, Seg: 2}
	p.commit = catalog.Commit{
		ID: id, SystemID: testSystemID, Type: "full", SegmentSize: 16 << 20, Encrypted: len(k.recipients) > 0, DataDirectoryMode: 0o700,
		StartedAt: time.Now().UTC(), StoppedAt: time.Now().UTC(), PostgresVersion: 150000,
		WAL: catalog.WALNeed{Timeline: 1, StartLSN: 0x2000028, StopLSN: 0x2000100, First: segment, Last: segment},
	}
	return p
}

// pushTree stores a tree as a backup whose stream ends as that of a real one.
func pushTree(t testing.TB, repo catalog.Cluster, walk iter.Seq2[pgdata.Entry, error], k keys, level codec.Level, report Reporter) (stored, error) {
	t.Helper()
	p := pusherFor(t, repo, k, level, report)
	var out stored
	var manifest spill.Buffer
	defer manifest.Close()
	var err error
	p.manifest, err = catalog.NewManifestWriter(&manifest,
		catalog.ManifestHeader{Backup: p.commit.ID, SystemID: testSystemID, Sources: []string{p.commit.ID}})
	if err != nil {
		t.Fatal(err)
	}
	collect := func(c copied) error {
		for _, e := range c.entries {
			out.entries = append(out.entries, *e)
		}
		return p.collect(c)
	}
	c, err := newCopier(repo, p.commit.ID, DefaultJobs(), level, k.recipients, p.report, collect)
	if err != nil {
		t.Fatal(err)
	}
	plan := &planner{}
	if err := c.run(t.Context(), plan.jobs(walk)); err != nil {
		return out, err
	}
	plan.add(p.memory(labelPath, []byte("START WAL LOCATION: 0/2000028\n")))
	plan.add(p.memory(pgdata.ControlPath, hard(8192)))
	last, _ := plan.flush()
	if err := c.finish(t.Context(), last); err != nil {
		return out, err
	}
	if err := p.manifest.Close(); err != nil {
		return out, err
	}
	if err := p.store(t.Context(), &manifest); err != nil {
		return out, err
	}
	p.commit.SystemID = testSystemID
	out.Backup = catalog.Backup{ID: p.commit.ID, Status: catalog.StatusComplete, Commit: &p.commit}
	return out, nil
}

// mustPush is pushTree for those who expect no failure.
func mustPush(t testing.TB, repo catalog.Cluster, dir string, k keys) stored {
	t.Helper()
	b, err := pushTree(t, repo, asWalk(entriesOf(t, dir)), k, codec.LevelFastest, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// restored returns a directory for Fetch that it accepts for any user.
func emptyDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	giveAway(t, dir)
	return dir
}

// giveAway makes a directory one that root restores into.
func giveAway(t testing.TB, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
}

// nobody is a user that isn't root.
const nobody = 65534

// sameTree compares what was backed up with what came back. A tar archive holds
// no fractions of seconds. Other names that came back must be in added.
func sameTree(t testing.TB, want, got string, precision time.Duration, added ...string) {
	t.Helper()
	missing := map[string]bool{}
	forEach(t, got, func(rel string, _ fs.FileInfo) {
		if _, err := os.Lstat(filepath.Join(want, rel)); err != nil && !slices.Contains(added, rel) {
			t.Errorf("%s came out of nowhere", rel)
		}
	})
	forEach(t, want, func(rel string, a fs.FileInfo) {
		b, err := os.Lstat(filepath.Join(got, rel))
		if err != nil {
			missing[rel] = true
			if !missing[path.Dir(rel)] {
				t.Errorf("not restored: %v", err)
			}
			return
		}
		if a.Mode() != b.Mode() {
			t.Errorf("%s: mode %v, want %v", rel, b.Mode(), a.Mode())
		}
		if a.Mode()&fs.ModeSymlink != 0 {
			x, _ := os.Readlink(filepath.Join(want, rel))
			if y, err := os.Readlink(filepath.Join(got, rel)); err != nil || x != y {
				t.Errorf("%s: links to %q (%v), want %q", rel, y, err, x)
			}
		}
		if !a.Mode().IsRegular() {
			return
		}
		if !a.ModTime().Truncate(precision).Equal(b.ModTime().Truncate(precision)) {
			t.Errorf("%s: time %v, want %v", rel, b.ModTime(), a.ModTime())
		}
		sameContent(t, filepath.Join(want, rel), filepath.Join(got, rel))
	})
}

func sameContent(t testing.TB, want, got string) {
	t.Helper()
	a, err := os.ReadFile(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("%s: other content: %d bytes, want %d", got, len(b), len(a))
	}
}
