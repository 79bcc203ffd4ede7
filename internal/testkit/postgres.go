package testkit

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// DefaultMajor is the PostgreSQL that tests run on unless they ask for another one.
const DefaultMajor = 15

// supportedMajors are those that walden promises to work with.
var supportedMajors = []int{14, 15, 16, 17, 18}

// unpublished reports whether nobody publishes a major's binaries in the form that make setup
// installs, for this processor.
func unpublished(major int) bool { return runtime.GOARCH == "arm64" && major == 14 }

// PostgresMajors returns the supported majors that are installed, oldest first. Under Strict, a
// missing one fails the test.
func PostgresMajors(t testing.TB) []int {
	t.Helper()
	found := mustInstallations(t)
	var majors []int
	for _, major := range supportedMajors {
		if _, ok := found[major]; ok {
			majors = append(majors, major)
			continue
		}
		if Strict() && !unpublished(major) {
			t.Fatalf("PostgreSQL %d is not installed (make setup installs it); found %v", major, slices.Sorted(maps.Keys(found)))
		}
	}
	if len(majors) == 0 {
		t.Skip("no supported PostgreSQL is installed: make setup installs them")
	}
	return majors
}

// Binaries returns the directory of PostgreSQL's programs of that major, reachable by the server
// user. The system's packages come first, then .cache/postgres, then the PATH. Only the system's
// packages have client programs: see Cluster.Client.
func Binaries(t testing.TB, major int) string {
	t.Helper()
	install, ok := mustInstallations(t)[major]
	if !ok {
		SkipOrFail(t, fmt.Sprintf("PostgreSQL %d is not installed: make setup installs it", major))
	}
	dir, err := install()
	if err != nil {
		t.Fatalf("use PostgreSQL %d: %v", major, err)
	}
	return dir
}

// installation yields the directory of a PostgreSQL's programs, and makes it reachable first.
type installation func() (bin string, err error)

func mustInstallations(t testing.TB) map[int]installation {
	t.Helper()
	found, err := installations()
	if err != nil {
		t.Fatalf("look for PostgreSQL: %v", err)
	}
	return found
}

// installations looks once for each major's programs.
var installations = sync.OnceValues(func() (map[int]installation, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	found := map[int]installation{}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin/postgres",
		"/usr/pgsql-*/bin/postgres",
		filepath.Join(root, ".cache/postgres/node_modules/pg*/native/bin/postgres"),
	} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			addInstallation(found, name)
		}
	}
	if name, err := exec.LookPath("postgres"); err == nil {
		addInstallation(found, name)
	}
	return found, nil
})

var versionPattern = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// addInstallation adds the server program name unless its major is there already, or it doesn't run.
func addInstallation(found map[int]installation, name string) {
	out, err := exec.Command(name, "--version").Output()
	if err != nil {
		return
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return
	}
	major, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return
	}
	if _, ok := found[major]; ok {
		return
	}
	found[major] = sync.OnceValues(func() (string, error) {
		return reachableBinaries(filepath.Dir(name), fmt.Sprintf("postgres-%d", major))
	})
}

// reachableBinaries returns bin if the server user can run the server there; else it copies the
// installation that bin belongs to, under the given name, to where that user can. Checkouts below
// /root or in a private temporary directory need that.
func reachableBinaries(bin, name string) (string, error) {
	u, err := currentServer()
	if err != nil {
		return "", err
	}
	if runAs(u, exec.Command(filepath.Join(bin, "postgres"), "--version")) == nil {
		return bin, nil
	}
	s, err := processScratch()
	if err != nil {
		return "", err
	}
	to := filepath.Join(s.dir, name)
	if err := copyTree(filepath.Dir(bin), to); err != nil {
		return "", err
	}
	bin = filepath.Join(to, "bin")
	if err := runAs(u, exec.Command(filepath.Join(bin, "postgres"), "--version")); err != nil {
		return "", fmt.Errorf("run the copy in %s as user %s: %w", bin, u.name, err)
	}
	return bin, nil
}

// copyTree copies the directory from to the new directory to, readable by everybody: by hard links
// where both lie on one file system.
func copyTree(from, to string) error {
	var tried []error
	for _, link := range []string{"--link", "--no-target-directory"} {
		out, err := exec.Command("cp", "-a", link, from, to).CombinedOutput()
		if err == nil {
			return run("chmod", "-R", "a+rX", to)
		}
		tried = append(tried, fmt.Errorf("copy %s to %s: %w: %s", from, to, err, out))
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	return errors.Join(tried...)
}

// run runs a command that says nothing unless it fails.
func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return nil
}
