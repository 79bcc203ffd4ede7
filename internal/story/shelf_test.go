package story

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"walden/internal/testkit"
)

// shelf is a repository as others than walden see it: every file of a directory, or every object of a
// bucket.
type shelf interface {
	repository() repository
	// list returns every name with a stamp that tells whether it was written again. Names are relative
	// to the repository.
	list(t testing.TB) map[string]string
	read(t testing.TB, name string) []byte
	remove(t testing.TB, name string)
}

// dirShelf is a directory, with hidden files too.
type dirShelf struct {
	dir   string
	named bool // the file system knows no files without a name, of which a crash leaves nothing
}

func newDirShelf(t testing.TB) shelf {
	dir := testkit.Dir(t)
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		err = unix.Close(fd)
	}
	if err != nil {
		t.Logf("what a crash leaves is not judged: files without a name are not possible here: %v", err)
	}
	return dirShelf{dir, err != nil}
}

func (s dirShelf) repository() repository { return repository{url: "file://" + s.dir, dir: s.dir} }

func (s dirShelf) list(t testing.TB) map[string]string {
	t.Helper()
	names := map[string]string{}
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if s.named && strings.HasPrefix(entry.Name(), ".walden-tmp-") {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		names[strings.TrimPrefix(path, s.dir+"/")] = info.ModTime().String() + " " + strconv.FormatInt(info.Size(), 10)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (s dirShelf) read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (s dirShelf) remove(t testing.TB, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// s3Shelf is a prefix in a bucket of its own.
type s3Shelf struct {
	server *testkit.S3
	bucket string
}

const s3Prefix = "pg/main"

func newS3Shelf(t testing.TB) shelf {
	server := testkit.NewS3(t, testkit.S3Options{})
	return s3Shelf{server, server.Bucket(t)}
}

func (s s3Shelf) repository() repository {
	return repository{url: s.server.URL(s.bucket, s3Prefix), env: s.server.Env()}
}

func (s s3Shelf) list(t testing.TB) map[string]string {
	t.Helper()
	names := map[string]string{}
	for _, o := range s.server.Objects(t, s.bucket) {
		names[strings.TrimPrefix(o.Key, s3Prefix+"/")] = o.ETag + " " + o.LastModified + " " + strconv.FormatInt(o.Size, 10)
	}
	return names
}

func (s s3Shelf) read(t testing.TB, name string) []byte {
	t.Helper()
	return s.server.Object(t, s.bucket, s3Prefix+"/"+name)
}

func (s s3Shelf) remove(t testing.TB, name string) {
	t.Helper()
	s.server.Remove(t, s.bucket, s3Prefix+"/"+name)
}
