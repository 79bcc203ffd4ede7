package story

import (
	"strconv"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// receivable are settings of a server whose WAL can be compared with what was received of it.
func receivable(more map[string]string) testkit.ClusterOptions {
	conf := map[string]string{"wal_keep_size": "8GB", "max_wal_size": "8GB"}
	for name, value := range more {
		conf[name] = value
	}
	return testkit.ClusterOptions{SegmentSize: smallSegments, Conf: conf}
}

// TestReceiveBesideArchiving receives WAL while archive_command pushes the same. Both store the same
// bytes, whoever comes first.
func TestReceiveBesideArchiving(t *testing.T) {
	t.Parallel()
	onEachShelf(t, func(t *testing.T, s shelf) {
		repo, h := inspect(s), s.repository().host()
		c := h.cluster(t, receivable(nil))
		a := h.archivistOf(t, c.Port)
		r := a.receive(t, "--partial-interval", "1s")
		last := writeSegments(t, c, 12)
		c.WaitFor(t, "SELECT last_archived_wal >= '"+last+"' FROM pg_stat_archiver", "t", limit)
		testkit.Eventually(t, limit, "all is received and stored", func() bool {
			_, lsn := a.durable(t)
			return len(a.waiting(t)) == 0 && lsn.String() != "" && c.QueryValue(t, "SELECT pg_current_wal_flush_lsn() <= '"+lsn.String()+"'") == "t"
		})
		said := stops(t, r)
		if failed := c.QueryValue(t, "SELECT failed_count FROM pg_stat_archiver"); failed != "0" {
			t.Errorf("archive_command failed %s times", failed)
		}
		repo.mustBeWhole(t)
		if segments := mustEqual(t, s, c, last); len(segments) < 12 {
			t.Errorf("only %q", segments)
		}
		for _, want := range []string{"made replication slot walden", "receiving WAL of cluster", "stored " + last} {
			if !strings.Contains(said, want) {
				t.Errorf("it has not said %q:\n%s", want, said)
			}
		}
		if strings.Contains(said, "warning") || strings.Contains(said, "error") {
			t.Errorf("it has said:\n%s", said)
		}
	})
}

// TestReceiveEveryMajor receives from each supported server, in two runs.
func TestReceiveEveryMajor(t *testing.T) {
	t.Parallel()
	for _, major := range testkit.PostgresMajors(t) {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			t.Parallel()
			s := newDirShelf(t)
			opts := receivable(nil)
			opts.Major = major
			c := testkit.NewCluster(t, opts)
			c.Start(t)
			a := s.repository().host().archivistOf(t, c.Port)
			var last string
			for range 2 {
				r := a.receive(t)
				last = writeSegments(t, c, 2)
				mustArrive(t, s, last)
				stops(t, r)
			}
			inspect(s).mustBeWhole(t)
			mustEqual(t, s, c, last)
		})
	}
}
