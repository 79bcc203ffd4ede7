package main_test

import (
	"strings"
	"testing"
)

// layers are the packages of walden, top first. A package may import those of lower layers, and none
// of its own layer. A package below one of these belongs to it.
var layers = [][]string{
	{"commands"},
	{"archive", "backup", "agent"},
	{"catalog", "walspool"},
	{"storage", "codec", "postgres/server", "postgres/pgdata", "postgres/wal"},
}

// sideways are the imports within a layer that are wanted: the packages about PostgreSQL build on each other.
var sideways = map[string][]string{
	"postgres/server": {"postgres/pgdata", "postgres/wal"},
	"postgres/pgdata": {"postgres/wal"},
}

// forbidden are imports that the layers would allow.
var forbidden = map[string][]string{
	"walspool": {"storage"}, // the spool is a local directory and nothing else
}

// leaves lists directories whose packages everybody may import, and which import no other package of walden.
const leaves = "internal/"

// testOnly are packages that only tests may import. They are free to import what they like.
var testOnly = []string{"internal/testkit", "storage/storagetest"}

// confined says which packages may import a library. A library that isn't here may be imported by none.
var confined = map[string][]string{
	"github.com/urfave/cli/v2":      {"main", "commands"},
	"github.com/BurntSushi/toml":    {"commands"},
	"github.com/mattn/go-isatty":    {"commands"},          // is somebody watching? zerolog needs it anyway
	"github.com/rs/zerolog":         {"commands", "agent"}, // who else has something to say returns it
	"github.com/minio/minio-go/v7":  {"storage"},
	"github.com/klauspost/compress": {"codec"},
	"github.com/cespare/xxhash/v2":  {"codec"},
	"filippo.io/age":                {"codec"},
	"github.com/jackc/pgx/v5":       {"postgres/server"},
	"golang.org/x/sync":             everywhere,
	"golang.org/x/sys":              everywhere,
}

var everywhere = []string{"*"}

// onlyStandard are packages that use the standard library alone, so that anybody may take them along.
var onlyStandard = []string{"postgres/wal"}

// bannedNames may not be used below commands, where nothing prints, exits, or reads flags or the
// environment: values are passed down, and results and errors returned. A package's path alone bans all of it.
var bannedNames = []string{
	"flag", "log", "log/slog",
	"fmt.Print", "fmt.Printf", "fmt.Println",
	"os.Args", "os.Environ", "os.Exit", "os.ExpandEnv", "os.Getenv", "os.LookupEnv", "os.Setenv", "os.Stderr", "os.Stdin", "os.Stdout",
	"syscall.Environ", "syscall.Exit", "syscall.Getenv",
}

// excepted are banned names that a package may use all the same.
var excepted = map[string][]string{
	"storage": {"os.Getenv"}, // the AWS_* variables are a convention of all S3 clients, which minio-go reads by itself, too
}

// bannedFunctions may not be called, or declared, in any package.
var bannedFunctions = []string{"panic", "print", "println", "init"}

func TestImportsPointOneWay(t *testing.T) {
	files, err := parseModule(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("found no source files")
	}
	for _, f := range files {
		for _, violation := range f.check() {
			t.Error(violation)
		}
	}
}

func TestImportRuleCatches(t *testing.T) {
	for _, c := range []struct {
		file, source, want string
	}{
		{"archive/a.go", `import "walden/backup"`, "archive may not import backup"},
		{"archive/a.go", `import "walden/commands"`, "archive may not import commands"},
		{"archive/parts/a.go", `import "walden/backup"`, "archive may not import backup"},
		{"main.go", `import "walden/storage"`, "main may not import storage"},
		{"catalog/a.go", `import "walden/walspool"`, "catalog may not import walspool"},
		{"walspool/a.go", `import "walden/storage"`, "walspool may not import storage"},
		{"postgres/wal/a.go", `import "walden/postgres/pgdata"`, "postgres/wal may not import postgres/pgdata"},
		{"postgres/wal/a.go", `import "golang.org/x/sys/unix"`, "postgres/wal may import only the standard library"},
		{"internal/durable/a.go", `import "walden/codec"`, "internal/durable may not import codec"},
		{"storage/a.go", `import "walden/internal/testkit"`, "only tests may import internal/testkit"},
		{"elsewhere/a.go", ``, "elsewhere has no layer"},
		{"archive/a.go", `import "github.com/minio/minio-go/v7/pkg/credentials"`, "archive may not import github.com/minio/minio-go/v7"},
		{"commands/a.go", `import "filippo.io/age"`, "commands may not import filippo.io/age"},
		{"codec/a.go", `import "example.com/new"`, "codec may not import example.com/new"},
		{"codec/a.go", `import . "os"`, "don't import with a dot"},
		{"codec/a.go", `import "log"`, "log may not be used"},
		{"codec/a.go", `import "os"; var _ = os.Getenv("HOME")`, "os.Getenv may not be used"},
		{"codec/a.go", `import system "os"; func f() { system.Exit(1) }`, "os.Exit may not be used"},
		{"codec/a.go", `import "fmt"; func f() { fmt.Println() }`, "fmt.Println may not be used"},
		{"commands/a.go", `func f() { panic("no") }`, "panic may not be used"},
		{"commands/a.go", `func init() {}`, "init may not be used"},
	} {
		f, err := parseFile(c.file, "package p; "+c.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(f.check(), "\n"); !strings.Contains(got, c.want) {
			t.Errorf("%s: %s\n\tgot %q, want %q", c.file, c.source, got, c.want)
		}
	}
}

func TestImportRuleAllows(t *testing.T) {
	for _, c := range []struct{ file, source string }{
		{"main.go", `import ("os"; "walden/commands"); func f() { os.Exit(1) }`},
		{"commands/a.go", `import ("os"; "walden/storage"; "walden/archive"; "github.com/urfave/cli/v2"); var _ = os.Stdout`},
		{"archive/a.go", `import ("walden/walspool"; "walden/postgres/wal"; "walden/internal/durable"; "golang.org/x/sync/errgroup")`},
		{"postgres/server/a.go", `import ("walden/postgres/pgdata"; "github.com/jackc/pgx/v5/pgconn")`},
		{"storage/storagetest/a.go", `import "walden/internal/testkit"`},
		{"codec/a.go", `import ("fmt"; "os"); type T struct{}; func (T) init() {}; func f() { fmt.Sprintln(os.ErrExist) }`},
	} {
		f, err := parseFile(c.file, "package p; "+c.source)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.check(); len(got) != 0 {
			t.Errorf("%s: %s\n\tgot %q, want nothing", c.file, c.source, got)
		}
	}
}
