// Testreport reads what go test -json writes, and prints what people want to know: a line for each
// package, the output of what failed, and every skipped test with its reason. Its exit code is 1 if
// anything failed, or didn't come to an end.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	ok, err := report(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

// event is what go test -json writes a line of: see go doc test2json.
type event struct {
	Action     string
	Package    string
	Test       string
	Output     string
	Elapsed    float64
	ImportPath string // in the output of a build, instead of Package
}

// run is a package's or a test's output up to now.
type run struct{ pkg, test string }

type reporter struct {
	w       io.Writer
	output  map[run][]string
	open    []string // packages that have begun and not ended
	skipped []string
	ended   int // packages
	failed  int // packages, tests and builds
}

// report returns whether all is well. Its error is that r can't be read.
func report(r io.Reader, w io.Writer) (bool, error) {
	rep := &reporter{w: w, output: map[run][]string{}}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			rep.line(line)
		}
		if err == io.EOF {
			return rep.finish(), nil
		}
		if err != nil {
			return false, err
		}
	}
}

func (r *reporter) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		r.w.Write(line) // go's own messages aren't JSON
		return
	}
	at := run{e.Package, e.Test}
	switch e.Action {
	case "start":
		r.open = append(r.open, e.Package)
	case "output":
		r.output[at] = append(r.output[at], e.Output)
	case "build-output":
		fmt.Fprint(r.w, e.Output)
	case "build-fail":
		r.failed++
	case "pass", "skip", "fail":
		r.end(e, at)
	}
}

// end prints what there is to say about a test, or a package, that has ended.
func (r *reporter) end(e event, at run) {
	text := strings.Join(r.output[at], "")
	delete(r.output, at)
	if e.Test == "" {
		r.ended++
		r.open = slices.DeleteFunc(r.open, func(pkg string) bool { return pkg == e.Package })
	}
	switch {
	case e.Action == "fail":
		r.failed++
		fmt.Fprint(r.w, text)
	case e.Action == "skip" && e.Test != "":
		r.skipped = append(r.skipped, fmt.Sprintf("%s %s\n%s", e.Package, e.Test, reason(text)))
	case e.Test == "" && e.Action == "pass":
		fmt.Fprintf(r.w, "ok   %s  %.1fs\n", e.Package, e.Elapsed)
	}
}

// reason leaves out the lines that only frame a test's output.
func reason(text string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(strings.TrimSpace(line), "--- ") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}

func (r *reporter) finish() bool {
	for _, pkg := range r.open {
		r.failed++
		fmt.Fprintf(r.w, "FAIL %s: it didn't come to an end\n", pkg)
	}
	if len(r.skipped) > 0 {
		fmt.Fprintf(r.w, "\nskipped: %d\n%s", len(r.skipped), strings.Join(r.skipped, ""))
	}
	if r.failed == 0 && r.ended > 0 {
		return true
	}
	fmt.Fprintf(r.w, "\nFAILED: %d packages ended, %d failures\n", r.ended, r.failed)
	return false
}
