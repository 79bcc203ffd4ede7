package commands

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// run runs a program of the script and returns its exit code.
func run(ts *testscript.TestScript, program string, args ...string) int {
	err := ts.Exec(program, args...)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		ts.Fatalf("run %s: %v", program, err)
	}
	if err == nil {
		return 0
	}
	return exit.ExitCode()
}

// exits CODE [NAME=value...] [ARGUMENT...] runs walden, with further variables in
// its environment, and requires its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: exits CODE [NAME=value...] [ARGUMENT...]")
	}
	words := args[1:]
	n := 0
	for n < len(words) && isVariable(words[n]) {
		n++
	}
	call := append(append(append([]string{}, words[:n]...), "walden"), words[n:]...)
	if code := run(ts, "env", call...); strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func isVariable(word string) bool {
	name, _, found := strings.Cut(word, "=")
	return found && name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// fails CODE PATTERN [NAME=value...] [ARGUMENT...] is exits, and requires that
// walden prints nothing but one line on standard error, which matches the pattern.
func fails(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: fails CODE PATTERN [NAME=value...] [ARGUMENT...]")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	exits(ts, false, append([]string{args[0]}, args[2:]...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("standard output is not empty")
	}
	line, found := strings.CutPrefix(ts.ReadFile("stderr"), "walden: error: ")
	if !found || strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
		ts.Fatalf("standard error is not one line that tells an error")
	}
	if !pattern.MatchString(strings.TrimSuffix(line, "\n")) {
		ts.Fatalf("the message does not match %s", args[1])
	}
}

// stops PATTERN [NAME=value...] [ARGUMENT...] runs walden twice, which must fail as
// fails says: with 200, which stops a recovery, and with 2 where standby.signal is
// in the working directory, on which a standby tries again.
func stops(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: stops PATTERN [NAME=value...] [ARGUMENT...]")
	}
	fails(ts, false, append([]string{"200"}, args...))
	signal := ts.MkAbs("standby.signal")
	ts.Check(os.WriteFile(signal, nil, 0o600))
	fails(ts, false, append([]string{"2"}, args...))
	ts.Check(os.Remove(signal))
}

// flip FILE OFFSET changes one bit of a byte; a negative offset counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	data := []byte(ts.ReadFile(args[0]))
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	if offset < 0 {
		offset += len(data)
	}
	if offset < 0 || offset >= len(data) {
		ts.Fatalf("%s has %d bytes", args[0], len(data))
	}
	data[offset] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// expand FILE... puts the values of variables into files.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: expand FILE...")
	}
	for _, file := range args {
		text := os.Expand(ts.ReadFile(file), ts.Getenv)
		ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
	}
}

// truncate FILE SIZE makes a file shorter, or longer by zeros.
func truncate(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: truncate FILE SIZE")
	}
	size, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), size))
}

// listen [mute] starts a server that hangs up on all who come, or lets them wait if it
// is mute, and sets LISTENER to its address. The command came requires then that
// somebody did, unless it is mute.
func listen(ts *testscript.TestScript, neg bool, args []string) {
	mute := len(args) == 1 && args[0] == "mute"
	if neg || len(args) > 0 && !mute {
		ts.Fatalf("usage: listen [mute]")
	}
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { socket.Close() })
	ts.Setenv("LISTENER", socket.Addr().String())
	var came atomic.Int64
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			came.Add(1)
			if mute {
				defer conn.Close()
			} else {
				conn.Close()
			}
		}
	}()
	if mute {
		return
	}
	ts.SetCmd("came", func(ts *testscript.TestScript, neg bool, _ []string) {
		// Connections are taken in their order: behind ours, all before are counted.
		conn, err := net.Dial("tcp", socket.Addr().String())
		ts.Check(err)
		defer conn.Close()
		_, _ = io.ReadAll(conn)
		if others := came.Swap(0) - 1; (others > 0) == neg {
			ts.Fatalf("%d connections came", others)
		}
	})
}
