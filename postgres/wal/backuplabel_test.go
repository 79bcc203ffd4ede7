package wal_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"walden/postgres/wal"
)

func TestBackupLabelsOfServers(t *testing.T) {
	eachCaptured(t, func(t *testing.T, c captured) {
		start := mustSegment(t, c.first)
		label := parseLabel(t, c.read(t, "backup_label"))
		if label.StartSegment != start || label.Start != start.Start(c.size)+0x28 || label.Checkpoint <= label.Start ||
			label.Timeline != 1 || label.Label != "nightly: 1" || label.Method != "streamed" || label.FromStandby() ||
			!strings.HasSuffix(label.StartTime, " UTC") || label.Stop != 0 || !label.StopSegment.IsZero() || label.StopTime != "" {
			t.Errorf("backup_label: %+v", label)
		}
		if want := map[bool]string{true: "master", false: "primary"}[c.major == 13]; label.From != want {
			t.Errorf("backup_label says it is from %q, want %q", label.From, want)
		}

		history := parseLabel(t, c.read(t, c.first+".00000028.backup"))
		if history.Stop <= history.Checkpoint || history.StopSegment != wal.SegmentBefore(1, history.Stop, c.size) ||
			history.StopTimeline != 1 || history.StopTime < history.StartTime {
			t.Errorf("backup history file: %+v", history)
		}
		// But for the end, both say the same.
		history.Stop, history.StopSegment, history.StopTimeline, history.StopTime = 0, wal.Segment{}, 0, ""
		if history != label {
			t.Errorf("backup history file says %+v, backup_label %+v", history, label)
		}

		standby := parseLabel(t, c.read(t, "backup_label.standby"))
		if !standby.FromStandby() || standby.Label != "from a standby" || standby.Start <= label.Start {
			t.Errorf("backup_label of a standby: %+v", standby)
		}
	})
}

func parseLabel(t *testing.T, b []byte) wal.BackupLabel {
	t.Helper()
	l, err := wal.ParseBackupLabel(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const minimalLabel = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\nSTART TIMELINE: 1\n"

func TestParseBackupLabel(t *testing.T) {
	want := wal.BackupLabel{Start: 0x2000028, StartSegment: wal.Segment{Timeline: 1, Seg: 2}, Checkpoint: 0x2000060, Timeline: 1}
	for _, text := range []string{minimalLabel, strings.TrimSuffix(minimalLabel, "\n"), strings.ReplaceAll(minimalLabel, "\n", "\r\n"),
		minimalLabel + "SOMETHING NEW: 1\nSOMETHING NEW: 2\nfree text\n\n"} {
		if got := parseLabel(t, []byte(text)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	incremental := parseLabel(t, []byte(minimalLabel+"INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n"))
	if incremental.IncrementalFrom != 0x1000028 || incremental.IncrementalFromTimeline != 1 {
		t.Errorf("incremental: %+v", incremental)
	}
}

func TestParseBackupLabelRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"no start":         strings.Replace(minimalLabel, "START WAL", "BEGIN WAL", 1),
		"no checkpoint":    strings.Replace(minimalLabel, "CHECKPOINT", "REDO", 1),
		"no timeline":      strings.Replace(minimalLabel, "TIMELINE", "TLI", 1),
		"bad start":        strings.Replace(minimalLabel, "0/2000028", "0/", 1),
		"no file":          strings.Replace(minimalLabel, " (file 000000010000000000000002)", "", 1),
		"open parenthesis": strings.Replace(minimalLabel, "2)", "2", 1),
		"bad file":         strings.Replace(minimalLabel, "02)", "0x)", 1),
		"bad checkpoint":   strings.Replace(minimalLabel, "0/2000060", "later", 1),
		"bad timeline":     strings.Replace(minimalLabel, "TIMELINE: 1", "TIMELINE: 0", 1),
		"forged by label":  minimalLabel + "LABEL: x\nSTART TIMELINE: 2\n",
		"binary":           "\x00\x01\x02",
	} {
		if l, err := wal.ParseBackupLabel([]byte(text)); !errors.Is(err, wal.ErrSyntax) || l != (wal.BackupLabel{}) {
			t.Errorf("%s: %+v, %v; want ErrSyntax", name, l, err)
		}
	}
}

func FuzzParseBackupLabel(f *testing.F) {
	for _, c := range allCaptured() {
		f.Add(c.read(f, "backup_label"))
		f.Add(c.read(f, "backup_label.standby"))
		f.Add(c.read(f, c.first+".00000028.backup"))
	}
	f.Add([]byte(minimalLabel + "INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := wal.ParseBackupLabel(b)
		switch {
		case err != nil && !errors.Is(err, wal.ErrSyntax):
			t.Fatalf("%v is not ErrSyntax", err)
		case err == nil && l.Timeline == 0:
			t.Fatalf("timeline 0 from %q", b)
		}
	})
}
