package commands

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"walden/internal/testkit"
)

// TestUsage runs the stories that need no server: how the program is called, and
// what it says to those who call it wrong.
func TestUsage(t *testing.T) {
	runScripts(t, "usage", nil)
}

// TestWALFiles runs the stories of wal-push and wal-fetch with the files of two
// real clusters and a repository in a directory.
func TestWALFiles(t *testing.T) {
	ours, theirs := newArchive(t), newArchive(t)
	runScripts(t, "wal", func(env *testscript.Env) error {
		env.Setenv("REPO", "file://"+filepath.Join(env.WorkDir, "repo"))
		env.Setenv("ID", ours.systemID)
		for i, segment := range ours.segments {
			env.Setenv(fmt.Sprintf("SEG%d", i+1), segment)
		}
		env.Setenv("LABEL", ours.label)
		env.Setenv("THEIRS", theirs.segments[0])
		return errors.Join(
			os.Mkdir(filepath.Join(env.WorkDir, "repo"), 0o755),
			os.CopyFS(filepath.Join(env.WorkDir, "data"), os.DirFS(ours.dir)),
			os.CopyFS(filepath.Join(env.WorkDir, "other"), os.DirFS(theirs.dir)))
	})
}

// TestS3 runs the stories that need an S3 server.
func TestS3(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	archive := newArchive(t)
	runScripts(t, "s3", func(env *testscript.Env) error {
		bucket := server.Bucket(t)
		env.Setenv("REPO", server.URL(bucket, "pg"))
		env.Setenv("NOBUCKET", server.URL("no-such-bucket", "pg"))
		env.Setenv("SEG1", archive.segments[0])
		env.Setenv("SEG2", archive.segments[1])
		for _, pair := range server.Env() {
			name, value, _ := strings.Cut(pair, "=")
			env.Setenv(name, value)
		}
		reader := server.ReadOnlyUser(t, bucket)
		env.Setenv("READER", reader.AccessKey)
		env.Setenv("READER_SECRET", reader.SecretKey)
		return os.CopyFS(filepath.Join(env.WorkDir, "data"), os.DirFS(archive.dir))
	})
}

func runScripts(t *testing.T, dir string, setup func(*testscript.Env) error) {
	binary := testkit.Walden(t)
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata/script", dir),
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(binary)+string(os.PathListSeparator)+env.Getenv("PATH"))
			if setup == nil {
				return nil
			}
			return setup(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":    exits,
			"fails":    fails,
			"stops":    stops,
			"listen":   listen,
			"flip":     flip,
			"truncate": truncate,
			"expand":   expand,
		},
	})
}
