package commands

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 16777216: "16.8 MB", 999_949: "999.9 kB", 999_950: "1.0 MB",
		2_500_000_000: "2.5 GB", 1 << 62: "4.6 EB",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestProgressText(t *testing.T) {
	for _, c := range []struct {
		done, total int64
		took        time.Duration
		want        string
	}{
		{500_000, 1_000_000, time.Second, "500.0 kB of 1.0 MB (50%), 500.0 kB/s, 1s left"},
		{1_000_000, 1_000_000, 2 * time.Second, "1.0 MB of 1.0 MB (100%), 500.0 kB/s"},
		{3_000_000, 1_000_000, 3 * time.Second, "3.0 MB of 1.0 MB (100%), 1.0 MB/s"}, // the cluster has grown meanwhile
		{1, 1_000_000, 0, "1 B of 1.0 MB (0%), 1.0 kB/s, 16m40s left"},
	} {
		if got := progressText(c.done, c.total, c.took); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

// output is a file that stands for standard error, and what was written to it.
func output(t *testing.T) (*os.File, func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, func() string {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func TestProgressOnATerminalGivesWayToMessages(t *testing.T) {
	f, written := output(t)
	l := newLogger(f)
	l.terminal = true
	p := newProgress(l)
	p.Total(1000)
	p.Add(500)
	p.show()
	p.Step("next")
	p.close()
	const line, clear = "\r\x1b[K500 B of 1.0 kB (50%)", "\r\x1b[K"
	text := written()
	if !strings.HasPrefix(text, line) || !strings.Contains(text, clear+"walden: next\n") || strings.HasSuffix(text, "left") {
		t.Errorf("%q", text)
	}
}

func TestProgressInALogIsLines(t *testing.T) {
	f, written := output(t)
	p := newProgress(newLogger(f))
	p.show() // nothing to tell yet
	p.Total(1000)
	p.Add(1000)
	p.show()
	p.close()
	if got := written(); !strings.HasPrefix(got, "walden: 1.0 kB of 1.0 kB (100%), ") || strings.Count(got, "\n") != 1 || strings.ContainsAny(got, "\r\x1b") {
		t.Errorf("%q", got)
	}
}

func TestServerCommandSurvivesPlaceholders(t *testing.T) {
	got := serverCommand([]string{"/opt/100% sure/walden", "s3://b/p?endpoint=http://h&region=r", "it's"})
	const want = `'/opt/100%% sure/walden' 's3://b/p?endpoint=http://h&region=r' 'it'\''s'`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestShellQuote(t *testing.T) {
	for _, word := range []string{
		"", "plain", "/usr/local/bin/walden", "s3://bucket/p?endpoint=http://h:1&region=r&path-style=true",
		"with space", "it's", `"double"`, `back\slash`, "$HOME `id` $(id)", "a;b|c>d", "ü", "*", "new\nline", "~",
	} {
		out, err := exec.Command("sh", "-c", "printf %s "+shellQuote(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q: the shell reads %s as %q (error: %v)", word, shellQuote(word), out, err)
		}
	}
}
