package story

import (
	"testing"

	"walden/internal/testkit"
)

// TestSuccessor loses a cluster twice. The restored cluster takes the place of its source as backup-fetch
// advises: it archives into the same repository, on a timeline of its own, and is backed up. After the
// second loss, both lives can be had back. All is encrypted, and the hosts of the databases have the
// public key only.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	repo, keys := aDirectory(t), newKeys(t)
	host := repo.host(keys.sourceEnv()...)
	firstLife, fork := liveAndDie(t, host)

	back := restore(t, repo, keys, "--target-lsn", fork, "--target-action", "promote")
	promotes(t, back)
	back.mustAdvise(t, "ALTER SYSTEM RESET archive_mode")
	back.Exec(t, "ALTER SYSTEM RESET archive_mode")
	back.Stop(t, testkit.Fast)
	back = back.on(t, host)
	back.Start(t)
	host.must(t, "check", "--pgdata", back.DataDir)
	host.must(t, "backup-push", back.DataDir)
	secondLife := liveOnAndDie(t, back.Cluster)
	host.must(t, "info")

	mustComeBack(t, repo, keys, secondLife)
	mustComeBack(t, repo, keys, firstLife, "--target-timeline", "1")
}

// TestSuccessorOfOneBackup is TestSuccessor with a cluster that has archived from the moment on at which
// it was restored, and isn't backed up again: recovery goes from one timeline to the other.
func TestSuccessorOfOneBackup(t *testing.T) {
	t.Parallel()
	repo, keys := aDirectory(t), newKeys(t)
	host := repo.host(keys.sourceEnv()...)
	firstLife, fork := liveAndDie(t, host)

	back := restore(t, repo, keys, "--target-lsn", fork, "--target-action", "promote", "--archive-mode", "keep").on(t, host)
	promotes(t, back)
	secondLife := liveOnAndDie(t, back.Cluster)

	mustComeBack(t, repo, keys, secondLife)
	mustComeBack(t, repo, keys, firstLife, "--target-timeline", "current")
}

// liveAndDie runs a cluster until it is lost, and returns what it held at the end, and an LSN shortly
// before.
func liveAndDie(t *testing.T, host host) (last facts, fork string) {
	t.Helper()
	c := host.cluster(t, testkit.ClusterOptions{})
	load(t, c, fewAccounts)
	host.must(t, "backup-push", c.DataDir)
	run(t, c, "postgres", "UPDATE accounts SET balance = 1")
	fork = c.QueryValue(t, "SELECT pg_current_wal_insert_lsn()")
	run(t, c, "postgres", "DROP TABLE history")
	last = note(t, c)
	archiveAll(t, c)
	lose(t, c, nil)
	return last, fork
}

// liveOnAndDie does the same with its successor.
func liveOnAndDie(t *testing.T, c *testkit.Cluster) (last facts) {
	t.Helper()
	run(t, c, "postgres", "UPDATE accounts SET balance = 2")
	last = note(t, c)
	archiveAll(t, c)
	lose(t, c, nil)
	return last
}

// mustComeBack restores to the end of a timeline and looks whether that is what it held. The server then
// goes on on a third one.
func mustComeBack(t *testing.T, repo repository, keys keyPair, life facts, options ...string) {
	t.Helper()
	back := restore(t, repo, keys, options...)
	promotes(t, back)
	life.mustHoldIn(t, back.Cluster)
	mustBeOn(t, back.Cluster, 3)
}
