package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"walden/catalog"
	"walden/internal/testkit"
	"walden/postgres/pgdata"
	"walden/postgres/server"
	"walden/postgres/wal"
	"walden/storage"
)

// limit is far above what anything here takes on a slow machine.
const limit = 60 * time.Second

// source is a running cluster and the repository that it archives into. What
// archives is a few lines of shell: they store segments as they are, which tells a
// backup that they are there, and suffices to recover from.
type source struct {
	*testkit.Cluster
	repository
	wal string // directory of the WAL in the repository
}

func newSource(t *testing.T, conf map[string]string) *source {
	t.Helper()
	s := &source{Cluster: testkit.NewCluster(t, testkit.ClusterOptions{Conf: map[string]string{
		"archive_mode": "on", "wal_level": "replica", "archive_timeout": "0",
	}})}
	ctl, _, err := pgdata.ReadControl(s.DataDir)
	must(t, err)
	s.dir = testkit.Dir(t)
	s.repository.Cluster = catalog.Open(openStore(t, "file://"+s.dir), ctl.SystemID)
	s.wal = filepath.Join(s.dir, fmt.Sprint(ctl.SystemID), "wal")
	must(t, os.MkdirAll(s.wal, 0o755))
	testkit.GiveToServer(t, s.dir)
	s.Configure(t, map[string]string{"archive_command": s.archiveCommand(t)})
	s.Configure(t, conf)
	s.Start(t)
	return s
}

// archiveCommand returns a command without quotes and percent signs other than
// PostgreSQL's.
func (s *source) archiveCommand(t *testing.T) string {
	t.Helper()
	script := filepath.Join(testkit.Dir(t), "archive")
	must(t, os.WriteFile(script, []byte(`set -e
case $2 in *.history) exec cp "$1" `+s.wal+`/$2;; esac
dir=`+s.wal+`/$(echo $2 | cut -c1-8)/$(echo $2 | cut -c9-16)
mkdir -p $dir
cp "$1" $dir/.$2
mv $dir/.$2 $dir/$2
`), 0o644))
	return "sh " + script + " %p %f"
}

func (s *source) push(t *testing.T, change func(*PushOptions)) (catalog.Commit, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*limit)
	defer cancel()
	o := PushOptions{PGData: s.DataDir, Server: server.Config{Env: noEnv, DSN: "user=postgres"}, WaitTimeout: limit, Host: "here", Version: "test"}
	if change != nil {
		change(&o)
	}
	return Push(ctx, s.Store, o)
}

func noEnv(string) string { return "" }

// restore fetches a backup and returns a cluster that recovers when it is started.
func (s *source) restore(t *testing.T, id string, opts testkit.ClusterOptions) *testkit.Cluster {
	t.Helper()
	b, err := s.Backup(t.Context(), id)
	must(t, err)
	dir := testkit.Dir(t)
	must(t, Fetch(t.Context(), s.repository.Cluster, b, FetchOptions{Dir: dir, Recovery: Recovery{
		RestoreCommand: "cp $(find " + s.wal + " -name %f) %p",
	}}))
	return testkit.Attach(t, dir, opts)
}

// nothingCommitted makes sure that no backup can be taken for a whole one.
func (s *source) nothingCommitted(t *testing.T) {
	t.Helper()
	for _, key := range s.objects(t, "backups/") {
		if strings.HasSuffix(key, "/backup.json") || strings.HasSuffix(key, "/manifest") {
			t.Errorf("%s was stored", key)
		}
	}
	backups, err := s.Backups(t.Context())
	if err != nil || slices.ContainsFunc(backups, func(b catalog.Backup) bool { return b.Status != catalog.StatusUnfinished }) {
		t.Errorf("backups are %+v (%v)", backups, err)
	}
}

// onFirst makes the store do something before it takes the first object of a
// backup whose key contains this.
func (s *source) onFirst(part string, do func(ctx context.Context)) {
	var once sync.Once
	s.Store = hooked{s.Store, func(ctx context.Context, key string) error {
		if strings.Contains(key, part) {
			once.Do(func() { do(ctx) })
		}
		return nil
	}}
}

