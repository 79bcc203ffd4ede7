package commands

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// invocation is a command line taken apart: people write flags and arguments in
// any order, and the flag package stops at the first argument.
type invocation struct {
	command *cli.Command // nil when no command is named
	flags   []givenFlag
	args    []string
	help    bool // --help, or the word help in front
	version bool
}

// givenFlag is a flag as it stands on the command line.
type givenFlag struct {
	name     string // without dashes
	value    string
	hasValue bool
	words    []string // as they were written
}

// takeApart reads a command line. It judges nothing: check does.
func takeApart(commands []*cli.Command, args []string) (in invocation) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch {
		case arg == "--":
			in.args, args = append(in.args, args...), nil
		case len(arg) > 1 && arg[0] == '-':
			f := takeFlag(commands, arg, args)
			args = args[len(f.words)-1:]
			in.addFlag(f)
		case in.command == nil && len(in.args) == 0 && arg == "help":
			in.help = true
		case in.command == nil && len(in.args) == 0:
			if in.command = findCommand(commands, arg); in.command == nil {
				in.args = append(in.args, arg)
			}
		default:
			in.args = append(in.args, arg)
		}
	}
	return in
}

func (in *invocation) addFlag(f givenFlag) {
	switch f.name {
	case "help", "h":
		in.help = true
	case "version":
		in.version = true
	default:
		in.flags = append(in.flags, f)
	}
}

// takeFlag reads the flag word, and its value from the words behind it.
func takeFlag(commands []*cli.Command, word string, behind []string) givenFlag {
	f := givenFlag{words: []string{word}}
	f.name, f.value, f.hasValue = strings.Cut(strings.TrimLeft(word, "-"), "=")
	if !f.hasValue && takesValue(findFlag(commands, f.name)) && len(behind) > 0 {
		f.value, f.hasValue = behind[0], true
		f.words = append(f.words, behind[0])
	}
	return f
}

func takesValue(f cli.Flag) bool {
	_, isBool := f.(*cli.BoolFlag)
	return f != nil && !isBool
}

// name is the command's name, or "".
func (in invocation) name() string {
	if in.command == nil {
		return ""
	}
	return in.command.Name
}

// words is the command line as the flag package reads it: flags first.
func (in invocation) words() []string {
	words := []string{"walden", in.name()}
	for _, f := range in.flags {
		words = append(words, f.words...)
	}
	return append(append(words, "--"), in.args...)
}

// check refuses what can't be run, and says what is wrong with it.
func (in invocation) check(commands []*cli.Command) error {
	if in.command != nil {
		return in.checkFlags([]*cli.Command{in.command}, fmt.Sprintf("'walden %s --help' lists its flags", in.name()))
	}
	if len(in.args) > 0 {
		return usagef("there is no command %q: 'walden --help' lists them", shown(in.args[0]))
	}
	if err := in.checkFlags(commands, "'walden --help' lists the commands"); err != nil {
		return err
	}
	return usagef("which command? 'walden --help' lists them")
}

func (in invocation) checkFlags(commands []*cli.Command, hint string) error {
	for _, f := range in.flags {
		known := findFlag(commands, f.name)
		switch {
		case known == nil:
			word, _, _ := strings.Cut(f.words[0], "=")
			return usagef("there is no flag %s here: %s", word, hint)
		case takesValue(known) && !f.hasValue:
			return usagef("--%s needs a value", f.name)
		}
		if !f.hasValue {
			continue
		}
		if err := checkValue(known, f.value); err != nil {
			return usagef("--%s: %w", f.name, err)
		}
	}
	return nil
}

// shown is an argument as messages may repeat it: connection strings and URLs
// hold passwords.
func shown(arg string) string {
	if strings.ContainsAny(arg, "@=") {
		return "..."
	}
	return arg
}

func findCommand(commands []*cli.Command, name string) *cli.Command {
	i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return commands[i]
}

// findFlag finds a flag by name in any of the commands.
func findFlag(commands []*cli.Command, name string) cli.Flag {
	for _, c := range commands {
		for _, f := range c.Flags {
			if slices.Contains(f.Names(), name) {
				return f
			}
		}
	}
	return nil
}
