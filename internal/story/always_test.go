package story

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// archivingStandby makes a standby that archives what it receives into the same place. name is that of its
// replication slot, so that it misses nothing.
func archivingStandby(t testing.TB, h host, of *testkit.Cluster, name string, conf map[string]string) *testkit.Cluster {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "standby")
	of.Client(t, "pg_basebackup", "-D", dir, "-c", "fast", "-X", "stream", "-R", "-C", "-S", name)
	testkit.GiveToServer(t, dir)
	return testkit.Attach(t, dir, testkit.ClusterOptions{Env: h.env, Conf: conf})
}

// mustAgree fails the test unless everything in a server's pg_wal that it takes for archived is in the
// repository as it is there. It returns how many files that were.
func mustAgree(t testing.TB, s shelf, c *testkit.Cluster) (files int) {
	t.Helper()
	objects := map[string]string{}
	for name := range s.list(t) {
		objects[path.Base(name)] = name
	}
	walDir := filepath.Join(c.DataDir, "pg_wal")
	for _, status := range namesIn(t, filepath.Join(walDir, "archive_status")) {
		name, done := strings.CutSuffix(status, ".done")
		if !done {
			t.Errorf("%s: %s", walDir, status)
			continue
		}
		want, err := os.ReadFile(filepath.Join(walDir, name))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if objects[name] == "" {
			t.Errorf("%s of %s was archived, and is not in the repository", name, walDir)
			continue
		}
		if !bytes.Equal(unpacked(t, s, objects[name]), want) {
			t.Errorf("%s of %s is another file in the repository", name, walDir)
		}
		files++
	}
	return files
}

// waitArchived waits until a server has nothing left to archive.
func waitArchived(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	testkit.Eventually(t, limit, "all is archived", func() bool {
		ready, err := filepath.Glob(filepath.Join(c.DataDir, "pg_wal", "archive_status", "*.ready"))
		return err == nil && len(ready) == 0
	})
}

// TestAlwaysBesideThePrimary: a standby with archive_mode=always archives the same segments as its primary,
// into the same place, at the same time, and both succeed. Then it is promoted, the old primary archives
// what it had left, and a standby of the new one is promoted as well: three timelines, side by side.
func TestAlwaysBesideThePrimary(t *testing.T) {
	t.Parallel()
	s := newDirShelf(t)
	h := s.repository().host()
	conf := map[string]string{"archive_mode": "always", "wal_keep_size": "1GB", "fsync": "off", "max_wal_size": "1GB"}
	primary := h.cluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: conf})
	primary.Exec(t, "CREATE TABLE marks (who text)")
	h.must(t, "backup-push", primary.DataDir)
	second := archivingStandby(t, h, primary, "second", nil)
	second.Start(t)
	keepBusy(t, primary, 30)
	primary.Exec(t, "INSERT INTO marks VALUES ('first')")
	archiveAll(t, primary)
	switched := primary.QueryValue(t, "SELECT pg_current_wal_lsn()")
	second.WaitFor(t, "SELECT pg_last_wal_replay_lsn() >= '"+switched+"'", "t", limit)
	waitArchived(t, second)
	if n := mustAgree(t, s, second); n < 20 {
		t.Errorf("the standby has archived %d files", n)
	}
	mustAgree(t, s, primary)
	if text := second.QueryValue(t, "SELECT failed_count FROM pg_stat_archiver"); text != "0" {
		t.Errorf("the standby failed to archive %s times", text)
	}

	// The primary dies in the middle of a segment, and the standby takes over.
	primary.Exec(t, "INSERT INTO marks VALUES ('more')")
	second.WaitFor(t, "SELECT count(*) FROM marks", "2", limit)
	primary.Kill(t)
	second.Exec(t, "SELECT pg_promote()")
	second.WaitFor(t, "SELECT pg_is_in_recovery()", "f", limit)
	second.Exec(t, "INSERT INTO marks VALUES ('second')")
	archiveAll(t, second)
	third := archivingStandby(t, h, second, "third", nil)
	third.Start(t)
	keepBusy(t, second, 5)
	archiveAll(t, second)

	// The old primary comes back on its own timeline for a while: what it archives lies beside.
	primary.Start(t)
	primary.Exec(t, "INSERT INTO marks VALUES ('leftover')")
	archiveAll(t, primary)
	primary.Stop(t, testkit.Fast)

	end := second.QueryValue(t, "SELECT pg_current_wal_lsn()")
	third.WaitFor(t, "SELECT pg_last_wal_replay_lsn() >= '"+end+"'", "t", limit)
	second.Stop(t, testkit.Fast)
	third.Exec(t, "SELECT pg_promote()")
	third.WaitFor(t, "SELECT pg_is_in_recovery()", "f", limit)
	third.Exec(t, "INSERT INTO marks VALUES ('third')")
	archiveAll(t, third)
	waitArchived(t, third)
	third.Stop(t, testkit.Fast)
	for _, c := range []*testkit.Cluster{primary, second, third} {
		waitArchived(t, c)
		mustAgree(t, s, c)
	}
	mustHoldKinds(t, s)
	for timeline, want := range map[string]string{"1": "first,leftover,more", "2": "first,more,second", "3": "first,more,second,third"} {
		back := restore(t, s.repository(), keyPair{}, "--target-timeline", timeline)
		promotes(t, back)
		if got := back.QueryValue(t, "SELECT string_agg(who, ',' ORDER BY who) FROM marks"); got != want {
			t.Errorf("along timeline %s: %s, want %s", timeline, got, want)
		}
		back.Stop(t, testkit.Immediate)
	}
}