func TestPushRefusesAnotherClustersServer(t *testing.T) {
	t.Parallel()
	a, b := newSource(t, nil), newSource(t, nil)
	before := a.objects(t, "")
	_, err := a.push(t, func(o *PushOptions) { o.Server.DSN = b.DSN() })
	if !errors.Is(err, server.ErrOtherCluster) {
		t.Fatalf("got %v", err)
	}
	for _, both := range []uint64{a.SystemID, b.SystemID} {
		if !strings.Contains(err.Error(), fmt.Sprint(both)) {
			t.Errorf("the message does not name %d: %v", both, err)
		}
	}
	if after := a.objects(t, ""); !slices.Equal(before, after) {
		t.Errorf("something was stored: %v", after)
	}
}

func TestPushRefusesWithoutArchiving(t *testing.T) {
	t.Parallel()
	s := newSource(t, map[string]string{"archive_mode": "off"})
	_, err := s.push(t, nil)
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "archive_mode") {
		t.Fatalf("got %v", err)
	}
	if keys := s.objects(t, ""); len(keys) > 0 {
		t.Errorf("something was stored: %v", keys)
	}
	b, err := s.push(t, func(o *PushOptions) { o.NoWait = true })
	if err != nil {
		t.Fatalf("with NoWait: %v", err)
	}
	if got, err := s.Backup(t.Context(), b.ID); err != nil || got.Status != catalog.StatusWaiting {
		t.Errorf("it is %s (%v)", got.Status, err)
	}
}

// careless is a store that ignores the condition of a create.
type careless struct{ storage.Store }

func (c careless) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (storage.Info, error) {
	info, err := c.Store.Create(ctx, key, body, size)
	if errors.Is(err, storage.ErrExist) {
		return storage.Info{Key: key, Size: size}, nil
	}
	return info, err
}

func TestPushRefusesAStoreThatOverwrites(t *testing.T) {
	t.Parallel()
	s := newSource(t, nil)
	s.Store = careless{s.Store}
	_, err := s.push(t, nil)
	if !errors.Is(err, catalog.ErrNotConditional) {
		t.Fatalf("got %v", err)
	}
	if keys := s.objects(t, "backups/"); len(keys) > 0 {
		t.Errorf("something was stored: %v", keys)
	}
}

// TestLostSessionVoidsTheBackup ends the session that holds the backup open,
// before the copy goes on, and while the copy hangs.
func TestLostSessionVoidsTheBackup(t *testing.T) {
	t.Parallel()
	for _, hang := range []bool{false, true} {
		t.Run(fmt.Sprintf("hang=%v", hang), func(t *testing.T) {
			t.Parallel()
			s := newSource(t, nil)
			s.onFirst("/data/", func(ctx context.Context) {
				_, err := s.TryQuery(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'walden%'")
				if err != nil {
					t.Error(err)
				}
				if hang {
					<-ctx.Done()
				}
			})
			_, err := s.push(t, nil)
			if !errors.Is(err, server.ErrBackupVoid) && !errors.Is(err, server.ErrUnavailable) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), "session") {
				t.Errorf("the message does not speak of the session: %v", err)
			}
			s.nothingCommitted(t)
		})
	}
}

// TestWaitingBackupBecomesComplete lets archiving fail at first.
func TestWaitingBackupBecomesComplete(t *testing.T) {
	t.Parallel()
	s := newSource(t, map[string]string{"archive_command": "false"})
	s.Exec(t, "CREATE TABLE t AS SELECT generate_series(1, 1000) AS i", "SELECT pg_switch_wal()")
	s.WaitFor(t, "SELECT failed_count > 0 FROM pg_stat_archiver", "t", limit)
	b, err := s.push(t, func(o *PushOptions) { o.WaitTimeout = 500 * time.Millisecond })
	if !errors.Is(err, ErrWaiting) {
		t.Fatalf("got %v", err)
	}
	for _, word := range []string{b.ID, b.WAL.First.String(), "archive_command last failed", "becomes complete"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the message lacks %q: %v", word, err)
		}
	}
	status := func() catalog.Status {
		got, err := s.Backup(t.Context(), b.ID)
		must(t, err)
		return got.Status
	}
	if got := status(); got != catalog.StatusWaiting {
		t.Errorf("it is %s", got)
	}
	s.Configure(t, map[string]string{"archive_command": s.archiveCommand(t)})
	s.Reload(t)
	testkit.Eventually(t, 2*limit, "the backup becomes complete", func() bool { return status() == catalog.StatusComplete })
	r := s.restore(t, b.ID, testkit.ClusterOptions{})
	r.Start(t)
	if got := r.QueryValue(t, "SELECT count(*) FROM t"); got != "1000" {
		t.Errorf("the restored table has %s rows", got)
	}
}

