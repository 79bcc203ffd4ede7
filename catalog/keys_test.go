package catalog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"walden/postgres/wal"
)

// TestKeys is the layout of repository format 1. It never changes.
func TestKeys(t *testing.T) {
	c := Open(nil, testSystemID)
	const id = "20261121T081530Z-4be1"
	for _, k := range []struct{ got, want string }{
		{c.identityKey(), "7312345678901234567/cluster.json"},
		{c.WALKey(fileName(t, "0000000A0000000B0000000C")), "7312345678901234567/wal/0000000A/0000000B/0000000A0000000B0000000C"},
		{c.WALKey(fileName(t, "0000000A0000000B0000000C.partial")), "7312345678901234567/wal/0000000A/0000000B/0000000A0000000B0000000C.partial"},
		{c.WALKey(fileName(t, "0000000A0000000B0000000C.00000028.backup")),
			"7312345678901234567/wal/0000000A/0000000B/0000000A0000000B0000000C.00000028.backup"},
		{c.WALKey(fileName(t, "0000000A.history")), "7312345678901234567/wal/0000000A.history"},
		{c.startKey(id), "7312345678901234567/backups/20261121T081530Z-4be1/start.json"},
		{c.SliceKey(id, 12), "7312345678901234567/backups/20261121T081530Z-4be1/data/0000000012"},
		{c.manifestKey(id), "7312345678901234567/backups/20261121T081530Z-4be1/manifest"},
		{c.commitKey(id), "7312345678901234567/backups/20261121T081530Z-4be1/backup.json"},
	} {
		if k.got != k.want {
			t.Errorf("got %s, want %s", k.got, k.want)
		}
	}
}

// TestKeysOfWALSort: listings are read in the order of the WAL.
func TestKeysOfWALSort(t *testing.T) {
	c := Open(nil, testSystemID)
	for _, size := range segmentSizes() {
		last := ""
		for n := range 3 * size.PerLog() {
			if n > 20 && n%size.PerLog() > 20 && n%size.PerLog() < size.PerLog()-20 {
				continue
			}
			key := c.segmentKey(wal.NumberedSegment(3, n, size))
			if key <= last {
				t.Fatalf("%s: %s does not sort after %s", size, key, last)
			}
			last = key
		}
	}
}

func segmentSizes() (sizes []wal.SegmentSize) {
	for s := wal.MinSegmentSize; s <= wal.MaxSegmentSize; s *= 2 {
		sizes = append(sizes, s)
	}
	return sizes
}

func TestClusters(t *testing.T) {
	store, dir := directory(t)
	ctx := context.Background()
	ids, err := Clusters(ctx, store)
	if err != nil || ids != nil {
		t.Fatalf("an empty repository: %v, %v", ids, err)
	}
	for _, key := range []string{
		"12/cluster.json", "12/wal/00000002.history", "120/cluster.json", "12-old/cluster.json", "12.bak", "13", "0/x", "007/x",
		"18446744073709551615/cluster.json", "18446744073709551616/cluster.json", "README/x", "zz",
	} {
		put(t, dir, key, nil)
	}
	ids, err = Clusters(ctx, store)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "clusters", ids, []uint64{12, 120, 18446744073709551615})
}

func TestKnown(t *testing.T) {
	store, dir := directory(t)
	ctx := context.Background()
	put(t, dir, "123/cluster.json", nil)
	for id, want := range map[uint64]bool{123: true, 12: false, 1234: false} {
		if known, err := Open(store, id).Known(ctx); err != nil || known != want {
			t.Errorf("cluster %d: known is %v, %v; want %v", id, known, err, want)
		}
	}
}

func TestNewBackupID(t *testing.T) {
	seen := map[string]bool{}
	at := time.Date(2026, 11, 21, 10, 15, 30, 999, time.FixedZone("", 2*3600))
	for range 20 {
		id, err := NewBackupID(at)
		if err != nil {
			t.Fatal(err)
		}
		if !ValidBackupID(id) || !strings.HasPrefix(id, "20261121T081530Z-") {
			t.Errorf("name %s", id)
		}
		seen[id] = true
	}
	if len(seen) < 18 { // 20 of 65536 hardly ever collide
		t.Errorf("20 backups of one second have %d names", len(seen))
	}
}

func TestValidBackupID(t *testing.T) {
	for _, bad := range []string{"", "latest", "20261121T081530Z-4BE1", "20261121T081530Z-4be1/", "20261121T081530Z-4be1\n",
		"../20261121T081530Z-4be1", "20261121T081530Z-4be", "20261121T081530Z-4be12"} {
		if ValidBackupID(bad) {
			t.Errorf("%q passes for a backup's name", bad)
		}
	}
	if _, err := Open(nil, 1).Backup(context.Background(), "../../x"); !errors.Is(err, errNotExist) {
		t.Errorf("a hostile name: %v", err)
	}
}
