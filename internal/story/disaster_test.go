package story

import (
	"testing"

	"walden/internal/testkit"
)

// disaster is a way in which the main story can go.
type disaster struct {
	name        string
	repository  func(testing.TB) repository
	keys        func(testing.TB) keyPair
	tablespaces bool
}

// TestDisaster backs up a cluster that is written to, drops a table by mistake, loses the cluster, and
// gets all of it back as it was before the mistake. Every pair of repository, encryption and tablespaces
// occurs, and so do both ways to name a private CA.
func TestDisaster(t *testing.T) {
	for _, d := range []disaster{
		{"directory", aDirectory, noKeys, false},
		{"directory, encrypted, tablespaces", aDirectory, newKeys, true},
		{"HTTP, tablespaces", s3OverHTTP, noKeys, true},
		{"HTTP, encrypted", s3OverHTTP, newKeys, false},
		{"HTTPS, tablespaces", s3OverHTTPS, noKeys, true},
		{"HTTPS, encrypted", s3OverHTTPSWithBundle, newKeys, false},
	} {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			d.tell(t)
		})
	}
}

func (d disaster) tell(t *testing.T) {
	repo, keys := d.repository(t), d.keys(t)
	source := repo.host(keys.sourceEnv()...)
	c := source.cluster(t, testkit.ClusterOptions{})
	load(t, c, demoAccounts)
	var places map[string]string
	if d.tablespaces {
		places = loadTablespaces(t, c)
	}
	source.must(t, "check", "--pgdata", c.DataDir)

	w := startWriting(t, c)
	source.must(t, "backup-push", c.DataDir)
	w.stop(t)

	before := note(t, c)
	moment := c.QueryValue(t, "SELECT clock_timestamp()")
	run(t, c, "postgres", "DROP TABLE accounts", "INSERT INTO history (aid, delta) VALUES (0, 0)")
	archiveAll(t, c)
	lose(t, c, places)

	target := []string{"--target-time", moment, "--target-action", "promote"}
	if keys.encrypted() {
		mustNeedKey(t, repo, target...)
	}
	var newPlaces map[string]string
	if d.tablespaces {
		newPlaces = makePlaces(t)
		target = append(target, remap(t, source, newPlaces)...)
	}
	back := restore(t, repo, keys, target...)
	promotes(t, back)
	before.mustHoldIn(t, back.Cluster)
	mustBeSound(t, back.Cluster)
	mustLieIn(t, back.Cluster, newPlaces)
}
