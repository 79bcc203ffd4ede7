package commands

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"

	"walden/postgres/server"
)

// logger prints to standard error: one line an event, in a form for people or
// for machines.
type logger struct {
	zerolog.Logger
	out      *os.File
	terminal bool
}

func newLogger(out *os.File) *logger {
	l := &logger{out: out, terminal: isatty.IsTerminal(out.Fd())}
	l.Logger = zerolog.New(l.console()).Level(zerolog.InfoLevel)
	return l
}

// console prints the message alone, and the level in front where it matters:
// PostgreSQL and cron stamp the lines that they collect.
func (l *logger) console() zerolog.ConsoleWriter {
	return zerolog.ConsoleWriter{
		Out:        l.out,
		NoColor:    !l.terminal,
		PartsOrder: []string{zerolog.LevelFieldName, zerolog.MessageFieldName},
		FormatLevel: func(level any) string {
			switch level {
			case zerolog.LevelErrorValue:
				return "walden: error:"
			case zerolog.LevelWarnValue:
				return "walden: warning:"
			}
			return "walden:"
		},
	}
}

// configure applies the flags.
func (l *logger) configure(format string, verbose bool) error {
	level := l.GetLevel()
	if verbose {
		level = zerolog.DebugLevel
	}
	switch format {
	case "console":
		l.Logger = zerolog.New(l.console()).Level(level)
	case "json":
		l.Logger = zerolog.New(l.out).Level(level).With().Timestamp().Logger()
	default:
		return usagef("--log-format is console or json, not %q", format)
	}
	return nil
}

// quiet makes only warnings and errors show, unless somebody watches or asked
// for more: archive_command and restore_command run every second.
func (l *logger) quiet() {
	if !l.terminal && l.GetLevel() != zerolog.DebugLevel {
		l.Logger = l.Level(zerolog.WarnLevel)
	}
}

// fail prints why a command failed.
func (l *logger) fail(command string, err error) {
	if r := (*reported)(nil); errors.As(err, &r) {
		return
	}
	if command == "" {
		l.Error().Msg(oneLine(err))
		return
	}
	l.Error().Msg(fmt.Sprintf("%s: %s", command, oneLine(err)))
}

// oneLine renders an error as one line, except where two identities stand side
// by side in a table.
func oneLine(err error) string {
	text := strings.TrimPrefix(err.Error(), errUsage.Error()+": ")
	if errors.Is(err, server.ErrOtherCluster) {
		return text
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' }), "; ")
}
