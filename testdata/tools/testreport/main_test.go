package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, c := range []struct {
		name, in string
		ok       bool
		want     []string
		wantNot  string
	}{
		{
			name: "pass",
			in: `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":1.25}
`,
			ok: true, want: []string{"ok   p  1.2s"}, wantNot: "chatter",
		},
		{
			name: "fail",
			in: `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestA","Output":"one is not two\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}
`,
			want: []string{"one is not two", "FAILED"},
		},
		{
			name: "skip",
			in: `{"Action":"start","Package":"p"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: no zstd\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"--- SKIP: TestA\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}
`,
			ok: true, want: []string{"skipped: 1\np TestA\n    a_test.go:1: no zstd\n"}, wantNot: "SKIP:",
		},
		{
			name: "build failure",
			in: `{"Action":"build-output","ImportPath":"p","Output":"syntax error\n"}
{"Action":"build-fail","ImportPath":"p"}
`,
			want: []string{"syntax error", "FAILED"},
		},
		{name: "cut off", in: `{"Action":"start","Package":"p"}`, want: []string{"FAIL p: it didn't come to an end"}},
		{name: "not JSON", in: "go: no such flag\n", want: []string{"go: no such flag", "FAILED: 0 packages"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := report(strings.NewReader(c.in), &out)
			if err != nil || ok != c.ok {
				t.Errorf("got %v (error %v), want %v", ok, err, c.ok)
			}
			for _, want := range c.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("got %q, want %q in it", out.String(), want)
				}
			}
			if c.wantNot != "" && strings.Contains(out.String(), c.wantNot) {
				t.Errorf("got %q, want no %q in it", out.String(), c.wantNot)
			}
		})
	}
}