// TestCancelledWaitEnds cancels while the WAL is waited for.
func TestCancelledWaitEnds(t *testing.T) {
	t.Parallel()
	s := newSource(t, map[string]string{"archive_command": "false"})
	ctx, cancel := context.WithCancel(t.Context())
	report := onStep(func(text string) {
		if strings.HasPrefix(text, "waiting for WAL") {
			cancel()
		}
	})
	b, err := Push(ctx, s.Store, PushOptions{PGData: s.DataDir, Server: server.Config{Env: noEnv, DSN: "user=postgres"}, Report: report})
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ErrWaiting) || b.ID == "" {
		t.Errorf("got %v", err)
	}
}

// onStep is a Reporter that is told of steps.
type onStep func(text string)

func (f onStep) Step(text string) { f(text) }
func (onStep) Total(int64)        {}
func (onStep) Add(int64)          {}

// newStandby restores a backup of s and runs it as a standby of s.
func (s *source) newStandby(t *testing.T) *source {
	t.Helper()
	b, err := s.push(t, nil)
	must(t, err)
	standby := s.restore(t, b.ID, testkit.ClusterOptions{Conf: map[string]string{
		"archive_mode": "on", "archive_command": "false", "hot_standby": "on",
		"primary_conninfo": fmt.Sprintf("host=%s port=%d user=postgres", s.SocketDir, s.Port),
	}})
	must(t, os.Rename(filepath.Join(standby.DataDir, "recovery.signal"), filepath.Join(standby.DataDir, "standby.signal")))
	standby.Start(t)
	return &source{Cluster: standby, repository: s.repository, wal: s.wal}
}

// TestBackupOfAStandby takes one while the primary, which archives, goes on.
func TestBackupOfAStandby(t *testing.T) {
	t.Parallel()
	primary := newSource(t, nil)
	standby := primary.newStandby(t)
	primary.Exec(t, "CREATE TABLE t (i int)", "INSERT INTO t SELECT generate_series(1, 100000)", "CHECKPOINT")
	standby.WaitFor(t, "SELECT count(*) FROM t", "100000", limit)
	// WAL that is replayed, and pages that are written, while files are copied.
	standby.onFirst("/data/", func(ctx context.Context) {
		_, err := primary.TryQuery(ctx, "UPDATE t SET i = i + 1; SELECT pg_current_wal_flush_lsn()")
		if err != nil {
			t.Error(err)
		}
	})
	done := make(chan struct{})
	var quiet sync.WaitGroup
	quiet.Go(func() { // the primary is used: its segments fill up
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				if _, err := primary.TryQuery(t.Context(), "INSERT INTO t VALUES (0); SELECT pg_switch_wal()"); err != nil {
					t.Error(err)
				}
			}
		}
	})
	b, err := standby.push(t, nil)
	close(done)
	quiet.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if !b.FromStandby || b.WAL.Timeline != 1 {
		t.Errorf("the commit record is %+v", b)
	}
	r := primary.restore(t, b.ID, testkit.ClusterOptions{})
	ctl, _, err := pgdata.ReadControl(r.DataDir)
	must(t, err)
	if b.WAL.StopLSN < ctl.MinRecoveryPoint || b.WAL.Last != wal.SegmentBefore(1, b.WAL.StopLSN, b.SegmentSize) {
		t.Errorf("the backup needs WAL up to %s (%s), its pages up to %s", b.WAL.StopLSN, b.WAL.Last, ctl.MinRecoveryPoint)
	}
	r.Start(t)
	r.WaitFor(t, "SELECT pg_is_in_recovery()", "f", limit)
	if got := r.QueryValue(t, "SELECT count(*) >= 100000 FROM t"); got != "t" {
		t.Error("rows are missing")
	}
}

