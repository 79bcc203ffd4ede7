package archive

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseLimit(t *testing.T) {
	for s, want := range map[string]Limit{
		"1kB": {bytes: 1024}, "200MB": {bytes: 200 << 20}, "20GB": {bytes: 20 << 30}, "3TB": {bytes: 3 << 40},
		"1%": {percent: 1}, "80%": {percent: 80}, "100%": {percent: 100},
	} {
		got, err := ParseLimit(s)
		if err != nil || got != want || got.String() != s || got.IsZero() {
			t.Errorf("%s: %+v, %s, %v", s, got, got, err)
		}
	}
	for _, s := range []string{"", "%", "0%", "101%", "-1%", "1.5%", "20", "20gb", "20 GB", "0GB", "-1GB", "GB", "20GiB", "1e3MB", "9223372036854775807TB"} {
		if l, err := ParseLimit(s); err == nil {
			t.Errorf("%q: %+v", s, l)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"1kB", "20GB", "80%", "1024MB", "4611686018427387904kB", "x%"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := ParseLimit(s)
		if err != nil {
			return
		}
		again, err := ParseLimit(l.String())
		if err != nil || again != l || l.bytes < 0 || l.percent < 0 || l.percent > 100 {
			t.Errorf("%q is %+v, which is %q: %+v, %v", s, l, l, again, err)
		}
	})
}

func TestLimitOfAVolume(t *testing.T) {
	dir := t.TempDir()
	var volume unix.Statfs_t
	if err := unix.Statfs(dir, &volume); err != nil {
		t.Fatal(err)
	}
	size := float64(volume.Blocks) * float64(volume.Bsize)
	for percent, want := range map[int64]float64{1: size / 100, 50: size / 2, 100: size} {
		got, err := Limit{percent: percent}.bytesOf(dir)
		if err != nil || math.Abs(float64(got)-want) > size/1000 {
			t.Errorf("%d%% of %.0f: %d, %v", percent, size, got, err)
		}
	}
	if _, err := (Limit{percent: 1}).bytesOf(filepath.Join(dir, "none")); err == nil {
		t.Error("of no directory")
	}
}

func TestWALSize(t *testing.T) {
	h := newHost(t)
	h.segments(t, 1, 3)
	h.write(t, segmentName(9)+".partial", make([]byte, 1000))
	h.write(t, "00000002.history", []byte(historyText))
	h.write(t, "xlogtemp.17", make([]byte, 5000))
	if err := os.Mkdir(filepath.Join(h.pgWAL, "summaries"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := walSize(h.pgWAL); err != nil || got != 3<<20+1000 {
		t.Errorf("%d, %v", got, err)
	}
}
