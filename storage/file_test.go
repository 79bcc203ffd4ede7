package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/storage"
	"walden/storage/storagetest"
)

func openDir(t testing.TB, dir string) storage.Store {
	t.Helper()
	return mustOpen(t, "file://"+dir, storage.Options{Timeout: 300 * time.Millisecond})
}

// files returns what is below dir, directories with a slash at the end.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if entry.IsDir() {
			rel += "/"
		}
		found = append(found, rel)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFileMissingRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not-mounted", "repo")
	s := openDir(t, root)
	mustAllBe(t, allOperations(t.Context(), s), storage.ErrConfig, "does not exist: create it, or mount the disk that holds it", root)
	if _, err := os.Stat(filepath.Dir(root)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the missing root's parent: got %v, want that nobody created it", err)
	}
}

func TestFileRootIsAFile(t *testing.T) {
	root := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mustAllBe(t, allOperations(t.Context(), openDir(t, root)), storage.ErrConfig, "not a directory")
}

func TestFileKeyBelowAnObject(t *testing.T) {
	root := t.TempDir()
	s := openDir(t, root)
	storagetest.MustCreate(t, s, "a/b", []byte("x"))
	for _, key := range []string{"a", "a/b/c", "a/b/c/d"} {
		_, err := s.Create(t.Context(), key, strings.NewReader("y"), 1)
		mustAllBe(t, map[string]error{"create": err}, storage.ErrConfig)
	}
	if got, want := files(t, root), []string{"a/", "a/b"}; !slices.Equal(got, want) {
		t.Errorf("the directory holds %q, want %q", got, want)
	}
}

// Denied is not absent, and not passing either.
func TestFileDenied(t *testing.T) {
	if os.Geteuid() == 0 {
		runAsServerUser(t)
		return
	}
	root := t.TempDir()
	s := openDir(t, root)
	storagetest.MustCreate(t, s, "dir/key", []byte("x"))
	if err := os.Chmod(filepath.Join(root, "dir"), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(filepath.Join(root, "dir"), 0o700) })
	mustAllBe(t, allOperations(t.Context(), s), storage.ErrDenied)
}

