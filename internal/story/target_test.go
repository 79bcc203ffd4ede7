package story

import (
	"fmt"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// target is a point to which a cluster is recovered, and what is to be found there.
type target struct {
	name    string
	options []string
	at      int                        // the last step that is to be there
	reason  string                     // how the new timeline's history says why recovery ended, begins with this
	reach   func(testing.TB, restored) // starts the server and sees it through its recovery
}

// TestTargets takes one backup of a cluster, loses the cluster, and recovers it to the end of its WAL,
// to a time, to an LSN and to a restore point, on every major, with WAL segments of three sizes.
// Exactly what was committed before the target is there. Without a target the server is promoted at the
// end; at the time it pauses, at the LSN it is promoted, at the restore point it shuts down.
func TestTargets(t *testing.T) {
	segmentSizes := map[int]int{16: 64, 17: 1}
	for _, major := range testkit.PostgresMajors(t) {
		t.Run(fmt.Sprintf("PostgreSQL %d", major), func(t *testing.T) {
			t.Parallel()
			p := liveThrough(t, testkit.ClusterOptions{Major: major, SegmentSize: segmentSizes[major]})
			p.recoverTo(t, p.commonTargets())
		})
	}
}

// TestOtherTargets does the same for the targets that are less common, on one major.
func TestOtherTargets(t *testing.T) {
	t.Parallel()
	p := liveThrough(t, testkit.ClusterOptions{})
	p.recoverTo(t, p.otherTargets())
}

func (p past) commonTargets() []target {
	return []target{
		{"latest", nil, 5, "no recovery target specified", promotes},
		{"time", []string{"--target-time", p.steps[1].time}, 1, "before 2", pauses},
		{"LSN", []string{"--target-lsn", p.steps[2].lsn, "--target-action", "promote"}, 2, "after LSN ", promotes},
		{"restore point", []string{"--target-name", "step 3", "--target-action", "shutdown"}, 3, `at restore point "step 3"`, shutsDown},
	}
}

func (p past) otherTargets() []target {
	promote := func(options ...string) []string { return append(options, "--target-action", "promote") }
	step := p.steps[4]
	return []target{
		{"transaction", promote("--target-xid", step.xid), 4, "after transaction " + step.xid, promotes},
		{"up to a transaction", promote("--target-xid", step.xid, "--target-exclusive"), 3, "before transaction " + step.xid, promotes},
		{"moment of a commit", promote("--target-time", step.committed), 4, "before 2", promotes},
		{"up to the moment of a commit", promote("--target-time", step.committed, "--target-exclusive"), 3, "before 2", promotes},
		{"up to an LSN", promote("--target-lsn", step.lsn, "--target-exclusive"), 4, "before LSN ", promotes},
		{"consistency", []string{"--target-immediate"}, 0, "reached consistency", pauses},
	}
}

// recoverTo restores the lost cluster once for each target, all from one repository, to which none of
// the restored clusters adds anything.
func (p past) recoverTo(t *testing.T, targets []target) {
	before := p.repo.files(t)
	t.Run("recover", func(t *testing.T) {
		for _, target := range targets {
			t.Run(target.name, func(t *testing.T) {
				t.Parallel()
				p.mustReach(t, target)
			})
		}
	})
	if after := p.repo.files(t); after != before {
		t.Errorf("the restored clusters changed the repository: from\n%s\nto\n%s", before, after)
	}
}

func (p past) mustReach(t *testing.T, target target) {
	c := restore(t, p.repo, keyPair{}, target.options...)
	at := p.steps[target.at]
	target.reach(t, c)
	if c.QueryValue(t, "SELECT pg_is_in_recovery()") == "t" {
		at.mustHoldIn(t, c.Cluster)
		c.Exec(t, "SELECT pg_wal_replay_resume()")
		c.waitPromoted(t)
	}
	at.mustHoldIn(t, c.Cluster)
	mustBeSound(t, c.Cluster)
	mustBeOn(t, c.Cluster, 2)
	if reason := historyReason(t, c.Cluster); !strings.HasPrefix(reason, target.reason) {
		t.Errorf("recovery ended: %q, want %q", reason, target.reason)
	}
	if mode := c.QueryValue(t, "SHOW archive_mode"); mode != "off" {
		t.Errorf("archive_mode is %s in a restored cluster", mode)
	}
}

// pauses sees a server through a recovery that waits at its target.
func pauses(t testing.TB, c restored) {
	t.Helper()
	c.Start(t)
	c.WaitFor(t, "SELECT pg_get_wal_replay_pause_state()", "paused", limit)
	mustBeOn(t, c.Cluster, 1)
}

// shutsDown sees a server through a recovery that ends with the server, and goes on from there as
// backup-fetch advises.
func shutsDown(t testing.TB, c restored) {
	t.Helper()
	c.Launch(t)
	if code := c.WaitExit(t, limit); code != 0 {
		t.Errorf("shut down at the target with exit code %d, want 0", code)
	}
	const goOn = "recovery_target_action = 'promote'"
	c.mustAdvise(t, goOn)
	c.configure(t, goOn)
	promotes(t, c)
}
