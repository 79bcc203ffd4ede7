package commands

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"walden/codec"
	"walden/storage"
)

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
		stringFlag("config", "", "`FILE`TOML file that holds settings by the names of the flags"),
		stringFlag("log-format", "console", "`FORMAT`form of the messages on standard error: console or json"),
		verbose,
	}
}

// repoFlags are for commands that use a repository. timeout is how long they keep
// trying storage that doesn't answer.
func repoFlags(timeout time.Duration) []cli.Flag {
	return []cli.Flag{
		stringFlag("repo", "", "`URL`the repository: file:///directory, s3://bucket/prefix, or for other stores than Amazon's "+
			"s3://bucket/prefix?endpoint=https://host:port&region=R&path-style=true"),
		durationFlag("timeout", timeout, "how long to keep trying storage that doesn't answer"),
	}
}

// pgdataFlag is for commands of operators.
func pgdataFlag() cli.Flag {
	return stringFlag("pgdata", "", "`DIR`data directory of the cluster; without it PGDATA, else the working directory")
}

// serverDataFlag is for commands that the server runs, in its data directory.
func serverDataFlag() cli.Flag {
	return stringFlag("pgdata", "", "`DIR`data directory of the cluster; without it the working directory, else the one of %p, else PGDATA")
}

func clusterFlag() cli.Flag {
	return stringFlag("cluster", "", "`ID`system identifier of the cluster, where there is no data directory")
}

func dsnFlag() cli.Flag {
	return stringFlag("dsn", "", "`DSN`how to connect, a libpq connection string or URL; it beats PG* variables, which beat postmaster.pid")
}

func encryptFlags(level codec.Level) []cli.Flag {
	return []cli.Flag{
		stringFlag("compression", level.String(), "`LEVEL`compression: fastest, default, better or none"),
		listFlag("recipient", "`KEY`encrypt to this age public key, age1...; "+repeatable),
		listFlag("recipients-file", "`FILE`encrypt to the age public keys in this file; "+repeatable),
	}
}

func identityFlag() cli.Flag {
	return listFlag("identity", "`FILE`file with an age private key, to read what is encrypted; "+repeatable)
}

// repeatable says how lists are given: the library splits all values at commas.
const repeatable = "for several, repeat it or put commas between"

// openStore opens the repository that the flags name. It makes no request.
// Changes apply to what the flags say of how to use it.
func (p *program) openStore(c *cli.Context, changes ...func(*storage.Options)) (storage.Store, storage.Location, error) {
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
	opts := storage.Options{
		Timeout:   c.Duration("timeout"),
		CAFile:    p.env.Getenv("AWS_CA_BUNDLE"),
		UserAgent: "walden/" + p.env.Version,
	}
	for _, change := range changes {
		change(&opts)
	}
	store, err := storage.Open(loc, opts)
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
