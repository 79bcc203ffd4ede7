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
	commands := p.commands()
	in := takeApart(commands, args)
	if in.name() == walFetchName {
		// PostgreSQL takes exit code 2, which a crash of a Go program has, for the
		// end of the archive, and promotes. A signal stops it instead.
		debug.SetTraceback("crash")
	}
	err := p.run(ctx, commands, in)
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
		err = fmt.Errorf("stopped, %w: %w", cause, err) // such as "terminated signal received"
	}
	switch {
	case err == nil:
		return exitOK
	case in.name() == walFetchName:
		return p.walFetchCode(err)
	}
	p.log.fail(in.name(), err)
	return exitCode(err)
}

func (p *program) run(ctx context.Context, commands []*cli.Command, in invocation) error {
	switch {
	case in.help:
		return writeHelp(p.env.Stdout, in.command, commands)
	case in.version:
		_, err := fmt.Fprintf(p.env.Stdout, "walden %s\n", p.env.Version)
		return err
	}
	if err := in.check(commands); err != nil {
		return err
	}
	if err := p.checkEnvironment(commands, in.command); err != nil {
		return err
	}
	return app(commands).RunContext(ctx, in.words())
}

func (p *program) commands() []*cli.Command {
	return []*cli.Command{p.backupPush(), p.backupFetch(), p.walPush(), p.walFetch(), p.walReceive(), p.walPrefetch(), p.info(), p.check()}
}

// app parses flags and calls the command. All that it would print is printed
// here instead, once.
func app(commands []*cli.Command) *cli.App {
	return &cli.App{
		Name: "walden", Commands: commands, Writer: io.Discard, ErrWriter: io.Discard,
		HideHelp: true, HideVersion: true,
		OnUsageError:   usageError,
		ExitErrHandler: func(*cli.Context, error) {}, // Run decides
	}
}

// usageError is for what invocation.check let pass and the library refuses.
func usageError(_ *cli.Context, err error, _ bool) error { return usagef("%w", err) }

// command completes a subcommand: common flags, their twins in the configuration
// file, and how wrong usage is reported.
func (p *program) command(c *cli.Command) *cli.Command {
	c.Flags = append(c.Flags, commonFlags()...)
	c.OnUsageError = usageError
	c.HideHelp = true
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
	n, usage := c.NArg(), synopsis(c.Command, "")
	switch {
	case n < least:
		return usagef("an argument is missing: %s", usage)
	case n > most:
		return usagef("an argument too many, %q: %s", shown(c.Args().Get(most)), usage)
	}
	return nil
}
