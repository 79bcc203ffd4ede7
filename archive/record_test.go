package archive

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/storage"
	"walden/walspool"
)

// aRecord leaves a host with a file that is stored and on record, and not yet
// asked for.
func aRecord(t *testing.T) (h *host, path string) {
	t.Helper()
	h = newHost(t)
	h.introduce(t)
	names := h.segments(t, 2, 3)
	s := &spy{Store: h.repo.Store}
	s.after = func(name string) {
		if name == names[0] { // the other one is on record when the requested one is stored
			for !h.records().covers(names[1], filepath.Join(h.pgWAL, names[1])) && !t.Failed() {
				time.Sleep(time.Millisecond)
			}
		}
	}
	res, err := PushAhead(t.Context(), catalog.Open(s, testSystemID), filepath.Join(h.pgWAL, names[0]), h.aheadOptions(2))
	if err != nil || len(res.Ahead) != 1 {
		t.Fatalf("%+v, %v", res, err)
	}
	h.archived(t, names[0])
	return h, filepath.Join(h.pgWAL, names[1])
}

// TestRecordIsEnough: there is no request, also without a repository that could
// answer one. It counts once.
func TestRecordIsEnough(t *testing.T) {
	h, path := aRecord(t)
	away := h.through(func(op, key string) error { return storage.ErrUnavailable })
	opts := h.aheadOptions(2)
	if res, err := PushAhead(t.Context(), away, path, opts); err != nil || !res.Recorded {
		t.Errorf("%+v, %v", res, err)
	}
	_, err := PushAhead(t.Context(), away, path, opts)
	mustBe(t, err, storage.ErrUnavailable)
	res, err := PushAhead(t.Context(), h.repo, path, opts)
	if err != nil || !res.Existed || res.Recorded { // as after a crash before PostgreSQL took note
		t.Errorf("%+v, %v", res, err)
	}
}

