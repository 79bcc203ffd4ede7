package commands

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	utc := time.Date(2026, 11, 21, 8, 15, 30, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-21T08:15:30Z":             utc,
		"2026-11-21T09:15:30+01:00":        utc,
		"2026-11-21T08:15:30.123456Z":      utc.Add(123456 * time.Microsecond),
		"2026-11-21 08:15:30+00":           utc, // as PostgreSQL prints a timestamptz
		"2026-11-21 13:45:30.5+05:30":      utc.Add(500 * time.Millisecond),
		"2026-11-21 03:15:30-05":           utc,
		"2026-11-21 08:15:30 UTC":          utc, // as PostgreSQL's log has it
		"2026-11-21 08:15:30.25 UTC":       utc.Add(250 * time.Millisecond),
		"2026-11-21T08:15:30.123456+00":    utc.Add(123456 * time.Microsecond),
		"2026-11-21 08:15:30":              time.Date(2026, 11, 21, 8, 15, 30, 0, time.Local),
		"2026-11-21 08:15":                 time.Date(2026, 11, 21, 8, 15, 0, 0, time.Local),
		"2026-11-21T08:15:30.999999":       time.Date(2026, 11, 21, 8, 15, 30, 999999000, time.Local),
		"2026-11-21 08:15:30.000000+00:00": utc,
	} {
		got, err := parseTime(text)
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: got %s (error: %v), want %s", text, got, err, want)
		}
	}
	// A zone that isn't known here would silently be taken for UTC.
	for _, text := range []string{
		"", "now", "yesterday", "08:15", "2026-11-21", "21.11.2026 08:15", "1763712930",
		"2026-11-21 08:15:30 XYZ", "2026-11-21 08:15:30 Nowhere/City", "2026-13-21 08:15:30", "2026-11-21 08:15:30 ",
	} {
		if got, err := parseTime(text); err == nil {
			t.Errorf("%q was taken for %s", text, got)
		} else if exitCode(err) != exitUsage || !strings.Contains(err.Error(), "2026-11-21 08:15:30+01") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, text := range []string{"2026-11-21 08:15:30+01", "2026-11-21T08:15:30Z", "2026-11-21 08:15:30 CET", "2026-11-21 08:15", "x"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseTime(text)
		if err != nil {
			return
		}
		again, err := parseTime(got.Format(time.RFC3339Nano))
		if got.Year() <= 9999 && (err != nil || !again.Equal(got)) {
			t.Errorf("%q is %s, which is %s (error: %v)", text, got, again, err)
		}
	})
}
