// Package commands is the command line: each subcommand has a file that turns
// flags into options, makes one call into the core, and prints what came of it.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

// Environment is what the program sees of the world around it.
type Environment struct {
	Stdout, Stderr *os.File
	Getenv         func(name string) string
	Environ        func() []string
	Version        string
}

// errUsage is wrong usage or configuration: exit code 64.
var errUsage = errors.New("wrong usage")

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUsage, fmt.Errorf(format, args...))
}

// program is one run.
type program struct {
	env Environment
	log *logger
}

// Run runs the program with the arguments that follow its name, and returns its
// exit code.
func Run(ctx context.Context, env Environment, args []string) int {
	p := &program{env: env, log: newLogger(env.Stderr)}
	app := p.app()
	args, name := arrange(app.Commands, args)
	if name == walFetchName {
		// PostgreSQL takes exit code 2, which a crash of a Go program has, for the
		// end of the archive, and promotes. A signal stops it instead.
		debug.SetTraceback("crash")
	}
	err := p.checkEnvironment(app.Commands)
	if err == nil {
		err = app.RunContext(ctx, append([]string{"walden"}, args...))
	}
	if err == nil {
		return exitOK
	}
	if name == walFetchName {
		return p.walFetchCode(err)
	}
	p.log.fail(name, err)
	return exitCode(err)
}

func (p *program) app() *cli.App {
	return &cli.App{
		Name:  "walden",
		Usage: "PostgreSQL backups and WAL archiving to S3-compatible storage or a directory",
		Description: `Every flag has a WALDEN_* twin in the environment (--repo is WALDEN_REPO), and --config
names a TOML file that holds the same names; flags beat the environment, which beats the file.
S3 credentials come from the standard AWS chain: AWS_* variables, the shared file, web identity
or the instance's role.

Exit codes: 0 yes or done; 1 no: missing, damaged, refused, a conflict; 2 can't tell, or could
not now: storage unreachable, denied, timed out; 64 wrong usage or configuration. wal-fetch
has its own: see 'walden wal-fetch --help'.`,
		Version:              p.env.Version,
		Writer:               p.env.Stdout,
		ErrWriter:            io.Discard, // Run prints errors, once
		HideHelpCommand:      true,
		EnableBashCompletion: true,
		Commands: []*cli.Command{
			p.backupPush(), p.backupFetch(), p.walPush(), p.walFetch(), p.info(), p.check(),
		},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("there is no command %q; 'walden --help' lists them", c.Args().First())
			}
			return usagef("which command? 'walden --help' lists them")
		},
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {}, // Run decides
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok {
		text = fmt.Sprintf("there is no flag --%s here", strings.TrimLeft(name, "-"))
	}
	return usagef("%s", text)
}

// command completes a subcommand: common flags, their twins in the environment
// and the configuration file, and what is printed about wrong usage.
func (p *program) command(c *cli.Command) *cli.Command {
	c.Flags = append(c.Flags, commonFlags()...)
	c.OnUsageError = usageError
	c.HideHelpCommand = true
	c.CustomHelpTemplate = helpTemplate
	act := c.Action
	c.Action = func(ctx *cli.Context) error {
		if err := p.applyConfig(ctx); err != nil {
			return err
		}
		if err := p.log.configure(ctx.String("log-format"), ctx.Bool("verbose")); err != nil {
			return err
		}
		return act(ctx)
	}
	return c
}

// arguments checks the number of a command's arguments.
func arguments(c *cli.Context, least, most int) error {
	n := c.NArg()
	switch {
	case n < least:
		return usagef("an argument is missing: walden %s %s", c.Command.Name, c.Command.ArgsUsage)
	case n > most:
		return usagef("too many arguments from %q on: walden %s %s", c.Args().Get(most), c.Command.Name, c.Command.ArgsUsage)
	}
	return nil
}

const helpTemplate = `{{.Name}} - {{.Usage}}

USAGE:
   walden {{.Name}} [flags]{{if .ArgsUsage}} {{.ArgsUsage}}{{end}}
{{if .Description}}
{{.Description}}
{{end}}
FLAGS:
{{range .VisibleFlags}}   {{.}}
{{end}}`
