package commands

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// overview is what 'walden --help' says besides the list of commands.
const overview = `Each flag of a command can also be set in the environment (--repo is WALDEN_REPO) and in a TOML file
that --config or WALDEN_CONFIG names. A flag beats the environment, which beats the file; a name that
no command knows is an error. S3 credentials come from the standard AWS chain: AWS_* variables, the
shared file, web identity or the instance's role.

Exit codes:
   0    yes, done
   1    no, conclusively: missing, damaged, refused, a conflict
   2    can't tell, or could not now: storage or server unreachable, access denied, interrupted
   64   wrong usage or configuration
wal-fetch has its own, which keep PostgreSQL from ending a recovery early.`

// writeHelp explains a command, or the program when c is nil.
func writeHelp(w io.Writer, c *cli.Command, commands []*cli.Command) error {
	var b strings.Builder
	if c == nil {
		writeOverview(&b, commands)
	} else {
		writeCommandHelp(&b, c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeOverview(b *strings.Builder, commands []*cli.Command) {
	b.WriteString("walden - PostgreSQL backups and WAL archiving to S3-compatible storage or a directory\n\n" +
		"Usage:\n   walden COMMAND [flags] [arguments]\n   walden COMMAND --help\n   walden --version\n\nCommands:\n")
	width := 0
	commands = slices.DeleteFunc(slices.Clone(commands), func(c *cli.Command) bool { return c.Hidden })
	for _, c := range commands {
		width = max(width, len(c.Name))
	}
	for _, c := range commands {
		fmt.Fprintf(b, "   %-*s   %s\n", width, c.Name, c.Usage)
	}
	b.WriteString("\n" + overview + "\n")
}

func writeCommandHelp(b *strings.Builder, c *cli.Command) {
	fmt.Fprintf(b, "walden %s - %s\n\nUsage:\n   %s\n\n%s\n\nFlags, and the variables that set them as well:\n",
		c.Name, c.Usage, synopsis(c, "[flags]"), c.Description)
	var rows [][2]string
	width := 0
	for _, f := range c.Flags {
		row := describeFlag(f)
		rows = append(rows, row)
		width = max(width, len(row[0]))
	}
	for _, row := range rows {
		lines := wrap(row[1], lineWidth-width-6)
		fmt.Fprintf(b, "   %-*s   %s\n", width, row[0], lines[0])
		for _, line := range lines[1:] {
			fmt.Fprintf(b, "   %-*s   %s\n", width, "", line)
		}
	}
}

// synopsis is how a command is called.
func synopsis(c *cli.Command, flags string) string {
	var words []string
	for _, word := range []string{"walden", c.Name, flags, c.ArgsUsage} {
		if word != "" {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// describeFlag returns a flag as it is written, and what it does.
func describeFlag(f cli.Flag) [2]string {
	var names []string
	for _, name := range f.Names() {
		dashes := "--"
		if len(name) == 1 {
			dashes = "-"
		}
		names = append(names, dashes+name)
	}
	written := strings.Join(names, ", ")
	doc, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return [2]string{written, ""}
	}
	text := doc.GetUsage()
	if takesValue(f) {
		var placeholder string
		placeholder, text = valueOf(f, text)
		written += " " + placeholder
		if d := strings.Trim(doc.GetDefaultText(), `"`); d != "" {
			text += " (default " + d + ")"
		}
	}
	for _, name := range doc.GetEnvVars() {
		text += " [" + name + "]"
	}
	return [2]string{written, text}
}

// valueOf takes what stands for a flag's value off the front of its usage text,
// where it is set in backquotes unless its type says it.
func valueOf(f cli.Flag, usage string) (placeholder, text string) {
	if rest, ok := strings.CutPrefix(usage, "`"); ok {
		placeholder, text, _ = strings.Cut(rest, "`")
		return placeholder, text
	}
	switch f.(type) {
	case *cli.DurationFlag:
		return "DURATION", usage
	case *cli.IntFlag, *cli.UintFlag:
		return "NUMBER", usage
	}
	return "VALUE", usage
}

// lineWidth is how long lines of help get, unless a word is longer.
const lineWidth = 110

// wrap breaks text at spaces into lines of at most width bytes where it can.
func wrap(text string, width int) []string {
	lines := []string{""}
	for word := range strings.FieldsSeq(text) {
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = word
		case len(*last)+1+len(word) <= width:
			*last += " " + word
		default:
			lines = append(lines, word)
		}
	}
	return lines
}
