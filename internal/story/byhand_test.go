package story

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"walden/internal/testkit"
)

// byHand is a restore without walden.
type byHand struct {
	name        string
	major       int
	accounts    int
	keys        func(testing.TB) keyPair
	tablespaces string // the script that deals with them; "": there are none
}

// TestByHand restores a backup, which was taken while the cluster was written to, and its WAL from a
// directory repository with shell scripts that use nothing but zstd and tar, and age where it is
// encrypted.
func TestByHand(t *testing.T) {
	for _, b := range []byHand{
		{"plain", 15, demoAccounts, noKeys, ""},
		{"encrypted", 15, demoAccounts, newKeys, ""},
		{"tablespaces moved", 15, fewAccounts, noKeys, "move-tablespaces.sh"},
		{"encrypted, tablespaces moved", 18, fewAccounts, newKeys, "move-tablespaces.sh"},
		{"tablespaces left in place", 15, fewAccounts, noKeys, "leave-tablespaces.sh"},
		{"tablespaces left in place of 18", 18, fewAccounts, noKeys, "leave-tablespaces.sh"},
	} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			b.tell(t)
		})
	}
}

func (b byHand) tell(t *testing.T) {
	repo, keys := aDirectory(t), b.keys(t)
	source := repo.host(keys.sourceEnv()...)
	c := source.cluster(t, testkit.ClusterOptions{Major: b.major})
	load(t, c, b.accounts)
	var places map[string]string
	if b.tablespaces != "" {
		places = loadTablespaces(t, c)
	}
	w := startWriting(t, c)
	source.must(t, "backup-push", c.DataDir)
	w.stop(t)
	last := note(t, c)
	archiveAll(t, c)
	lose(t, c, places)

	back := b.restore(t, repo, keys)
	if b.tablespaces == "" {
		mustBeSameFiles(t, back.DataDir, restore(t, repo, keys).DataDir)
	}
	promotes(t, back)
	last.mustHoldIn(t, back.Cluster)
	mustBeSound(t, back.Cluster)
}

// restore does what an operator does who has the repository and the key, but not walden.
func (b byHand) restore(t *testing.T, repo repository, keys keyPair) restored {
	t.Helper()
	for _, tool := range []string{"bash", "zstd", "tar", "age"} {
		testkit.Tool(t, tool)
	}
	top := testkit.Dir(t)
	dir := filepath.Join(top, "restored")
	cluster := repo.clusterDir(t)
	args := []string{cluster, onlyBackupIn(t, cluster), dir}
	if keys.encrypted() {
		args = append(args, keys.file(t))
	}
	scripts := copyScripts(t, top)
	shell(t, filepath.Join(scripts, "restore.sh"), args...)
	if b.tablespaces != "" {
		shell(t, filepath.Join(scripts, b.tablespaces), dir, testkit.Dir(t)) // some leave them where they are
	}
	return restored{Cluster: testkit.Attach(t, dir, testkit.ClusterOptions{})}
}

// mustBeSameFiles fails the test unless both directories hold the same: names, types, permissions and
// content. Recovery is set up in different ways.
func mustBeSameFiles(t testing.TB, byHand, byWalden string) {
	t.Helper()
	a, b := listFiles(t, byHand), listFiles(t, byWalden)
	for _, name := range allKeys(a, b) {
		if a[name] != b[name] && name != "postgresql.auto.conf" {
			t.Errorf("%s: %q by hand, but %q by walden", name, a[name], b[name])
		}
	}
}

// listFiles describes everything below a directory.
func listFiles(t testing.TB, dir string) map[string]string {
	t.Helper()
	list := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		what := info.Mode().String()
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		name, err := filepath.Rel(dir, path)
		list[name] = what
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// onlyBackupIn returns the name of the only backup that has a commit record.
func onlyBackupIn(t testing.TB, cluster string) string {
	t.Helper()
	commits, err := filepath.Glob(filepath.Join(cluster, "backups", "*", "backup.json"))
	if err != nil || len(commits) != 1 {
		t.Fatalf("%s has %d backups (error: %v), want 1", cluster, len(commits), err)
	}
	return filepath.Base(filepath.Dir(commits[0]))
}

// copyScripts copies the scripts to where the server's user can run them, wherever the checkout is.
func copyScripts(t testing.TB, to string) string {
	t.Helper()
	dir := filepath.Join(to, "scripts")
	if err := os.CopyFS(dir, os.DirFS("../../docs/by-hand")); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, dir)
	return dir
}

// shell runs a script as the user of the server.
func shell(t testing.TB, script string, args ...string) {
	t.Helper()
	res := testkit.Run(t, testkit.Cmd{Path: script, Args: args, AsServerUser: true})
	if res.Code != 0 {
		t.Fatalf("%s %q: exit %d\n%s%s", script, args, res.Code, res.Stdout, res.Stderr)
	}
}