// What isn't ours, or isn't finished, is no object.
func TestFileForeignNames(t *testing.T) {
	root := t.TempDir()
	s := openDir(t, root)
	storagetest.MustCreate(t, s, "wal/a", []byte("x"))
	for _, dir := range []string{"lost+found", ".snapshot", "wal/.zfs"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{".walden-tmp-1", "wal/.walden-tmp-2", "wal/.nfs0001"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := storagetest.MustList(t, s, "", ""); !slices.Equal(got, []string{"wal/a"}) {
		t.Errorf("List yields %q, want wal/a alone", got)
	}
	if err := s.Delete(t.Context(), "wal/a"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "wal/.nfs0001")); err != nil {
		t.Errorf("Delete has removed more than the object: %v", err)
	}
}

// A directory may have been moved to another disk. When that isn't mounted,
// what it held is not absent: it can't be told.
func TestFileSymbolicLinks(t *testing.T) {
	root, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(disk, filepath.Join(root, "wal")); err != nil {
		t.Fatal(err)
	}
	s := openDir(t, root)
	storagetest.MustCreate(t, s, "wal/dir/key", []byte("x"))
	storagetest.MustHold(t, s, "wal/dir/key", []byte("x"))
	if got := storagetest.MustList(t, s, "", ""); !slices.Equal(got, []string{"wal/dir/key"}) {
		t.Errorf("List yields %q", got)
	}
	if err := os.Rename(disk, disk+".away"); err != nil {
		t.Fatal(err)
	}
	_, statErr := s.Stat(t.Context(), "wal/dir/key")
	_, createErr := s.Create(t.Context(), "wal/dir/new", strings.NewReader("x"), 1)
	var listErr error
	for _, err := range s.List(t.Context(), "", "") {
		listErr = err
	}
	errs := map[string]error{
		"stat": statErr, "get": readAll(t, s, "wal/dir/key", 0, -1), "create": createErr, "list": listErr,
		"delete": s.Delete(t.Context(), "wal/dir/key"),
	}
	mustAllBe(t, errs, storage.ErrConfig, "leads nowhere")
}

func TestFileShrinksWhileRead(t *testing.T) {
	root := t.TempDir()
	s := openDir(t, root)
	storagetest.MustCreate(t, s, "key", storagetest.Content(1000, 1))
	body, err := s.Get(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if err := os.Truncate(filepath.Join(root, "key"), 500); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	_, err = got.ReadFrom(body)
	mustAllBe(t, map[string]error{"get": err}, storage.ErrUnavailable, "size has changed")
}

// A Create and a Delete in one directory, which the Delete removes when it is
// empty, must not fail for each other.
func TestFileCreateAndDeleteTogether(t *testing.T) {
	root := t.TempDir()
	s := mustOpen(t, "file://"+root, storage.Options{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for range 50 {
				key := fmt.Sprintf("a/b/c/%d", worker)
				if _, err := s.Create(t.Context(), key, strings.NewReader("x"), 1); err != nil {
					t.Error(err)
					return
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if left := files(t, root); len(left) > 0 {
		t.Errorf("the directory still holds %q", left)
	}
}

// mountTmpfs mounts a file system of size bytes that nobody else sees fill up.
func mountTmpfs(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	dir := t.TempDir()
	if err := syscall.Mount("walden-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("can't mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFileFullDisk(t *testing.T) {
	root := mountTmpfs(t, 4<<20)
	s := openDir(t, root)
	storagetest.MustCreate(t, s, "small", []byte("x"))
	data := storagetest.Content(8<<20, 1)
	_, err := s.Create(t.Context(), "dir/big", bytes.NewReader(data), int64(len(data)))
	mustAllBe(t, map[string]error{"create": err}, storage.ErrUnavailable, "no space left", "tried ")
	if got := files(t, root); !slices.Equal(got, []string{"small"}) {
		t.Errorf("the full disk holds %q, want the small object alone", got)
	}
	storagetest.MustCreate(t, s, "dir/fits", data[:1<<20])
}

// A disk that somebody makes room on takes the object in the end.
func TestFileFullDiskGetsRoom(t *testing.T) {
	root := mountTmpfs(t, 4<<20)
	s := mustOpen(t, "file://"+root, storage.Options{Timeout: time.Minute})
	ballast := filepath.Join(root, ".ballast")
	if err := os.WriteFile(ballast, make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	data := storagetest.Content(2<<20, 1)
	body := &rewindWatcher{Reader: bytes.NewReader(data), rewound: func(times int) {
		if times == 2 { // the first try has failed
			if err := os.Remove(ballast); err != nil {
				t.Error(err)
			}
		}
	}}
	if _, err := s.Create(t.Context(), "dir/key", body, int64(len(data))); err != nil {
		t.Fatal(err)
	}
	storagetest.MustHold(t, s, "dir/key", data)
}

type rewindWatcher struct {
	*bytes.Reader
	times   int
	rewound func(times int)
}

func (w *rewindWatcher) Seek(offset int64, whence int) (int64, error) {
	w.times++
	w.rewound(w.times)
	return w.Reader.Seek(offset, whence)
}

func TestFileLeavesNothingBehind(t *testing.T) {
	root := t.TempDir()
	s := openDir(t, root)
	ctx, cancel := context.WithCancel(t.Context())
	body := &rewindWatcher{Reader: bytes.NewReader(make([]byte, 1<<20)), rewound: func(int) { cancel() }}
	if _, err := s.Create(ctx, "a/b/key", body, 1<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := s.Create(t.Context(), "a/b/key", strings.NewReader("x"), 2); err == nil {
		t.Error("Create took a short body")
	}
	if left := files(t, root); len(left) > 0 {
		t.Errorf("the directory holds %q, want nothing", left)
	}
}

// ownBinary is a copy of this test binary where everybody can run it.
func ownBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(testkit.Dir(t), "storage.test")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// runAsServerUser runs the calling test again as an ordinary user.
func runAsServerUser(t *testing.T) {
	t.Helper()
	result := testkit.Run(t, testkit.Cmd{Path: ownBinary(t), Args: []string{"-test.run=^" + t.Name() + "$"}, AsServerUser: true})
	if result.Code != 0 {
		t.Errorf("as an ordinary user:\n%s%s", result.Stdout, result.Stderr)
	}
}

// TestFileSyncs looks at what Create asks of the kernel, in what order: each
// new directory is synced into its parent, the content before it gets its
// name, and the name in the end.
func TestFileSyncs(t *testing.T) {
	const variable = "WALDEN_TEST_TRACED"
	if root := os.Getenv(variable); root != "" {
		storagetest.MustCreate(t, openDir(t, root), "new/dir/key", []byte("x"))
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		testkit.SkipOrFail(t, "strace is not installed")
	}
	root, out := testkit.Dir(t), filepath.Join(testkit.Dir(t), "trace")
	result := testkit.Run(t, testkit.Cmd{
		Path: strace,
		Args: []string{"-f", "-y", "-s", "300", "-e", "trace=fsync,mkdirat,linkat", "-o", out, ownBinary(t), "-test.run=^" + t.Name() + "$"},
		Env:  []string{variable + "=" + root},
	})
	if result.Code != 0 {
		t.Skipf("can't trace a process here: %s", result.Stderr)
	}
	trace, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.QuoteMeta(root)
	steps := []string{
		`mkdirat\(.*"` + quoted + `/new"`, `fsync\(\d+<` + quoted + `>`,
		`mkdirat\(.*"` + quoted + `/new/dir"`, `fsync\(\d+<` + quoted + `/new>`,
		`fsync\(\d+<` + quoted + `/new/dir/`, `linkat\(.*"` + quoted + `/new/dir/key"`, `fsync\(\d+<` + quoted + `/new/dir>`,
	}
	if order := regexp.MustCompile(`(?s)` + strings.Join(steps, `.*\n.*`)); !order.Match(trace) {
		t.Errorf("not in this order: %q; the trace is\n%s", steps, trace)
	}
}