// TestPromotionVoidsTheBackup promotes a standby while it is backed up.
func TestPromotionVoidsTheBackup(t *testing.T) {
	t.Parallel()
	standby := newSource(t, nil).newStandby(t)
	standby.onFirst("/data/", func(ctx context.Context) {
		if _, err := standby.TryQuery(ctx, "SELECT pg_promote()"); err != nil {
			t.Error(err)
		}
	})
	b, err := standby.push(t, nil)
	if !errors.Is(err, server.ErrBackupVoid) {
		t.Fatalf("got %v", err)
	}
	all, err := standby.Backups(t.Context())
	must(t, err)
	if len(all) != 2 || all[0].Commit == nil == (all[1].Commit == nil) {
		t.Errorf("%s was committed, or the one before is gone: %+v", b.ID, all)
	}
}

// TestTablespacesAcrossABackup restores a cluster of which one tablespace was there
// before the backup and another was made while it ran.
func TestTablespacesAcrossABackup(t *testing.T) {
	t.Parallel()
	s := newSource(t, nil)
	old, later, moved := testkit.Dir(t), testkit.Dir(t), testkit.Dir(t)
	s.Exec(t, "CREATE TABLESPACE old LOCATION '"+old+"'", "CREATE TABLE a TABLESPACE old AS SELECT generate_series(1, 1000) AS i")
	s.onFirst("/start.json", func(ctx context.Context) { // before any file is looked at
		for _, sql := range []string{"CREATE TABLESPACE later LOCATION '" + later + "'", "CREATE TABLE b TABLESPACE later AS SELECT generate_series(1, 2000) AS i"} {
			if _, err := s.TryQuery(ctx, sql); err != nil {
				t.Error(err)
			}
		}
	})
	b, err := s.push(t, nil)
	must(t, err)
	if len(b.Tablespaces) != 1 || b.Tablespaces[0].Location != old {
		t.Fatalf("tablespaces of the backup: %+v", b.Tablespaces)
	}
	s.Exec(t, "SELECT pg_switch_wal()")
	s.Stop(t, testkit.Fast)
	// Replay makes the later one where it was, which must be there and empty.
	for _, dir := range []string{old, later} {
		left, err := filepath.Glob(dir + "/*")
		must(t, err)
		for _, path := range left {
			must(t, os.Rename(path, testkit.Dir(t)+"/moved"))
		}
	}
	got, err := s.Backup(t.Context(), b.ID)
	must(t, err)
	dir := testkit.Dir(t)
	must(t, Fetch(t.Context(), s.repository.Cluster, got, FetchOptions{
		Dir: dir, Tablespaces: map[uint32]string{b.Tablespaces[0].OID: moved},
		Recovery: Recovery{RestoreCommand: "cp $(find " + s.wal + " -name %f) %p"},
	}))
	r := testkit.Attach(t, dir, testkit.ClusterOptions{})
	r.Start(t)
	r.WaitFor(t, "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b)", "1000 2000", limit)
	if list, err := os.ReadDir(old); err != nil || len(list) > 0 {
		t.Errorf("%s was written to: %v (%v)", old, list, err)
	}
}

// TestCheckArchiving finds a server that archives, and servers that don't.
func TestCheckArchiving(t *testing.T) {
	t.Parallel()
	s := newSource(t, nil)
	cfg := server.Config{Env: noEnv, DSN: "user=postgres"}
	c, err := CheckArchiving(t.Context(), s.repository.Cluster, s.DataDir, cfg, limit)
	if err != nil || c.Segment.Timeline != 1 {
		t.Fatalf("got %+v, %v", c, err)
	}
	for _, command := range []string{"false", ""} {
		s.Configure(t, map[string]string{"archive_command": command})
		s.Reload(t)
		s.WaitFor(t, "SHOW archive_command", command, limit)
		_, err = CheckArchiving(t.Context(), s.repository.Cluster, s.DataDir, cfg, 300*time.Millisecond)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "archive_command") {
			t.Errorf("with archive_command = '%s': got %v", command, err)
		}
	}
}
