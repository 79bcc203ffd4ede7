package catalog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/storage"
)

const (
	firstID  = "20261121T081530Z-4be1"
	secondID = "20261122T081530Z-0001"
	thirdID  = "20261122T081530Z-0002"
)

// TestStatus damages a complete backup in each way and looks at what it is worth
// then.
func TestStatus(t *testing.T) {
	const segment2, segment3 = "000000010000000000000002", "000000010000000000000003"
	for _, c := range []struct {
		name   string
		harm   func(t *testing.T, r *backupDir)
		want   Status
		reason string
	}{
		{"complete", func(t *testing.T, r *backupDir) {}, StatusComplete, ""},
		{"more WAL, and files of other kinds beside", func(t *testing.T, r *backupDir) {
			putSegments(t, r.dir, r.c, "000000010000000000000001", "000000010000000000000009", segment3+".partial", segment2+".00000028.backup")
		}, StatusComplete, ""},
		{"no start record", func(t *testing.T, r *backupDir) { r.remove(t, "start.json") }, StatusComplete, ""},
		{"notes beside", func(t *testing.T, r *backupDir) { r.put(t, "notes/20261121T081530Z.json", "{}") }, StatusComplete, ""},

		{"last segment missing", func(t *testing.T, r *backupDir) { r.removeWAL(t, segment3) }, StatusWaiting, "1 of its WAL segments"},
		{"first segment missing", func(t *testing.T, r *backupDir) { r.removeWAL(t, segment2) }, StatusWaiting, "the first is " + segment2},
		{"a partial segment is none", func(t *testing.T, r *backupDir) {
			r.removeWAL(t, segment3)
			putSegments(t, r.dir, r.c, segment3+".partial")
		}, StatusWaiting, segment3},
		{"only WAL of another timeline", func(t *testing.T, r *backupDir) {
			r.removeWAL(t, segment2)
			r.removeWAL(t, segment3)
			putSegments(t, r.dir, r.c, "000000020000000000000002", "000000020000000000000003")
		}, StatusWaiting, "2 of its WAL segments"},

		{"no commit record", func(t *testing.T, r *backupDir) { r.remove(t, "backup.json") }, StatusUnfinished, "no commit record"},
		{"only a start record", func(t *testing.T, r *backupDir) {
			r.remove(t, "backup.json", "manifest", "data/0000000000", "data/0000000002")
		}, StatusUnfinished, "no commit record"},

		{"no manifest", func(t *testing.T, r *backupDir) { r.remove(t, "manifest") }, StatusDamaged, "manifest is missing"},
		{"short manifest", func(t *testing.T, r *backupDir) { r.put(t, "manifest", "x") }, StatusDamaged, "manifest has 1 bytes instead of"},
		{"missing slice", func(t *testing.T, r *backupDir) { r.remove(t, "data/0000000002") }, StatusDamaged, "1 of its 2 slices"},
		{"no slices", func(t *testing.T, r *backupDir) { r.remove(t, "data/0000000000", "data/0000000002") }, StatusDamaged, "0 of its 2 slices"},
		{"extra slice", func(t *testing.T, r *backupDir) { r.put(t, "data/0000000001", "") }, StatusDamaged, "3 of its 2 slices"},
		{"short slice", func(t *testing.T, r *backupDir) { r.put(t, "data/0000000002", "secon") }, StatusDamaged, "16 bytes instead of 17"},
		{"long slice", func(t *testing.T, r *backupDir) { r.put(t, "data/0000000002", "second!") }, StatusDamaged, "18 bytes instead of 17"},
		{"renamed slice", func(t *testing.T, r *backupDir) {
			r.remove(t, "data/0000000002")
			r.put(t, "data/0000000002.orig", "second")
		}, StatusDamaged, "1 of its 2 slices"},

		{"record of another cluster", func(t *testing.T, r *backupDir) { r.edit(t, `"7312345678901234567"`, `"7312345678901234568"`) },
			StatusDamaged, "cluster 7312345678901234568"},
		{"record of another backup", func(t *testing.T, r *backupDir) { r.edit(t, firstID, secondID) }, StatusDamaged, secondID},
		{"empty record", func(t *testing.T, r *backupDir) { r.put(t, "backup.json", "") }, StatusDamaged, "corrupt"},
		{"torn record", func(t *testing.T, r *backupDir) { r.edit(t, "}\n", "") }, StatusDamaged, "corrupt"},
		{"record with an impossible segment name", func(t *testing.T, r *backupDir) { r.edit(t, `"`+segment2+`"`, `"xyz"`) }, StatusDamaged, "corrupt"},
		{"record without a segment size", func(t *testing.T, r *backupDir) { r.edit(t, `"wal_segment_size": 16777216`, `"wal_segment_size": 0`) },
			StatusDamaged, "impossible range"},
		{"record of another timeline than its segments", func(t *testing.T, r *backupDir) { r.edit(t, `"timeline": "00000001"`, `"timeline": "00000002"`) },
			StatusDamaged, "impossible range"},
		{"record whose stop disagrees with its last segment", func(t *testing.T, r *backupDir) { r.edit(t, "0/3000100", "0/2000100") },
			StatusDamaged, "impossible range"},
		{"record whose start disagrees with its first segment", func(t *testing.T, r *backupDir) { r.edit(t, "0/2000028", "0/1000028") },
			StatusDamaged, "impossible range"},
		{"record that stops before it starts", func(t *testing.T, r *backupDir) {
			r.edit(t, "0/3000100", "0/2000020")
			r.edit(t, segment3, segment2)
		}, StatusDamaged, "impossible range"},
		{"record that needs the end of the address space", func(t *testing.T, r *backupDir) {
			r.edit(t, "0/2000028", "FFFFFFFF/FE000028")
			r.edit(t, "0/3000100", "FFFFFFFF/FF000100")
			r.edit(t, segment2, "00000001FFFFFFFF000000FE")
			r.edit(t, segment3, "00000001FFFFFFFF000000FF")
		}, StatusWaiting, "2 of its WAL segments"},
		{"record that needs all WAL there can be", func(t *testing.T, r *backupDir) {
			r.edit(t, "0/3000100", "FFFFFFFF/FF000100")
			r.edit(t, segment3, "00000001FFFFFFFF000000FF")
		}, StatusDamaged, "impossible range"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newBackupDir(t)
			c.harm(t, r)
			all, err := r.c.Backups(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if len(all) != 1 || all[0].ID != firstID {
				t.Fatalf("backups: %+v", all)
			}
			if all[0].Status != c.want || !strings.Contains(all[0].Reason, c.reason) || (c.reason == "") != (all[0].Reason == "") {
				t.Errorf("%s (%s), want %s (%s)", all[0].Status, all[0].Reason, c.want, c.reason)
			}
			alone, err := r.c.Backup(context.Background(), firstID)
			if err != nil || alone.Status != all[0].Status || alone.Reason != all[0].Reason {
				t.Errorf("asked for alone it is %s (%s), %v; in the list %s (%s)", alone.Status, alone.Reason, err, all[0].Status, all[0].Reason)
			}
		})
	}
}

