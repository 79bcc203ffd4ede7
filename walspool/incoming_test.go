package walspool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"walden/postgres/wal"
)

const (
	segSize  = wal.MinSegmentSize
	segStart = wal.LSN(5 * segSize)
)

var (
	seg5 = wal.SegmentAt(1, segStart, segSize)
	seg6 = seg5.Next(segSize)
)

func openIncoming(t *testing.T, dir string) *Incoming {
	t.Helper()
	in, err := OpenIncoming(dir, segSize)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func incomingDir(t *testing.T) string { return filepath.Join(t.TempDir(), "spool", "receive", "x") }

// walBytes is what a server has on a timeline from segStart on.
func walBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// take receives all of p, in pieces, sealing what gets full.
func take(t *testing.T, in *Incoming, p []byte, piece int) {
	t.Helper()
	for len(p) > 0 {
		n, err := in.Write(p[:min(piece, len(p))])
		must(t, err)
		p = p[n:]
		if in.Full() {
			if _, err := in.Seal(); err != nil {
				t.Fatal(err)
			}
			must(t, in.Begin(in.segm.Next(segSize)))
		}
	}
}

func mustContain(t *testing.T, path string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s holds %d bytes (error: %v), want %d", path, len(got), err, len(want))
	}
}

func mustWait(t *testing.T, in *Incoming, want ...string) {
	t.Helper()
	if got, err := in.Waiting(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q wait (error: %v), want %q", got, err, want)
	}
}

func mustBeDurable(t *testing.T, in *Incoming, want Position) {
	t.Helper()
	if got := in.Durable(); got != want {
		t.Errorf("durable up to %s, want %s", got, want)
	}
}

// TestIncoming receives two segments and a part of the third, in pieces of all
// kinds, and goes on after it was closed.
func TestIncoming(t *testing.T) {
	for _, piece := range []int{1 << 10, 8192, 100001, 1 << 21} {
		dir, data := incomingDir(t), walBytes(1, int(segSize)*5/2)
		in := openIncoming(t, dir)
		mustBeDurable(t, in, Position{})
		must(t, in.Begin(seg5))
		mustBeDurable(t, in, Position{1, segStart})
		if _, _, ok := in.Unfinished(); ok {
			t.Error("something of the segment is there already")
		}
		take(t, in, data, piece)
		mustBeDurable(t, in, Position{1, segStart + 2*wal.LSN(segSize)})
		must(t, in.Flush())
		end := Position{1, segStart + wal.LSN(len(data))}
		mustBeDurable(t, in, end)
		mustWait(t, in, seg5.String(), seg6.String())
		mustContain(t, in.Path(seg5.String()), data[:segSize])
		mustContain(t, in.Path(seg6.String()), data[segSize:2*segSize])
		tail, path, ok := in.Unfinished()
		if !ok || tail.End != end.LSN || tail.Segment != seg6.Next(segSize) {
			t.Errorf("unfinished: %s, %v", tail, ok)
		}
		mustContain(t, path, data[2*segSize:])
		must(t, in.Remove(seg5.String()), in.Close())

		in = openIncoming(t, dir)
		mustBeDurable(t, in, end)
		must(t, in.Begin(tail.Segment))
		take(t, in, data[2*segSize:][:100], piece) // again, but not all
		must(t, in.Flush())
		mustBeDurable(t, in, end)
		mustContain(t, path, data[2*segSize:])
		more := walBytes(2, int(segSize))
		take(t, in, append(data[2*segSize+100:len(data):len(data)], more...), piece)
		mustWait(t, in, seg6.String(), tail.Segment.String())
		mustContain(t, in.Path(tail.Segment.String()), append(data[2*segSize:len(data):len(data)], more...)[:segSize])
		must(t, in.Close())
	}
}

// TestIncomingDiffers: WAL that was durable is never replaced by other WAL, and
// what was not durable is.
func TestIncomingDiffers(t *testing.T) {
	in := openIncoming(t, incomingDir(t))
	data := walBytes(1, 300000)
	must(t, in.Begin(seg5))
	take(t, in, data[:200000], 1<<20)
	must(t, in.Flush())
	take(t, in, data[200000:], 1<<20) // not flushed
	must(t, in.Begin(seg5))
	other := bytes.Clone(data)
	other[199999]++
	if n, err := in.Write(other); !errors.Is(err, ErrDiffers) || n > 199999 {
		t.Errorf("took %d bytes, %v", n, err)
	}
	must(t, in.Begin(seg5))
	other[199999]--
	other[200000]++
	take(t, in, other, 1<<20)
	must(t, in.Flush())
	mustContain(t, in.Path(seg5.String()+".partial"), other)
}

