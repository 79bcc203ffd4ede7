package commands

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"

	"walden/codec"
	"walden/storage"
)

// envName returns a flag's twin in the environment.
func envName(flag string) string {
	return "WALDEN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

func stringFlag(name, value, usage string) *cli.StringFlag {
	return &cli.StringFlag{Name: name, Value: value, Usage: usage, EnvVars: []string{envName(name)}}
}

func listFlag(name, usage string) *cli.StringSliceFlag {
	return &cli.StringSliceFlag{Name: name, Usage: usage, EnvVars: []string{envName(name)}}
}

func boolFlag(name, usage string) *cli.BoolFlag {
	return &cli.BoolFlag{Name: name, Usage: usage, EnvVars: []string{envName(name)}}
}

func intFlag(name string, usage string) *cli.IntFlag {
	return &cli.IntFlag{Name: name, Usage: usage, EnvVars: []string{envName(name)}, DefaultText: "by cores"}
}

func durationFlag(name string, value time.Duration, usage string) *cli.DurationFlag {
	return &cli.DurationFlag{Name: name, Value: value, Usage: usage, EnvVars: []string{envName(name)}}
}

func commonFlags() []cli.Flag {
	verbose := boolFlag("verbose", "say more")
	verbose.Aliases = []string{"v"}
	return []cli.Flag{
		stringFlag("config", "", "TOML file with the same names as the flags"),
		stringFlag("log-format", "console", "console or json, on standard error"),
		verbose,
	}
}

// repoFlags are for commands that use a repository. timeout is how long they keep
// trying storage that doesn't answer.
func repoFlags(timeout time.Duration) []cli.Flag {
	return []cli.Flag{
		stringFlag("repo", "", "repository: file:///directory or s3://bucket/prefix?endpoint=https://host:port&region=R&path-style=true"),
		durationFlag("timeout", timeout, "how long to keep trying storage that doesn't answer"),
	}
}

func clusterFlags() []cli.Flag {
	pgdata := stringFlag("pgdata", "", "data directory of the cluster (PGDATA, else the working directory)")
	return []cli.Flag{
		pgdata,
		stringFlag("cluster", "", "system identifier of the cluster, where there is no data directory"),
	}
}

func encryptFlags(level codec.Level) []cli.Flag {
	return []cli.Flag{
		stringFlag("compression", level.String(), "fastest, default, better or none"),
		listFlag("recipient", "encrypt to this age public key (may be repeated)"),
		listFlag("recipients-file", "encrypt to the age public keys in this file (may be repeated)"),
	}
}

func identityFlag() cli.Flag {
	return listFlag("identity", "file with an age private key, to read what is encrypted (may be repeated)")
}

// openStore opens the repository that the flags name. It makes no request.
func (p *program) openStore(c *cli.Context) (storage.Store, storage.Location, error) {
	raw := c.String("repo")
	if raw == "" {
		return nil, storage.Location{}, usagef("which repository? give --repo or set WALDEN_REPO")
	}
	loc, err := storage.ParseLocation(raw)
	if err != nil {
		return nil, storage.Location{}, err
	}
	if c.Duration("timeout") <= 0 {
		return nil, storage.Location{}, usagef("--timeout must be more than 0")
	}
	store, err := storage.Open(loc, storage.Options{
		Timeout:   c.Duration("timeout"),
		CAFile:    p.env.Getenv("AWS_CA_BUNDLE"),
		UserAgent: "walden/" + p.env.Version,
	})
	return store, loc, err
}

// objectOptions reads compression and recipients.
func objectOptions(c *cli.Context) (codec.ObjectOptions, error) {
	level, err := codec.ParseLevel(c.String("compression"))
	if err != nil {
		return codec.ObjectOptions{}, usagef("--compression: %w", err)
	}
	recipients, err := codec.ParseRecipients(c.StringSlice("recipient"))
	if err != nil {
		return codec.ObjectOptions{}, usagef("--recipient: %w", err)
	}
	for _, file := range c.StringSlice("recipients-file") {
		more, err := readKeys(file, codec.ParseRecipientsFile)
		if err != nil {
			return codec.ObjectOptions{}, usagef("--recipients-file: %w", err)
		}
		recipients = append(recipients, more...)
	}
	if err := codec.CheckRecipients(recipients); err != nil {
		return codec.ObjectOptions{}, usagef("%w", err)
	}
	return codec.ObjectOptions{Level: level, Recipients: recipients}, nil
}

// identities reads the private keys.
func identities(c *cli.Context) ([]codec.Identity, error) {
	var all []codec.Identity
	for _, file := range c.StringSlice("identity") {
		ids, err := readKeys(file, codec.ParseIdentities)
		if err != nil {
			return nil, usagef("--identity: %w", err)
		}
		all = append(all, ids...)
	}
	return all, nil
}

// applyConfig sets the flags that neither the command line nor the environment
// set from the configuration file. A name that no command knows is an error; a
// name that only other commands know is theirs.
func (p *program) applyConfig(c *cli.Context) error {
	file := c.String("config")
	if file == "" {
		return nil
	}
	var values map[string]any
	if _, err := toml.DecodeFile(file, &values); err != nil {
		return usagef("configuration file: %w", err)
	}
	for name, value := range values {
		if findFlag(c.App.Commands, name) == nil || name == "config" || name == "help" {
			return usagef("configuration file %s: there is no setting %q", file, name)
		}
		if findFlag([]*cli.Command{c.Command}, name) == nil || c.IsSet(name) {
			continue
		}
		if err := setFromConfig(c, name, value); err != nil {
			return usagef("configuration file %s: %s: %w", file, name, err)
		}
	}
	return nil
}

func setFromConfig(c *cli.Context, name string, value any) error {
	list, ok := value.([]any)
	if !ok {
		list = []any{value}
	}
	for _, v := range list {
		switch v.(type) {
		case string, bool, int64, float64:
		default:
			return fmt.Errorf("%v is not a text, a number or a truth value", v)
		}
		if err := c.Set(name, fmt.Sprint(v)); err != nil {
			return err
		}
	}
	return nil
}

// testVariables are what the project's own tests set.
const testVariables = "WALDEN_TEST_"

// checkEnvironment refuses WALDEN_* variables that no flag reads: a misspelt
// WALDEN_RECIPIENT would store plain text.
func (p *program) checkEnvironment(commands []*cli.Command) error {
	for _, pair := range p.env.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "WALDEN_") || strings.HasPrefix(name, testVariables) {
			continue
		}
		known := slices.ContainsFunc(commands, func(c *cli.Command) bool {
			return slices.ContainsFunc(c.Flags, func(f cli.Flag) bool { return envName(f.Names()[0]) == name })
		})
		if !known {
			return usagef("there is no setting %s: correct or unset it", name)
		}
	}
	return nil
}

// readKeys reads a file of keys.
func readKeys[K any](path string, parse func(io.Reader) ([]K, error)) (keys []K, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // it was only read
	if keys, err = parse(f); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}
