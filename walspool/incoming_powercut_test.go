package walspool

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/postgres/wal"
)

// TestIncomingSurvivesPowerCuts cuts the power at random moments while WAL is
// received. What was said to be durable is there, whole segments and the beginning
// of the last, and receiving goes on.
func TestIncomingSurvivesPowerCuts(t *testing.T) {
	if os.Geteuid() != 0 {
		testkit.SkipUnlessCI(t, "only root can mount a file system")
	}
	tmp := t.TempDir()
	image, mounted := filepath.Join(tmp, "image"), filepath.Join(tmp, "mounted")
	must(t, os.WriteFile(image, nil, 0o600), os.Truncate(image, 48<<20))
	tool(t, "mkfs.ext4", "-q", image)
	mount(t, image, mounted)

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	data := walBytes(1, 12*int(segSize))
	in := openIncoming(t, filepath.Join(mounted, "receive"))
	must(t, in.Begin(seg5))
	segments := map[string]bool{}
	for cuts, at := 0, 0; cuts < 12; {
		n, err := in.Write(data[at:][:1+random.IntN(200_000)])
		must(t, err)
		at += n
		if in.Full() {
			name, err := in.Seal()
			must(t, err)
			segments[name] = true
			if len(segments) > 8 {
				t.Fatal("the WAL is at its end")
			}
			maybe(random, func() { // stored, and gone
				must(t, in.Remove(name))
				delete(segments, name)
			})
			must(t, in.Begin(in.segm.Next(segSize)))
		}
		maybe(random, func() { must(t, in.Flush()) })
		maybe(random, func() {
			cuts++
			checkAfterPowerCut(t, image, in.Durable(), segments, data)
		})
	}
	must(t, in.Close())
}

// maybe does something every fourth time.
func maybe(random *rand.Rand, do func()) {
	if random.IntN(4) == 0 {
		do()
	}
}

func checkAfterPowerCut(t *testing.T, image string, said Position, segments map[string]bool, data []byte) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "image")
	tool(t, "cp", "--sparse=always", image, copied)
	dir := copied + ".mounted"
	mount(t, copied, dir)
	in := openIncoming(t, filepath.Join(dir, "receive"))
	got := in.Durable()
	s := wal.SegmentAt(1, got.LSN, segSize)
	start := s.Start(segSize)
	// The note of a position within a segment may be lost; what it spoke of is not.
	if got.Timeline != 1 || start != said.LSN-said.LSN%wal.LSN(segSize) {
		t.Errorf("durable up to %s, but it was said to be up to %s", got, said)
	}
	partial, err := os.ReadFile(in.Path(s.String() + partialName))
	if want := data[start-segStart : said.LSN-segStart]; err != nil && len(want) > 0 || !bytes.HasPrefix(partial, want) {
		t.Errorf("%s begins with other bytes than the %d that were durable (%v)", s, len(want), err)
	}
	if tail, path, ok := in.Unfinished(); ok || said.LSN >= start+wal.LongHeaderSize {
		content, err := os.ReadFile(path)
		must(t, err)
		content = append(content[:tail.End-start], make([]byte, segSize)...) // as it is handed over
		if want := data[start-segStart : said.LSN-segStart]; !bytes.HasPrefix(content, want) {
			t.Errorf("the tail up to %s does not hold all that was durable up to %s", tail.End, said.LSN)
		}
	}
	for name := range segments {
		seg, err := wal.ParseSegment(name)
		must(t, err)
		mustContain(t, in.Path(name), data[seg.Start(segSize)-segStart:][:segSize])
	}
	must(t, in.Begin(s))
	rest := data[start-segStart:][:segSize]
	n, err := in.Write(rest)
	must(t, err)
	if n != len(rest) {
		t.Fatalf("took %d bytes", n)
	}
	name, err := in.Seal()
	must(t, err)
	mustContain(t, in.Path(name), rest)
	must(t, in.Close())
}

func mount(t *testing.T, image, dir string) {
	t.Helper()
	must(t, os.Mkdir(dir, 0o700))
	tool(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil { // also after a failure that left files open
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(testkit.Tool(t, name), args...).CombinedOutput(); err != nil {
		testkit.SkipUnlessCI(t, name+": "+err.Error()+": "+string(out))
	}
}
