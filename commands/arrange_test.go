package commands

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// testCommands are commands with a flag of every kind.
func testCommands() []*cli.Command {
	return []*cli.Command{
		{Name: "push", Flags: []cli.Flag{stringFlag("repo", "", ""), boolFlag("quiet", ""), listFlag("key", ""), intFlag("jobs", "")}},
		{Name: "show", Flags: []cli.Flag{stringFlag("repo", "", ""), boolFlag("json", "")}},
	}
}

func TestTakeApart(t *testing.T) {
	for _, c := range []struct{ line, words, args string }{
		{"push a b", "walden push -- a b", "a b"},
		{"push a --repo x b", "walden push --repo x -- a b", "a b"},
		{"--repo x push a", "walden push --repo x -- a", "a"},
		{"-repo=x push a -quiet", "walden push -repo=x -quiet -- a", "a"},
		{"push --quiet a", "walden push --quiet -- a", "a"},
		{"push --quiet=false a", "walden push --quiet=false -- a", "a"},
		{"push --key a --key b c", "walden push --key a --key b -- c", "c"},
		{"push -- --repo x", "walden push -- --repo x", "--repo x"},
		{"push --repo -- a", "walden push --repo -- -- a", "a"},
		{"push - a", "walden push -- - a", "- a"},
		{"push show", "walden push -- show", "show"},
		{"push --unknown x", "walden push --unknown -- x", "x"},
		{"--repo push show", "walden show --repo push --", ""},
		{"other push", "walden  -- other push", "other push"},
	} {
		in := takeApart(testCommands(), strings.Fields(c.line))
		if got := strings.Join(in.words(), " "); got != c.words {
			t.Errorf("%s: %q is called, want %q", c.line, got, c.words)
		}
		if got := strings.Join(in.args, " "); got != c.args {
			t.Errorf("%s: arguments %q, want %q", c.line, got, c.args)
		}
	}
}

func TestTakeApartHelpAndVersion(t *testing.T) {
	for _, c := range []struct {
		line          string
		help, version bool
	}{
		{"--help", true, false},
		{"push -h a", true, false},
		{"help push", true, false},
		{"--version", false, true},
		{"push help", false, false}, // a file of that name
		{"push --repo --help", false, false},
		{"push -- --help", false, false},
	} {
		in := takeApart(testCommands(), strings.Fields(c.line))
		if in.help != c.help || in.version != c.version {
			t.Errorf("%s: help %v, version %v", c.line, in.help, in.version)
		}
	}
}

func FuzzTakeApart(f *testing.F) {
	for _, line := range []string{"", "push a", "--repo x show --json", "push --repo", "push -- --", "-", "--", "--=", "-=-", "help help", "--key\n-x"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\n")
		in := takeApart(testCommands(), args)
		_ = in.check(testCommands())
		for _, arg := range in.args {
			if !slices.Contains(args, arg) {
				t.Errorf("made up the argument %q", arg)
			}
		}
		for _, flag := range in.flags {
			if !strings.HasPrefix(flag.words[0], "-") || len(flag.words) > 2 {
				t.Errorf("%q is no flag", flag.words)
			}
		}
	})
}
