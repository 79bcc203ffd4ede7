package wal_test

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"walden/postgres/wal"
)

// captured is what one server of ../testdata is known to have: see README.md there.
type captured struct {
	major   int
	size    wal.SegmentSize
	first   string // the segment where its backup starts, of timeline 1
	forked  string // the first segment of timeline 3
	fork    string // where timeline 3 leaves timeline 2
	parents string // where timeline 2 leaves timeline 1
}

func (c captured) dir() string { return filepath.Join("..", "testdata", strconv.Itoa(c.major)) }

func (c captured) read(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir(), name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func allCaptured() []captured {
	return []captured{
		{13, 1 << 20, "000000010000000000000007", "000000030000000000000008", "0/8133B0", "0/A00000"},
		{14, 16 << 20, "000000010000000000000002", "000000030000000000000003", "0/30180A8", "0/5000000"},
		{15, 16 << 20, "000000010000000000000002", "000000030000000000000003", "0/3017498", "0/5000000"},
		{16, 64 << 20, "000000010000000000000002", "000000030000000000000003", "0/C018560", "0/14000000"},
		{17, 1 << 30, "000000010000000000000002", "000000030000000000000003", "0/C0015A50", "1/40000000"},
		{18, 16 << 20, "000000010000000000000002", "000000030000000000000003", "0/301A880", "0/5000000"},
	}
}

// eachCaptured runs a test for each captured server.
func eachCaptured(t *testing.T, test func(t *testing.T, c captured)) {
	for _, c := range allCaptured() {
		t.Run(strconv.Itoa(c.major), func(t *testing.T) { test(t, c) })
	}
}

func mustSegment(tb testing.TB, name string) wal.Segment {
	tb.Helper()
	s, err := wal.ParseSegment(name)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func mustLSN(tb testing.TB, s string) wal.LSN {
	tb.Helper()
	l, err := wal.ParseLSN(s)
	if err != nil {
		tb.Fatal(err)
	}
	return l
}
