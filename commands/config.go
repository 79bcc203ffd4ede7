package commands

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// applyConfig sets the flags that neither the command line nor the environment
// set from the configuration file. A name that no command knows is an error; a
// name that only other commands know is theirs.
func (p *program) applyConfig(c *cli.Context) error {
	file := c.String("config")
	if file == "" {
		return nil
	}
	values, err := readConfig(file)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		known := findFlag(c.App.Commands, name)
		if known == nil || known.Names()[0] != name || name == "config" {
			return usagef("configuration file %s: there is no setting %q", file, name)
		}
		own := findFlag([]*cli.Command{c.Command}, name)
		if own == nil || c.IsSet(name) {
			continue
		}
		if err := setFromConfig(c, own, values[name]); err != nil {
			return usagef("configuration file %s: %s: %w", file, name, err)
		}
	}
	return nil
}

// readConfig never repeats what the file holds: it may be a password.
func readConfig(file string) (values map[string]any, err error) {
	_, err = toml.DecodeFile(file, &values)
	var bad toml.ParseError
	switch {
	case errors.As(err, &bad):
		return nil, usagef("configuration file %s: line %d is not TOML: write name = \"text\", name = [\"text\", \"text\"] or name = true",
			file, bad.Position.Line)
	case err != nil:
		return nil, usagef("configuration file: %w", err)
	}
	return values, nil
}

func setFromConfig(c *cli.Context, f cli.Flag, value any) error {
	list, ok := value.([]any)
	_, takesList := f.(*cli.StringSliceFlag)
	if !ok {
		list = []any{value}
	} else if !takesList {
		return errors.New("a list, where there can be one value only")
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, int64, float64:
		default:
			return errors.New("neither a text, a number, a truth value nor a list of them")
		}
		text := fmt.Sprint(v)
		if err := checkValue(f, text); err != nil {
			return err
		}
		if err := c.Set(f.Names()[0], text); err != nil {
			return err
		}
	}
	return nil
}
