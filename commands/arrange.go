package commands

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange puts flags before arguments and behind their command, because the flag
// package stops at the first argument, and people write them in any order. It
// returns the name of the command, "" when there is none.
func arrange(commands []*cli.Command, args []string) (arranged []string, command string) {
	var flags, rest []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(arg) > 1 && arg[0] == '-':
			flags = append(flags, arg)
			if takesValue(commands, arg) && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		case command == "" && len(rest) == 0 && slices.ContainsFunc(commands, func(c *cli.Command) bool { return c.Name == arg }):
			command = arg
		default:
			rest = append(rest, arg)
		}
	}
	if command != "" {
		arranged = append(arranged, command)
	}
	arranged = append(arranged, flags...)
	if len(rest) > 0 {
		arranged = append(append(arranged, "--"), rest...)
	}
	return arranged, command
}

// takesValue reports whether the argument after this flag is its value.
func takesValue(commands []*cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	f := findFlag(commands, name)
	if f == nil {
		return false
	}
	_, isBool := f.(*cli.BoolFlag)
	return !isBool
}

// findFlag finds a flag by name in any command.
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
