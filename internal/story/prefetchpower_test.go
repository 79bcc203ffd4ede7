package story

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"walden/internal/testkit"
)

// disk is a file system of its own whose image can be copied at any moment, which is what a power loss
// leaves: what was not synced isn't in it.
type disk struct{ image, dir string }

func newDisk(t testing.TB, size int64) disk {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a file system")
	}
	d := disk{image: filepath.Join(testkit.Dir(t), "image")}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	tool(t, "mkfs.ext4", "-q", d.image)
	d.dir = mountImage(t, d.image)
	return d
}

// tool runs a system administrator's program.
func tool(t testing.TB, name string, args ...string) {
	t.Helper()
	if res := testkit.Run(t, testkit.Cmd{Path: testkit.Tool(t, name), Args: args}); res.Code != 0 {
		testkit.SkipUnlessCI(t, fmt.Sprintf("%s: exit %d\n%s", name, res.Code, res.Stderr))
	}
}

// mountImage mounts an image until the end of the test.
func mountImage(t testing.TB, image string) string {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "mounted")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	tool(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		testkit.Eventually(t, limit, "nobody uses the mounted file system", func() bool {
			return testkit.Run(t, testkit.Cmd{Path: testkit.Tool(t, "umount"), Args: []string{dir}}).Code == 0
		})
	})
	return dir
}

// cut copies the image while all who work in a directory stand still, because the copy takes its time, and
// returns what the next start of the machine finds.
func (d disk) cut(t testing.TB, dir string) string {
	t.Helper()
	image := filepath.Join(testkit.Dir(t), "image")
	var halted []int
	testkit.Eventually(t, limit, "all stand still", func() bool {
		moving := 0
		for _, pid := range workersIn(dir) {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if err != nil || strings.Contains(string(status), "State:\tT") || strings.Contains(string(status), "State:\tZ") {
				continue
			}
			moving++
			if syscall.Kill(pid, syscall.SIGSTOP) == nil && !slices.Contains(halted, pid) {
				halted = append(halted, pid)
			}
		}
		return moving == 0
	})
	tool(t, "cp", "--sparse=always", d.image, image)
	for _, pid := range halted {
		// It may have been killed meanwhile.
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
	return mountImage(t, image)
}

// workersIn lists the processes whose working directory that is.
func workersIn(dir string) (pids []int) {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil
	}
	for _, link := range links {
		if at, err := os.Readlink(link); err != nil || at != dir {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// TestPowerCutInRecovery cuts the power at several moments of a recovery that fetches ahead. What stands
// under a final name afterwards is whole, and recovery from there ends with identical data.
func TestPowerCutInRecovery(t *testing.T) {
	t.Parallel()
	const cuts = 5
	w := archiveWAL(t, newDirShelf(t), 60)
	segments := w.plain(t)
	d := newDisk(t, 512<<20)
	testkit.GiveToServer(t, d.dir)
	dir := filepath.Join(d.dir, "data")
	h := w.repository().host()
	h.must(t, "backup-fetch", dir, "latest")
	conf := map[string]string{"restore_command": newFetcher(t).command, "archive_mode": "off", "fsync": "on"}
	c := testkit.Attach(t, dir, testkit.ClusterOptions{Env: h.env, Conf: conf})
	c.Launch(t)
	var found []string
	for n := range cuts {
		testkit.Eventually(t, limit, "recovery goes on", func() bool {
			return strings.Count(c.Log(), "restored log file") > 10*n || !c.Running()
		})
		found = append(found, d.cut(t, dir))
	}
	c.WaitReady(t, limit)
	c.Stop(t, testkit.Immediate)
	whole := 0
	for _, place := range found {
		dir := filepath.Join(place, "data")
		whole += mustBeWholeIn(t, filepath.Join(dir, "pg_wal"), segments)
		if err := os.Remove(filepath.Join(dir, "postmaster.pid")); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		again := testkit.Attach(t, dir, testkit.ClusterOptions{Env: h.env, Conf: conf})
		promotes(t, restored{Cluster: again})
		if got := again.QueryValue(t, contents); got != w.held {
			t.Errorf("recovered %s, there were %s", got, w.held)
		}
		again.Stop(t, testkit.Immediate)
	}
	t.Logf("%d power cuts left %d whole files under final names", cuts, whole)
}
