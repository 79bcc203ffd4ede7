package story

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
)

// crashes is how often each operation is killed: WALDEN_TEST_CRASHES asks for more (make crash).
func crashes(t testing.TB) int {
	t.Helper()
	text := os.Getenv("WALDEN_TEST_CRASHES")
	if text == "" {
		return 20
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("WALDEN_TEST_CRASHES is %q, not a number of crashes", text)
	}
	return n
}

// killer kills programs at random moments of the time that they take.
type killer struct {
	random *rand.Rand
	took   time.Duration // by an undisturbed run
	killed int
	found  map[string]int // what the killed ones left behind, and how often
}

// newKiller measures some undisturbed runs. WALDEN_TEST_SEED repeats the moments of another time, as parts of
// what a run takes.
func newKiller(t testing.TB, undisturbed func()) *killer {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("WALDEN_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("WALDEN_TEST_SEED is %q, not a seed", text)
		}
	}
	var runs []time.Duration
	for range 3 {
		began := time.Now()
		undisturbed()
		runs = append(runs, time.Since(began))
	}
	slices.Sort(runs)
	k := &killer{random: rand.New(rand.NewPCG(seed, 0)), took: runs[1], found: map[string]int{}}
	t.Cleanup(func() {
		t.Logf("%d killed within %s, WALDEN_TEST_SEED=%d; left behind: %v", k.killed, k.took, seed, k.found)
	})
	return k
}

// kill starts a program and kills it, unless it has ended well before its time came.
func (k *killer) kill(t testing.TB, cmd testkit.Cmd) {
	t.Helper()
	after := time.Duration(k.random.Int64N(int64(k.took)))
	r, began := testkit.Start(t, cmd), time.Now()
	if r.Ended(after) {
		k.took = (k.took + time.Since(began)) / 2 // the machine has less to do than it had
	}
	res := r.Kill(t)
	switch res.Code {
	case -1:
		k.killed++
	case 0:
	default:
		t.Fatalf("walden %q: exit %d\n%s", cmd.Args, res.Code, res.Stderr)
	}
}

// rounds counts until as many programs were killed as the test wants. Those that were faster don't count.
func (k *killer) rounds(t testing.TB) func(yield func(int) bool) {
	want := crashes(t)
	return func(yield func(int) bool) {
		for round := 0; k.killed < want; round++ {
			if round == 10*want {
				t.Fatalf("only %d of %d runs were killed", k.killed, round)
			}
			if !yield(round) || t.Failed() {
				return
			}
		}
	}
}

// onEachShelf tells a story with a directory and with an S3 server.
func onEachShelf(t *testing.T, tell func(*testing.T, shelf)) {
	for name, newShelf := range map[string]func(testing.TB) shelf{"directory": newDirShelf, "S3": newS3Shelf} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tell(t, newShelf(t))
		})
	}
}

// walFiles are WAL segments of a real cluster, that nobody has archived.
type walFiles struct {
	dataDir  string
	systemID string
	names    []string
}

// writeWAL makes a cluster and segments that take their time: what is in them doesn't compress well.
func writeWAL(t testing.TB, segments int) walFiles {
	t.Helper()
	c := testkit.NewCluster(t, testkit.ClusterOptions{Conf: map[string]string{"wal_keep_size": "4GB"}})
	c.Start(t)
	w := walFiles{dataDir: c.DataDir, systemID: c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")}
	for range segments {
		w.names = append(w.names, c.QueryValue(t, `SELECT pg_logical_emit_message(false, 'test',
			(SELECT string_agg(gen_random_uuid()::text, '') FROM generate_series(1, 350000)));
			SELECT pg_walfile_name(pg_switch_wal())`))
	}
	c.Stop(t, testkit.Fast)
	return w
}

func (w walFiles) path(name string) string { return filepath.Join(w.dataDir, "pg_wal", name) }

// object is the name of a segment in a repository.
func (w walFiles) object(name string) string {
	return w.systemID + "/wal/" + name[:8] + "/" + name[8:16] + "/" + name
}

// spool is where walden keeps files on their way.
func (w walFiles) spool() string { return w.path(".walden") }

// command is a run of walden in the cluster's data directory, as the server runs it.
func (w walFiles) command(h host, args ...string) testkit.Cmd {
	return testkit.Cmd{Args: args, Env: h.env, Dir: w.dataDir, AsServerUser: true}
}

// mustRun runs walden to a good and silent end.
func (w walFiles) mustRun(t testing.TB, h host, args ...string) {
	t.Helper()
	if res := testkit.Run(t, w.command(h, args...)); res.Code != 0 || res.Stdout != "" || res.Stderr != "" {
		t.Fatalf("walden %q: exit %d\n%s%s", args, res.Code, res.Stdout, res.Stderr)
	}
}

// mustBeSwept fails the test if the spool holds anything but what stays there.
func (w walFiles) mustBeSwept(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(w.spool())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "mark-") {
			t.Errorf("%s is left in the spool", e.Name())
		}
	}
}

