// Walden backs up PostgreSQL and archives its WAL to S3-compatible object storage
// or a directory.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"walden/commands"
)

// version is set by the linker.
var version = "devel"

func main() {
	// PostgreSQL sends SIGQUIT to its commands at an immediate shutdown.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	code := commands.Run(ctx, commands.Environment{
		Stdout:  os.Stdout,
		Stderr:  os.Stderr,
		Getenv:  os.Getenv,
		Environ: os.Environ,
		Version: version,
	}, os.Args[1:])
	stop()
	os.Exit(code)
}
