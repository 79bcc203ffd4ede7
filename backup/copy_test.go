package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/internal/testkit"
	"walden/postgres/pgdata"
)

// TestRoundTrip backs a tree up, and gets it back by Fetch as well as with
// standard tools alone.
func TestRoundTrip(t *testing.T) {
	small, large := t.TempDir(), t.TempDir()
	makeTree(t, small, false)
	makeTree(t, large, true)
	plainAndEncrypted(t, func(t *testing.T, k keys) {
		trees := map[codec.Level]string{codec.LevelDefault: small, codec.LevelNone: large}
		if k.file != "" {
			trees = map[codec.Level]string{codec.LevelFastest: large}
		}
		for level, dir := range trees {
			t.Run(level.String(), func(t *testing.T) {
				repo := newRepository(t)
				b, err := pushTree(t, repo.Cluster, asWalk(entriesOf(t, dir)), k, level, nil)
				if err != nil {
					t.Fatal(err)
				}
				checkExtents(t, repo, b, dir, k)
				t.Run("fetch", func(t *testing.T) {
					to := emptyDir(t)
					err := Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to, Identities: k.identities})
					if err != nil {
						t.Fatal(err)
					}
					sameTree(t, dir, to, time.Nanosecond, labelPath, pgdata.ControlPath, autoConf, "recovery.signal")
				})
				t.Run("tar", func(t *testing.T) {
					to := t.TempDir()
					untar(t, repo, b, to, k)
					sameTree(t, dir, to, time.Second, labelPath, pgdata.ControlPath)
				})
			})
		}
	})
}

// untar restores a backup by age, zstd and tar alone.
func untar(t *testing.T, repo repository, b stored, to string, k keys) {
	t.Helper()
	decode := testkit.Tool(t, "zstd") + " -dc"
	if k.file != "" {
		decode = testkit.Tool(t, "age") + " -d -i " + k.file + " | " + decode
	}
	script := "set -eo pipefail; for slice in *; do cat $slice | " + decode + "; done | " + testkit.Tool(t, "tar") + " -x -p -C " + to
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = filepath.Dir(repo.slicePath(t, b.ID, 0))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
}

// checkExtents reads what each extent speaks of, and compares it with the file.
func checkExtents(t *testing.T, repo repository, b stored, dir string, k keys) {
	t.Helper()
	dec, err := codec.NewFrameDecoder()
	if err != nil {
		t.Fatal(err)
	}
	opened := map[int][]byte{}
	var plain []byte
	var last catalog.Extent
	for _, e := range b.entries {
		var got []byte
		for _, x := range e.Extents {
			if opened[x.Slice] == nil {
				opened[x.Slice] = readSlice(t, repo, b.ID, x.Slice, k)
			}
			if !sameFrame(x, last) {
				plain, err = dec.Decode(plain[:0], opened[x.Slice][x.FrameOffset:x.FrameOffset+x.FrameSize])
			}
			if last = x; err != nil {
				t.Fatalf("%s: extent %+v: %v", e.Path, x, err)
			}
			got = append(got, plain[x.Offset:x.Offset+x.Size]...)
		}
		if e.Type != catalog.TypeFile || e.Path == labelPath || e.Path == pgdata.ControlPath {
			continue
		}
		want, err := os.ReadFile(filepath.Join(dir, e.Path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: its extents hold %d other bytes (%v)", e.Path, len(got), err)
		}
	}
	if len(opened) > b.Commit.Slices || len(repo.objects(t, "backups/"+b.ID+"/data/")) != b.Commit.Slices {
		t.Errorf("the commit record speaks of %d slices", b.Commit.Slices)
	}
	for n, slice := range opened {
		if len(slice) > maxStored+frameSize+1000 {
			t.Errorf("slice %d has %d bytes", n, len(slice))
		}
	}
}

func readSlice(t *testing.T, repo repository, id string, slice int, k keys) []byte {
	t.Helper()
	f, err := os.Open(repo.slicePath(t, id, slice))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := codec.NewDecryptReader(f, k.identities)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFilesThatChange changes files between the walk and the copy.
func TestFilesThatChange(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"0-first", "gone", "grown", "replaced", "shrunk", "emptied", "nowdir", "nowpipe", "z-last"} {
		write(t, at(name), hard(100_000))
	}
	if err := os.Mkdir(at("global"), 0o700); err != nil {
		t.Fatal(err)
	}
	list := entriesOf(t, dir)
	first, before := readFile(t, at("0-first")), readFile(t, at("grown"))
	steps := []error{
		os.Remove(at("gone")), os.Truncate(at("shrunk"), 50_000), os.Truncate(at("emptied"), 0),
		os.WriteFile(at("grown"), append(readFile(t, at("grown")), hard(5000)...), 0o600),
		os.WriteFile(at("new"), easy(70_000), 0o600), os.Rename(at("new"), at("replaced")),
		os.Remove(at("nowdir")), os.Mkdir(at("nowdir"), 0o700),
		os.Remove(at("nowpipe")), syscall.Mkfifo(at("nowpipe"), 0o600),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	plainAndEncrypted(t, func(t *testing.T, k keys) {
		repo := newRepository(t)
		b, err := pushTree(t, repo.Cluster, asWalk(list), k, codec.LevelFastest, nil)
		if err != nil {
			t.Fatal(err)
		}
		to := emptyDir(t)
		if err := Fetch(t.Context(), repo.Cluster, b.Backup, FetchOptions{Dir: to, Identities: k.identities}); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string][]byte{
			"0-first": first, "z-last": readFile(t, at("z-last")),
			"grown":    before, // what was appended comes back by WAL replay
			"shrunk":   readFile(t, at("shrunk")),
			"emptied":  {},
			"replaced": easy(70_000),
		} {
			if got := readFile(t, filepath.Join(to, name)); !bytes.Equal(got, want) {
				t.Errorf("%s: %d other bytes, want %d", name, len(got), len(want))
			}
		}
		for _, name := range []string{"gone", "nowdir", "nowpipe"} {
			if _, err := os.Lstat(filepath.Join(to, name)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s was restored (%v)", name, err)
			}
		}
		untar(t, repo, b, t.TempDir(), k)
	})
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestFileTruncatedWhileRead truncates a file under the reader, and lets it grow
// anew behind it: what comes after the end that was seen is zeros, and nothing
// moves to another place.
func TestFileTruncatedWhileRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "relation")
	content := hard(2*frameSize + 1000)
	write(t, path, content)
	list := entriesOf(t, dir)
	calls := 0
	report := onAdd(func() {
		calls++
		var err error
		switch calls {
		case 1:
			err = os.Truncate(path, readSize+1000)
		case 2: // that end was seen
			err = os.WriteFile(path, hard(3*frameSize), 0o600)
		}
		if err != nil {
			t.Error(err)
		}
	})
	repo := newRepository(t)
	b, err := pushTree(t, repo.Cluster, asWalk(list), keys{}, codec.LevelFastest, report)
	if err != nil {
		t.Fatal(err)
	}
	var got []byte
	dec, err := codec.NewFrameDecoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range b.entry(t, "relation").Extents {
		plain, err := dec.Decode(nil, readSlice(t, repo, b.ID, x.Slice, keys{})[x.FrameOffset:x.FrameOffset+x.FrameSize])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, plain[x.Offset:x.Offset+x.Size]...)
	}
	want := append(slices.Clone(content[:readSize+1000]), make([]byte, len(content)-readSize-1000)...)
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes that are not the old content up to the end that was seen, and zeros behind", len(got))
	}
}