// TestCrashOfWALPush kills wal-push again and again. What it was storing is in the repository as a whole
// or not at all, and the next run stores it.
func TestCrashOfWALPush(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		wal := writeWAL(t, 4)
		repo, h := inspect(s), s.repository().host()
		fresh := func(round int) string {
			for _, name := range repo.mustBeWhole(t) {
				// Every other round begins with a repository that is new.
				if round%2 == 0 || name != wal.systemID+"/cluster.json" {
					repo.forget(t, name)
				}
			}
			if round%2 == 0 {
				if err := os.RemoveAll(wal.spool()); err != nil {
					t.Fatal(err)
				}
			}
			return wal.names[round%len(wal.names)]
		}
		push := func(round int) { wal.mustRun(t, h, "wal-push", "pg_wal/"+fresh(round)) }
		n := 0
		k := newKiller(t, func() { push(n); n++ })
		for round := range k.rounds(t) {
			name := fresh(round)
			k.kill(t, wal.command(h, "wal-push", "pg_wal/"+name))
			left := repo.mustBeWhole(t)
			k.found[fmt.Sprintf("%d objects", len(left))]++
			if len(left) > 2 {
				t.Errorf("there is more than a segment and the cluster's identity: %q", left)
			}
			wal.mustRun(t, h, "wal-push", "pg_wal/"+name)
			if there := repo.mustBeWhole(t); !slices.Contains(there, wal.object(name)) || len(there) != 2 {
				t.Errorf("after the next run the repository holds %q", there)
			}
			wal.mustBeSwept(t)
		}
	})
}

// TestCrashOfWALFetch kills wal-fetch again and again. The file that PostgreSQL looks for is whole or not
// there, nothing else is in pg_wal, and the next run hands it over and sweeps up.
func TestCrashOfWALFetch(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		wal := writeWAL(t, 4)
		h := s.repository().host()
		content := map[string][]byte{}
		for _, name := range wal.names {
			wal.mustRun(t, h, "wal-push", "pg_wal/"+name)
			data, err := os.ReadFile(wal.path(name))
			if err != nil {
				t.Fatal(err)
			}
			content[name] = data
			if err := os.Remove(wal.path(name)); err != nil { // as on a host that recovers
				t.Fatal(err)
			}
		}
		const want = "RECOVERYXLOG"
		before := namesIn(t, wal.path(""))
		round := 0
		fetch := func() []string {
			if err := os.RemoveAll(wal.path(want)); err != nil { // as PostgreSQL does
				t.Fatal(err)
			}
			return []string{"wal-fetch", wal.names[round%len(wal.names)], "pg_wal/" + want}
		}
		k := newKiller(t, func() { wal.mustRun(t, h, fetch()...) })
		for round = range k.rounds(t) {
			args := fetch()
			k.kill(t, wal.command(h, args...))
			data, err := os.ReadFile(wal.path(want))
			k.found[fmt.Sprintf("the file %v, %d in the spool", err == nil, len(namesIn(t, wal.spool())))]++
			if err == nil && !bytes.Equal(data, content[args[1]]) {
				t.Errorf("%s holds %d bytes that are not those of %s", want, len(data), args[1])
			} else if err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
			if names := slices.DeleteFunc(namesIn(t, wal.path("")), func(name string) bool { return name == want }); !slices.Equal(names, before) {
				t.Errorf("pg_wal holds %q, before %q", names, before)
			}
			wal.mustRun(t, h, fetch()...)
			if data, err := os.ReadFile(wal.path(want)); err != nil || !bytes.Equal(data, content[args[1]]) {
				t.Errorf("the next run hands over %d bytes (error: %v)", len(data), err)
			}
			wal.mustBeSwept(t)
		}
	})
}

