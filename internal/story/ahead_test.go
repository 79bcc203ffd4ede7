package story

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"walden/codec"
	"walden/internal/testkit"
)

// keeper is an archive_command that keeps a copy of each file before walden stores it, and writes down
// when walden reports a file stored that the server has not confirmed.
type keeper struct {
	command string
	kept    string
	lies    string
}

func newKeeper(t testing.TB, confirmed string, flags string) keeper {
	t.Helper()
	dir := testkit.Dir(t)
	k := keeper{kept: filepath.Join(dir, "kept"), lies: filepath.Join(dir, "lies")}
	script := fmt.Sprintf(`#!/bin/bash
cp "$1" %[1]q/"$2".tmp && mv %[1]q/"$2".tmp %[1]q/"$2" || exit 3
%[2]q wal-push %[3]s "$1" || exit $?
[ -e %[4]q/"$2" ] || echo "$2" >>%[5]q
`, k.kept, testkit.Walden(t), flags, confirmed, k.lies)
	k.command = filepath.Join(dir, "archive") + ` "%p" "%f"`
	for _, err := range []error{os.Mkdir(k.kept, 0o700), os.WriteFile(filepath.Join(dir, "archive"), []byte(script), 0o700)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	testkit.GiveToServer(t, dir)
	return k
}

// unpacked decodes what the repository holds under a name.
func unpacked(t testing.TB, s shelf, name string) []byte {
	t.Helper()
	r, err := codec.NewObjectReader(bytes.NewReader(s.read(t, name)), nil)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return data
}

// mustHoldAll fails the test unless the repository holds each kept file, byte for byte, and no other WAL.
// It returns how many segments there are.
func (k keeper) mustHoldAll(t testing.TB, s shelf) (segments int) {
	t.Helper()
	stored := map[string]bool{}
	for name := range s.list(t) {
		if !strings.Contains(name, "/wal/") {
			continue
		}
		file := path.Base(name)
		stored[file] = true
		want, err := os.ReadFile(filepath.Join(k.kept, file))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(unpacked(t, s, name), want) {
			t.Errorf("%s is not what was archived", name)
		}
		if isSegmentName(file) {
			segments++
		}
	}
	for _, file := range namesIn(t, k.kept) {
		if !stored[file] {
			t.Errorf("%s was archived, and is not in the repository", file)
		}
	}
	return segments
}

// keepBusy writes with several sessions until the cluster has written that many more segments, and ends
// the last one.
func keepBusy(t testing.TB, c *testkit.Cluster, segments int) {
	t.Helper()
	c.Exec(t, "CREATE TABLE IF NOT EXISTS busy (i bigserial, u uuid, filler text)")
	start := c.QueryValue(t, "SELECT pg_current_wal_lsn()")
	size := c.QueryValue(t, "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'")
	written := func() int {
		n, err := strconv.Atoi(c.QueryValue(t, fmt.Sprintf("SELECT ((pg_current_wal_lsn() - '%s') / %s)::bigint", start, size)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const sessions = 3
	ended := make(chan error, sessions)
	for range sessions {
		go func() {
			for ctx.Err() == nil {
				_, err := c.TryQuery(t.Context(), `INSERT INTO busy (u, filler) SELECT gen_random_uuid(), repeat(md5(i::text), 4) FROM generate_series(1, 4000) AS i`)
				if err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	testkit.Eventually(t, 2*limit, "the cluster has written its WAL", func() bool { return written() >= segments })
	cancel()
	for range sessions {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

// TestAheadOfABusyCluster: 200 segments arrive, byte for byte, by one request each; none is reported
// stored before it is.
func TestAheadOfABusyCluster(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newS3Shelf(t).(s3Shelf))
	k := newKeeper(t, p.confirmed, "")
	c := p.repository().host().cluster(t, testkit.ClusterOptions{SegmentSize: 1, Conf: map[string]string{
		"archive_command": k.command, "fsync": "off", "max_wal_size": "4GB", "autovacuum": "off",
	}})
	keepBusy(t, c, 200)
	archiveAll(t, c)
	c.Stop(t, testkit.Fast)

	segments := k.mustHoldAll(t, p)
	if segments < 200 {
		t.Errorf("only %d segments arrived", segments)
	}
	if lies, err := os.ReadFile(k.lies); !os.IsNotExist(err) {
		t.Errorf("reported stored before they were (error: %v):\n%s", err, lies)
	}
	all, puts := p.requests()
	t.Logf("%d segments, %d requests, %d of them to create a segment", segments, all, puts)
	// The identity of the cluster and what a busy machine cuts off now and then.
	if all > segments+12 || puts > segments+6 {
		t.Errorf("%d segments took %d requests, %d of them to create one: %v", segments, all, puts, p.asked)
	}
}