// TestIncomingLeave ends timelines: with more than the server has, with less than
// a header, and with nothing.
func TestIncomingLeave(t *testing.T) {
	dir, data := incomingDir(t), walBytes(1, 5000)
	in := openIncoming(t, dir)
	next := Position{2, segStart}
	must(t, in.Begin(seg5))
	take(t, in, data[:3000], 1<<20)
	must(t, in.Flush())
	take(t, in, data[3000:4000], 1<<20) // durable only by Leave
	name, err := in.Leave(next)
	must(t, err)
	want := fmt.Sprintf("%s.%016X.tail", seg5, uint64(segStart)+4000)
	if name != want {
		t.Errorf("the tail is %q, want %q", name, want)
	}
	mustContain(t, in.Path(want), data[:4000])
	mustBeDurable(t, in, next)
	must(t, in.Add("00000002.history", []byte("1\t0/500FA0\tx\n")))
	mustWait(t, in, "00000002.history", want)

	seg := wal.SegmentAt(2, segStart, segSize)
	must(t, in.Begin(seg))
	take(t, in, data, 1<<20)
	must(t, in.Flush(), in.Begin(seg)) // the session was lost, and the server leaves the timeline earlier than this
	take(t, in, data[:1000], 1<<20)
	name, err = in.Leave(Position{3, segStart})
	must(t, err)
	mustContain(t, in.Path(name), data)
	must(t, in.Begin(wal.SegmentAt(3, segStart, segSize)))
	take(t, in, data[:wal.LongHeaderSize-1], 1<<20)
	if name, err := in.Leave(Position{4, segStart}); name != "" || err != nil {
		t.Errorf("left %q, %v", name, err)
	}
	must(t, in.Close())
	in = openIncoming(t, dir)
	mustBeDurable(t, in, Position{4, segStart})
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("%v, %v", entries, err)
	}
}

// TestIncomingAfterCrash: what a crash or a power loss makes of the directory.
func TestIncomingAfterCrash(t *testing.T) {
	at := func(tli wal.Timeline, offset int) Position { return Position{tli, segStart + wal.LSN(offset)} }
	boundary := at(1, int(segSize))
	for what, c := range map[string]struct {
		note  string         // what position holds
		files map[string]int // name: bytes
		want  Position
	}{
		"nothing":                           {"", nil, Position{}},
		"a note alone":                      {string(boundary.record()), nil, boundary},
		"a segment under way":               {string(at(1, 700).record()), map[string]int{seg5.String() + ".partial": 900}, at(1, 700)},
		"its file is shorter than noted":    {string(at(1, 700).record()), map[string]int{seg5.String() + ".partial": 699}, at(1, 0)},
		"its file is gone":                  {string(at(1, 700).record()), nil, at(1, 0)},
		"sealed, but not noted":             {string(at(1, 700).record()), map[string]int{seg5.String(): int(segSize)}, boundary},
		"sealed twice, and an old note":     {string(at(1, 700).record()), map[string]int{seg5.String(): int(segSize), seg6.String(): int(segSize)}, at(1, 2*int(segSize))},
		"left, but not noted":               {string(at(1, 700).record()), map[string]int{seg5.String() + ".00000000005002BC.tail": 700}, at(1, 0)},
		"no note, a segment under way":      {"", map[string]int{seg6.String() + ".partial": 900, seg5.String(): int(segSize)}, boundary},
		"a torn note":                       {string(boundary.record()[:20]), map[string]int{seg5.String(): int(segSize)}, boundary},
		"a damaged note, two timelines":     {"00000001 0000000000500000 00000000\n", map[string]int{seg5.String(): int(segSize), "000000020000000000000003.partial": 1}, Position{2, 3 * wal.LSN(segSize)}},
		"files that are none of its own":    {string(at(1, 700).record()), map[string]int{"tmp-1": 3, "walden-2": 3, "x": 1, seg5.String() + ".partial": 700}, at(1, 700)},
		"a segment of another timeline":     {string(at(2, 0).record()), map[string]int{seg5.String(): int(segSize)}, at(2, 0)},
		"a longer file of another timeline": {string(at(2, 5).record()), map[string]int{seg5.String() + ".partial": 50}, at(2, 0)},
	} {
		t.Run(what, func(t *testing.T) {
			dir := incomingDir(t)
			must(t, os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, positionName), []byte(c.note), 0o600))
			for name, n := range c.files {
				must(t, os.WriteFile(filepath.Join(dir, name), make([]byte, n), 0o600))
			}
			in := openIncoming(t, dir)
			mustBeDurable(t, in, c.want)
			for _, gone := range []string{"tmp-1", "walden-2"} {
				if _, err := os.Stat(in.Path(gone)); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s is left (%v)", gone, err)
				}
			}
			if c.want.IsZero() {
				return
			}
			// Receiving goes on, and whatever was there before, the segment becomes whole.
			s := wal.SegmentAt(c.want.Timeline, c.want.LSN, segSize)
			must(t, in.Begin(s))
			if tail, _, ok := in.Unfinished(); ok && tail.End != c.want.LSN {
				t.Errorf("the tail is %s", tail)
			}
			mustBeDurable(t, in, c.want)
			data := append(make([]byte, c.want.LSN-s.Start(segSize)), walBytes(3, int(segSize))...)[:segSize]
			take(t, in, data, 1<<20)
			mustContain(t, in.Path(s.String()), data)
		})
	}
}