// TestRecordOfAnother: whatever is not this very file in this very repository is
// asked about there.
func TestRecordOfAnother(t *testing.T) {
	rewrite := func(from, to string) func(*testing.T, *host, string, *AheadOptions) {
		return func(t *testing.T, h *host, path string, _ *AheadOptions) {
			file := filepath.Join(h.spool.Dir(), h.records().path(filepath.Base(path)))
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), from) {
				t.Fatalf("%s, %v", text, err)
			}
			if err := os.WriteFile(file, []byte(strings.Replace(string(text), from, to, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, change := range map[string]func(t *testing.T, h *host, path string, opts *AheadOptions){
		"another repository":                    func(_ *testing.T, _ *host, _ string, opts *AheadOptions) { opts.Repository = "s3://elsewhere" },
		"another repository under the same key": rewrite(`"repository":"`, `"repository":"x`),
		"another cluster under the same key":    rewrite(`"system_identifier":"`, `"system_identifier":"1`),
		"another name":                          rewrite(`"name":"0`, `"name":"1`),
		"a newer format":                        rewrite(`"format":1`, `"format":2`),
		"half a record":                         rewrite(`}`, ``),
		"no record":                             rewrite(`{`, ``),
		"the file was written again": func(t *testing.T, h *host, path string, _ *AheadOptions) {
			h.write(t, filepath.Base(path), segmentOf(t, filepath.Base(path), small, 3))
		},
		"a copy of it": func(t *testing.T, h *host, path string, _ *AheadOptions) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			copied := h.write(t, "copy", content)
			if err := os.Chtimes(copied, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(copied, path); err != nil {
				t.Fatal(err)
			}
		},
		"written again, the time set back": func(t *testing.T, h *host, path string, _ *AheadOptions) {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			h.write(t, filepath.Base(path), segmentOf(t, filepath.Base(path), small, 3))
			if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
				t.Fatal(err)
			}
		},
		"a link to it": func(t *testing.T, h *host, path string, _ *AheadOptions) {
			if err := os.Rename(path, path+".moved"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path+".moved", path); err != nil {
				t.Fatal(err)
			}
		},
		"an old record": func(t *testing.T, h *host, path string, _ *AheadOptions) {
			h.recordAt(t, path, -recordLife)
		},
		"a record of the future": func(t *testing.T, h *host, path string, _ *AheadOptions) {
			h.recordAt(t, path, recordLife+time.Minute)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h, path := aRecord(t)
			opts := h.aheadOptions(2)
			change(t, h, path, &opts)
			var seen requests
			res, err := PushAhead(t.Context(), catalog.Open(seen.of(h.repo.Store), testSystemID), path, opts)
			if err != nil || res.Recorded || !res.Existed {
				t.Errorf("%+v, %v", res, err)
			}
			if made := seen.take(); !strings.Contains(made, "create "+filepath.Base(path)) {
				t.Errorf("requests: %s", made)
			}
		})
	}
}

// recordAt is the record of a file as it was made at another time.
func (h *host) recordAt(t *testing.T, path string, from time.Duration) {
	t.Helper()
	file := filepath.Join(h.spool.Dir(), h.records().path(filepath.Base(path)))
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRecord(text)
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Now().Add(from).UTC().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	was, err := r.RecordedAt.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), string(was), string(at), 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRecordOfRecycledSegment: PostgreSQL renames a segment that was archived to
// a name of the future.
func TestRecordOfRecycledSegment(t *testing.T) {
	h, path := aRecord(t)
	future := filepath.Join(h.pgWAL, segmentName(12))
	if err := os.Rename(path, future); err != nil {
		t.Fatal(err)
	}
	_, err := PushAhead(t.Context(), h.repo, future, h.aheadOptions(2))
	mustBe(t, err, ErrRefused)
	_, err = PushAhead(t.Context(), h.repo, path, h.aheadOptions(2))
	mustBe(t, err, os.ErrNotExist)
}

// TestRecordInACopiedSpool: a restored copy of a data directory, spool and all,
// believes nothing of it.
func TestRecordInACopiedSpool(t *testing.T) {
	h, path := aRecord(t)
	there := filepath.Join(t.TempDir(), "pg_wal")
	if err := os.CopyFS(there, os.DirFS(h.pgWAL)); err != nil {
		t.Fatal(err)
	}
	spool, err := walspool.Open(filepath.Join(there, walspool.Hidden))
	if err != nil {
		t.Fatal(err)
	}
	copied := records{spool: spool, repository: h.dir, systemID: testSystemID}
	name := filepath.Base(path)
	if _, err := spool.ReadFile(copied.path(name)); err != nil {
		t.Fatal(err)
	}
	if copied.covers(name, filepath.Join(there, name)) {
		t.Error("a copy counts as the file")
	}
	if !h.records().covers(name, path) {
		t.Error("the file itself doesn't count")
	}
}

// TestRecordsAreSwept when nobody will ask for them any more, and only then.
func TestRecordsAreSwept(t *testing.T) {
	h, path := aRecord(t)
	if err := h.records().add("000000010000000000000099", codec.Fingerprint{}, fileFacts{}); err != nil {
		t.Fatal(err)
	}
	h.segments(t, 20, 20)
	if _, err := PushAhead(t.Context(), h.repo, filepath.Join(h.pgWAL, segmentName(20)), h.aheadOptions(1)); err != nil {
		t.Fatal(err)
	}
	if left := h.recorded(t); len(left) != 1 || left[0] != filepath.Base(path) {
		t.Errorf("on record: %v", left)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte(`{"format":1,"repository":"file:///r","system_identifier":"42","name":"000000010000000000000002",` +
		`"sha256":"ab","file":{"device":1,"inode":2,"size":3,"modified_ns":4,"changed_ns":5},"recorded_at":"2026-11-21T08:15:30Z"}`))
	f.Add([]byte(`{"format":2}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, content []byte) {
		if r, err := parseRecord(content); err == nil && r.Format != recordFormat {
			t.Errorf("accepted format %d", r.Format)
		}
		if n, err := parseNote(content); err == nil && n.Format != noteFormat {
			t.Errorf("accepted format %d", n.Format)
		}
	})
}
