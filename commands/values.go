package commands

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// checkValue refuses a text that is no value for a flag, wherever it comes from.
func checkValue(f cli.Flag, value string) error {
	switch f.(type) {
	case *cli.DurationFlag:
		if _, err := time.ParseDuration(value); err != nil {
			return fmt.Errorf("%q is not a duration such as 90s or 10m", value)
		}
	case *cli.IntFlag:
		if n, err := strconv.Atoi(value); err != nil || n < 1 {
			return fmt.Errorf("%q is not a number from 1 on", value)
		}
	case *cli.UintFlag:
		if _, err := strconv.ParseUint(value, 10, 16); err != nil {
			return fmt.Errorf("%q is not a number from 0 to 65535", value)
		}
	case *cli.BoolFlag:
		if _, err := strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
	}
	return nil
}

// envName returns a flag's twin in the environment.
func envName(flag string) string {
	return "WALDEN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// testVariables are what the project's own tests set.
const testVariables = "WALDEN_TEST_"

// checkEnvironment refuses WALDEN_* variables that no flag reads, because a
// misspelt WALDEN_RECIPIENT would store plain text, and values that the flags of
// the command can't have.
func (p *program) checkEnvironment(commands []*cli.Command, command *cli.Command) error {
	for _, pair := range slices.Sorted(slices.Values(p.env.Environ())) {
		name, value, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "WALDEN_") || strings.HasPrefix(name, testVariables) {
			continue
		}
		if findVariable(commands, name) == nil {
			return usagef("there is no setting %s: correct or unset it", name)
		}
		f := findVariable([]*cli.Command{command}, name)
		if f == nil || value == "" {
			continue
		}
		if err := checkValue(f, value); err != nil {
			return usagef("%s: %w", name, err)
		}
	}
	return nil
}

// findVariable finds a flag by its twin in the environment.
func findVariable(commands []*cli.Command, name string) cli.Flag {
	for _, c := range commands {
		for _, f := range c.Flags {
			if envName(f.Names()[0]) == name {
				return f
			}
		}
	}
	return nil
}
