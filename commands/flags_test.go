package commands

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// testProgram is a program in an empty environment.
func testProgram() *program {
	return &program{log: newLogger(os.Stderr), env: Environment{
		Stdout: os.Stdout, Stderr: os.Stderr, Version: "test",
		Getenv:  func(string) string { return "" },
		Environ: func() []string { return nil },
	}}
}

func TestEveryFlagIsDocumented(t *testing.T) {
	for _, c := range testProgram().commands() {
		var b strings.Builder
		if err := writeHelp(&b, c, nil); err != nil {
			t.Fatal(err)
		}
		help := strings.Join(strings.Fields(b.String()), " ")
		for _, f := range c.Flags {
			name := f.Names()[0]
			row := describeFlag(f)
			if !strings.Contains(help, row[0]+" "+strings.Join(strings.Fields(row[1]), " ")) {
				t.Errorf("%s --%s is not in the help", c.Name, name)
			}
			if strings.HasPrefix(row[1], "[") || row[1] == "" {
				t.Errorf("%s --%s: the help does not say what it does", c.Name, name)
			}
			if twin := "[" + envName(name) + "]"; !strings.HasSuffix(row[1], twin) {
				t.Errorf("%s --%s: the help does not name its twin %s", c.Name, name, twin)
			}
		}
		for line := range strings.Lines(b.String()) {
			if len(line) > lineWidth+1 {
				t.Errorf("%s: a line of the help has %d bytes: %s", c.Name, len(line)-1, line)
			}
		}
	}
}

// TestFlagsOfOneNameAreOfOneKind: what a flag is must be known before the command
// is, and one configuration file serves all commands.
func TestFlagsOfOneNameAreOfOneKind(t *testing.T) {
	kinds := map[string]string{}
	for _, c := range testProgram().commands() {
		for _, f := range c.Flags {
			name, kind := f.Names()[0], fmt.Sprintf("%T", f)
			if before, ok := kinds[name]; ok && before != kind {
				t.Errorf("--%s is a %s and a %s", name, before, kind)
			}
			kinds[name] = kind
			if doc := f.(cli.DocGenerationFlag); len(doc.GetEnvVars()) != 1 || doc.GetEnvVars()[0] != envName(name) {
				t.Errorf("--%s has the twins %q, want %s", name, doc.GetEnvVars(), envName(name))
			}
		}
	}
	if len(kinds) < 20 {
		t.Errorf("found %d flags only", len(kinds))
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"", 10, ""},
		{"one two three", 80, "one two three"},
		{"one two three", 7, "one two|three"},
		{"one two three", 6, "one|two|three"},
		{"a very-long-word here", 5, "a|very-long-word|here"},
	} {
		if got := strings.Join(wrap(c.text, c.width), "|"); got != c.want {
			t.Errorf("%q in %d: got %q, want %q", c.text, c.width, got, c.want)
		}
	}
}

func TestShownHidesWhatMayBeAPassword(t *testing.T) {
	for arg, want := range map[string]string{
		"latest":                      "latest",
		"/var/lib/postgresql/15/main": "/var/lib/postgresql/15/main",
		"postgres://u:secret@host/db": "...",
		"host=h password=secret":      "...",
		"s3://key:secret@bucket":      "...",
	} {
		if got := shown(arg); got != want {
			t.Errorf("%s: got %s, want %s", arg, got, want)
		}
	}
}

func FuzzReadConfig(f *testing.F) {
	for _, text := range []string{"", "a = 1", "a = [1, 2]", "a = \"b\"\n", "[t]\nx = 1", "a = {b = 1}", "a = b", "= 1", "a = \"\x00\"", "\xff", "a = 1979-05-27"} {
		f.Add(text)
	}
	file := filepath.Join(f.TempDir(), "walden.toml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readConfig(file)
		if err == nil {
			return
		}
		if exitCode(err) != exitUsage {
			t.Errorf("exit code %d for %v", exitCode(err), err)
		}
		// Only the place is told, whatever stands there.
		line := strings.Replace(err.Error(), file, "", 1)
		if len(line) > 160 || strings.Contains(line, "\n") {
			t.Errorf("%q", line)
		}
	})
}