func namesIn(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestCrashOfBackupPush kills backup-push again and again. No torn backup passes for a complete one, what
// is complete can be restored to the last byte, and the next run succeeds.
func TestCrashOfBackupPush(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		repo, h := inspect(s), s.repository().host()
		c := h.cluster(t, testkit.ClusterOptions{})
		c.Exec(t, "CREATE TABLE t AS SELECT i, gen_random_uuid() AS u FROM generate_series(1, 300000) AS i")
		cluster := c.QueryValue(t, "SELECT system_identifier FROM pg_control_system()")
		push := testkit.Cmd{Args: []string{"backup-push", c.DataDir}, Env: h.env, AsServerUser: true}
		k := newKiller(t, func() { h.must(t, push.Args...) })
		complete := mustShowNoTornBackup(t, repo, h, cluster)
		for round := range k.rounds(t) {
			if round%20 == 19 { // a long campaign keeps only so many
				for _, name := range repo.mustBeWhole(t) {
					if strings.Contains(name, "/backups/") {
						repo.forget(t, name)
					}
				}
				complete = nil
			}
			k.kill(t, push)
			after := mustShowNoTornBackup(t, repo, h, cluster)
			k.found[fmt.Sprintf("%d more complete", len(after)-len(complete))]++
			for _, id := range after {
				if !slices.Contains(complete, id) { // it was killed in its last moments
					repo.mustRestore(t, cluster, id)
				}
			}
			c.WaitFor(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walden'", "0", limit)
			h.must(t, push.Args...)
			next := mustShowNoTornBackup(t, repo, h, cluster)
			if len(after) < len(complete) || len(next) <= len(after) {
				t.Errorf("complete are %q, after the crash %q, after the next run %q", complete, after, next)
			}
			complete = next
		}
		rows := c.QueryValue(t, "SELECT count(*) || ' ' || sum(hashtext(u::text)) FROM t")
		back := restore(t, s.repository(), keyPair{}, "--target-immediate", "--target-action", "promote").Cluster
		back.Start(t)
		if got := back.QueryValue(t, "SELECT count(*) || ' ' || sum(hashtext(u::text)) FROM t"); got != rows {
			t.Errorf("restored %s rows, want %s", got, rows)
		}
	})
}

// mustShowNoTornBackup compares what info says with what the repository holds, and returns the backups that
// are complete.
func mustShowNoTornBackup(t testing.TB, repo *inspector, h host, cluster string) (complete []string) {
	t.Helper()
	var shown report
	res := h.walden(t, "info", "--json")
	if err := json.Unmarshal([]byte(res.Stdout), &shown); err != nil || len(shown.Clusters) != 1 {
		t.Fatalf("info: exit %d (error: %v)\n%s%s", res.Code, err, res.Stdout, res.Stderr)
	}
	names := repo.mustBeWhole(t)
	for _, b := range shown.Clusters[0].Backups {
		committed := slices.Contains(names, fmt.Sprintf("%s/backups/%s/backup.json", cluster, b.ID))
		switch {
		case b.Status == "complete" && committed:
			complete = append(complete, b.ID)
		case b.Status == "waiting-for-wal" && committed: // killed while it waited
		case b.Status == "unfinished" && !committed:
		default:
			t.Errorf("info says that %s is %s; has it a commit record: %v", b.ID, b.Status, committed)
		}
	}
	return complete
}