// backupDir is a repository with one complete backup.
type backupDir struct {
	c   Cluster
	dir string
}

func newBackupDir(t *testing.T) *backupDir {
	store, dir := directory(t)
	c := Open(store, testSystemID)
	storeBackup(t, c, firstID, 1)
	putSegments(t, dir, c, "000000010000000000000002", "000000010000000000000003")
	return &backupDir{c, dir}
}

func (r *backupDir) key(name string) string { return r.c.backupsPrefix() + firstID + "/" + name }

func (r *backupDir) put(t *testing.T, name, data string) { put(t, r.dir, r.key(name), []byte(data)) }

func (r *backupDir) remove(t *testing.T, names ...string) {
	for _, name := range names {
		if err := os.Remove(filepath.Join(r.dir, r.key(name))); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *backupDir) removeWAL(t *testing.T, name string) {
	if err := os.Remove(filepath.Join(r.dir, r.c.WALKey(fileName(t, name)))); err != nil {
		t.Fatal(err)
	}
}

// edit changes the commit record.
func (r *backupDir) edit(t *testing.T, from, to string) {
	old := string(take(t, r.dir, r.key("backup.json")))
	if !strings.Contains(old, from) {
		t.Fatalf("%q is not in the commit record:\n%s", from, old)
	}
	r.put(t, "backup.json", strings.Replace(old, from, to, 1))
}

func TestBackupsInOrder(t *testing.T) {
	store, dir := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	if all, err := c.Backups(ctx); err != nil || len(all) != 0 {
		t.Fatalf("an empty repository: %v, %v", all, err)
	}
	commits := map[string]Commit{}
	for _, id := range []string{thirdID, firstID, secondID} {
		commits[id] = storeBackup(t, c, id, 1)
	}
	putSegments(t, dir, c, "000000010000000000000002", "000000010000000000000003")
	for _, stray := range []string{"latest/backup.json", "20261121T081530Z-4BE1/backup.json", "README", "20261121T081530Z-aaaa"} {
		put(t, dir, c.backupsPrefix()+stray, []byte("x"))
	}
	all, err := c.Backups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, b := range all {
		ids = append(ids, b.ID)
		check(t, "commit record of "+b.ID, *b.Commit, commits[b.ID])
		check(t, "host of "+b.ID, b.Start.Host, "db1")
	}
	check(t, "backups", ids, []string{firstID, secondID, thirdID})

	_, err = c.Backup(ctx, "20261122T081530Z-000a")
	mustBe(t, err, storage.ErrNotExist)
}

// TestForeignStartRecord: what a start record says is shown only when it is the
// backup's own.
func TestForeignStartRecord(t *testing.T) {
	for _, change := range [][2]string{{firstID, secondID}, {"7312345678901234567", "1"}, {"{", ""}} {
		r := newBackupDir(t)
		old := string(take(t, r.dir, r.key("start.json")))
		r.put(t, "start.json", strings.Replace(old, change[0], change[1], 1))
		b, err := r.c.Backup(context.Background(), firstID)
		if err != nil || b.Start != nil || b.Status != StatusComplete {
			t.Errorf("%q for %q: %+v, %v", change[1], change[0], b, err)
		}
	}
}

// TestNewerRecords: a repository that a newer walden wrote is no damage.
func TestNewerRecords(t *testing.T) {
	for _, name := range []string{"start.json", "backup.json"} {
		r := newBackupDir(t)
		r.put(t, name, `{"format":2}`)
		_, err := r.c.Backups(context.Background())
		mustBe(t, err, storage.ErrConfig)
		mustSay(t, err.Error(), "newer", firstID)
	}
}

// TestDeletedWhileJudged: delete removes the commit record first.
func TestDeletedWhileJudged(t *testing.T) {
	r := newBackupDir(t)
	c := Open(hooked{r.c.Store, func(op, key string) error {
		if op == "get" && strings.HasSuffix(key, "/backup.json") {
			return storage.ErrNotExist
		}
		return nil
	}}, testSystemID)
	b, err := c.Backup(context.Background(), firstID)
	if err != nil || b.Status != StatusUnfinished || b.Commit != nil {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestRecordsAreCreatedOnce(t *testing.T) {
	r := newBackupDir(t)
	ctx := context.Background()
	mustBe(t, r.c.CreateStart(ctx, Start{ID: firstID}), storage.ErrExist)
	mustBe(t, r.c.CreateCommit(ctx, Commit{ID: firstID}), storage.ErrExist)
	mustBe(t, r.c.CreateManifest(ctx, firstID, strings.NewReader("x"), 1), storage.ErrExist)
}

// TestStoreErrorsAreNotNone lets every request of every function fail in turn,
// in every way: no function takes that for an answer.
func TestStoreErrorsAreNotNone(t *testing.T) {
	r := newBackupDir(t)
	if err := r.c.EnsureIdentity(context.Background(), testIdentity); err != nil {
		t.Fatal(err)
	}
	putHistory(t, r.dir, r.c, 2, "1\t0/3000000")
	putSegments(t, r.dir, r.c, "000000020000000000000003", "000000020000000000000005")
	commit := storeBackup(t, r.c, secondID, 2)
	functions := map[string]func(context.Context, Cluster) error{
		"Clusters":         func(ctx context.Context, c Cluster) error { _, err := Clusters(ctx, c.Store); return err },
		"Known":            func(ctx context.Context, c Cluster) error { _, err := c.Known(ctx); return err },
		"Identity":         func(ctx context.Context, c Cluster) error { _, err := c.Identity(ctx); return err },
		"EnsureIdentity":   func(ctx context.Context, c Cluster) error { return c.EnsureIdentity(ctx, testIdentity) },
		"ProbeConditional": func(ctx context.Context, c Cluster) error { return c.ProbeConditional(ctx) },
		"Backups":          func(ctx context.Context, c Cluster) error { _, err := c.Backups(ctx); return err },
		"Backup":           func(ctx context.Context, c Cluster) error { _, err := c.Backup(ctx, firstID); return err },
		"MissingWAL": func(ctx context.Context, c Cluster) error {
			_, err := c.MissingWAL(ctx, commit.WAL, commit.SegmentSize)
			return err
		},
		"NextSegment": func(ctx context.Context, c Cluster) error {
			_, _, err := c.NextSegment(ctx, segment(t, "000000020000000000000004"))
			return err
		},
		"Lineage":      func(ctx context.Context, c Cluster) error { _, err := c.Lineage(ctx, nil); return err },
		"Timelines":    func(ctx context.Context, c Cluster) error { _, err := c.Timelines(ctx, 16<<20, nil); return err },
		"History":      func(ctx context.Context, c Cluster) error { _, err := c.History(ctx, 2, nil); return err },
		"ReadManifest": func(ctx context.Context, c Cluster) error { return c.ReadManifest(ctx, commit, new(strings.Builder)) },
		"CreateStart":  func(ctx context.Context, c Cluster) error { return c.CreateStart(ctx, Start{ID: thirdID}) },
		"CreateCommit": func(ctx context.Context, c Cluster) error { return c.CreateCommit(ctx, Commit{ID: thirdID}) },
		"CreateManifest": func(ctx context.Context, c Cluster) error {
			return c.CreateManifest(ctx, thirdID, strings.NewReader("x"), 1)
		},
	}
	faults := []error{storage.ErrUnavailable, storage.ErrDenied, storage.ErrConfig, context.Canceled}
	for name, do := range functions {
		t.Run(name, func(t *testing.T) {
			for _, fault := range faults {
				for at := 1; failAt(t, r.c.Store, at, fault, do); at++ {
					if at > 100 {
						t.Fatal("it never comes to an end")
					}
				}
			}
		})
	}
}

// failAt lets the nth request fail and reports whether there were as many.
func failAt(t *testing.T, store storage.Store, at int, fault error, do func(context.Context, Cluster) error) (reached bool) {
	t.Helper()
	n, failed := 0, ""
	err := do(context.Background(), Open(hooked{store, func(op, key string) error {
		if n++; n == at {
			failed = op + " " + key
			return fault
		}
		return nil
	}}, testSystemID))
	if failed == "" {
		return false
	}
	if !errors.Is(err, fault) {
		t.Errorf("%s fails with %q, and the function says %v", failed, fault, err)
	}
	for _, conclusive := range []error{storage.ErrNotExist, storage.ErrCorrupt, ErrConflict, ErrNotConditional} {
		if errors.Is(err, conclusive) {
			t.Errorf("%s fails with %q, and the function concludes: %v", failed, fault, err)
		}
	}
	return true
}