// TestUnreadableFileFailsTheBackup is for a file that is there and can't be read.
func TestUnreadableFileFailsTheBackup(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), easy(10))
	list := entriesOf(t, dir)
	list[0].Source = filepath.Join(dir, "a", "b") // not a directory
	repo := newRepository(t)
	_, err := pushTree(t, repo.Cluster, asWalk(list), keys{}, codec.LevelFastest, nil)
	if !errors.Is(err, syscall.ENOTDIR) || !strings.Contains(err.Error(), "back up a:") {
		t.Fatalf("got %v", err)
	}
}

// TestFailingStoreEndsTheBackup fails at one slice of several.
func TestFailingStoreEndsTheBackup(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, true)
	cause := errors.New("the store is on fire")
	for n := range 4 {
		repo := newRepository(t)
		repo.Store = hooked{repo.Store, func(_ context.Context, key string) error {
			if strings.HasSuffix(key, fmt.Sprintf("data/%010d", n)) {
				return cause
			}
			return nil
		}}
		_, err := pushTree(t, repo.Cluster, asWalk(entriesOf(t, dir)), keys{}, codec.LevelNone, nil)
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), fmt.Sprintf("store slice %d", n)) {
			t.Fatalf("got %v", err)
		}
		if left := repo.objects(t, ""); slices.ContainsFunc(left, func(key string) bool { return !strings.Contains(key, "/data/") }) {
			t.Fatalf("more than data was stored: %v", left)
		}
	}
}

// TestCancelledBackupEnds cancels while the store, the collector or nobody holds
// things up.
func TestCancelledBackupEnds(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, true)
	for _, hold := range []string{"store", "nothing"} {
		t.Run(hold, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			repo := newRepository(t)
			repo.Store = hooked{repo.Store, func(ctx context.Context, _ string) error {
				if hold == "store" {
					cancel()
					<-ctx.Done()
				}
				return ctx.Err()
			}}
			c, err := newCopier(repo.Cluster, "20260101T000000Z-0000", 2, codec.LevelDefault, nil, onAdd(func() {
				if hold == "nothing" {
					cancel()
				}
			}), func(copied) error { return nil })
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err = c.run(ctx, (&planner{}).jobs(asWalk(entriesOf(t, dir))))
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("got %v", err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %s to end", took)
			}
		})
	}
}

// TestMemoryIsBounded counts the slices that are under way at once.
func TestMemoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir, true)
	var now, most atomic.Int64
	repo := newRepository(t)
	repo.Store = hooked{repo.Store, func(context.Context, string) error {
		most.Store(max(most.Load(), now.Add(1)))
		now.Add(-1)
		return nil
	}}
	c, err := newCopier(repo.Cluster, "20260101T000000Z-0000", 2, codec.LevelNone, nil, silent{}, func(copied) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(t.Context(), (&planner{}).jobs(asWalk(entriesOf(t, dir)))); err != nil {
		t.Fatal(err)
	}
	if len(c.bodies) != 2 || most.Load() > 2 {
		t.Errorf("%d slices at once, %d bodies at rest, want 2", most.Load(), len(c.bodies))
	}
	for range 2 {
		if body := <-c.bodies; body.Cap() > maxStored+2*frameSize {
			t.Errorf("a body grew to %d bytes", body.Cap())
		}
	}
}