// mustHoldKinds fails the test unless the repository holds every kind of file that a promotion leaves.
func mustHoldKinds(t testing.TB, s shelf) {
	t.Helper()
	names := fmt.Sprint(keysOfShelf(t, s))
	for _, part := range []string{".partial", "/wal/00000002.history", "/wal/00000003.history", ".backup", "/wal/00000001/", "/wal/00000002/", "/wal/00000003/"} {
		if !strings.Contains(names, part) {
			t.Errorf("the repository holds no %s", part)
		}
	}
}

func keysOfShelf(t testing.TB, s shelf) (names []string) {
	t.Helper()
	for name := range s.list(t) {
		names = append(names, name)
	}
	return names
}

// TestTwoHostsOneName: of two hosts that push different content under one name at the same moment, exactly
// one wins, and the other is told what both have.
func TestTwoHostsOneName(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		b := newBacklog(t, 6)
		other := b
		other.dataDir = filepath.Join(testkit.Dir(t), "copy")
		if err := os.CopyFS(other.dataDir, os.DirFS(b.dataDir)); err != nil {
			t.Fatal(err)
		}
		for _, name := range b.names { // the other host went another way
			data := bytes.Clone(b.content[name])
			data[len(data)-1] ^= 1
			if err := os.WriteFile(other.path(name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		testkit.GiveToServer(t, other.dataDir)
		h := s.repository().host()
		for _, name := range b.names {
			var runs []*testkit.Running
			for _, on := range []backlog{b, other} {
				runs = append(runs, testkit.Start(t, on.command(h, "wal-push", "--ahead", "1", "pg_wal/"+name)))
			}
			one, two := runs[0].Wait(t), runs[1].Wait(t)
			loser := two
			if one.Code != 0 {
				loser = one
			}
			if one.Code+two.Code != 1 || strings.Count(loser.Stderr, "sha256 ") != 2 {
				t.Errorf("%s: exit %d and %d\n%s%s", name, one.Code, two.Code, one.Stderr, two.Stderr)
			}
			got := unpacked(t, s, b.object(name))
			if isFirst := bytes.Equal(got, b.content[name]); isFirst != (one.Code == 0) {
				t.Errorf("%s: the winner's content is not what the repository holds", name)
			}
		}
	})
}