// TestIncomingFound: what lies behind the noted position may have been durable, so
// it counts until it is received once more.
func TestIncomingFound(t *testing.T) {
	dir, data := incomingDir(t), append(walBytes(1, 5000), make([]byte, 400_000)...)
	data[4999] = 1
	must(t, os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, positionName), Position{1, segStart + 700}.record(), 0o600),
		os.WriteFile(filepath.Join(dir, seg5.String()+".partial"), data, 0o600))
	in := openIncoming(t, dir)
	mustBeDurable(t, in, Position{1, segStart + 700})
	tail, path, ok := in.Unfinished()
	if !ok || tail.End != segStart+5000 || tail.Segment != seg5 || path != in.Path(seg5.String()+".partial") {
		t.Errorf("unfinished: %s at %s, %v", tail, path, ok)
	}
	must(t, in.Begin(seg5))
	if tail, _, ok := in.Unfinished(); !ok || tail.End != segStart+700 {
		t.Errorf("unfinished, once begun: %s, %v", tail, ok)
	}
}

func TestFilled(t *testing.T) {
	for _, c := range []struct{ n, zeros int }{{0, 0}, {0, 5}, {1, 0}, {1, 1}, {9, 0}, {10, 0}, {10, 10}, {11, 9}, {25, 31}} {
		content := append(bytes.Repeat([]byte{1}, c.n), make([]byte, c.zeros)...)
		got, err := filled(bytes.NewReader(content), int64(len(content)), make([]byte, 10))
		if err != nil || got != int64(c.n) {
			t.Errorf("%d bytes and %d zeros: %d, %v", c.n, c.zeros, got, err)
		}
	}
}

func TestIncomingLock(t *testing.T) {
	dir := incomingDir(t)
	in := openIncoming(t, dir)
	if _, err := OpenIncoming(dir, segSize); !errors.Is(err, ErrBusy) {
		t.Errorf("opened twice: %v", err)
	}
	must(t, in.Close())
	openIncoming(t, dir)
}

func TestIncomingKey(t *testing.T) {
	spool := t.TempDir()
	a, b := RepositoryKey("s3://a"), RepositoryKey("s3://b")
	keys := []IncomingKey{{a, 7312345678901234567, segSize}, {a, 7312345678901234568, 64 << 20}, {b, 1, segSize}}
	for _, k := range keys {
		openIncoming(t, k.Dir(spool))
	}
	for _, name := range []string{"x", a + "-0-1048576", a + "-01-1048576", a + "-1-1048577", a + "-1-1048576-2", a + "--"} {
		must(t, os.Mkdir(filepath.Join(spool, incomingName, name), 0o700))
	}
	for repository, want := range map[string][]IncomingKey{a: keys[:2], b: keys[2:], "": nil} {
		if got, err := FindIncoming(spool, repository); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", repository, got, err)
		}
	}
	if got, err := FindIncoming(filepath.Join(spool, "none"), a); err != nil || got != nil {
		t.Errorf("no spool: %v, %v", got, err)
	}
}

func FuzzParsePosition(f *testing.F) {
	for _, s := range []string{"", string(Position{1, segStart}.record()), "00000001 0000000000500000 00000000\n", "00000001 0000000000500000 "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		p, err := parsePosition(record)
		switch {
		case err == nil && !bytes.Equal(p.record(), record):
			t.Errorf("%q reads as %q", record, p.record())
		case err != nil && !p.IsZero():
			t.Errorf("%q: %s, %v", record, p, err)
		}
	})
}
