package spill

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"testing"
)

func TestBufferGivesBackWhatWasWritten(t *testing.T) {
	for _, size := range []int{0, 1, 99, 100, 101, 5000} {
		dir := t.TempDir()
		b := &Buffer{Limit: 100, Dir: dir}
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(60))
			if _, err := b.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if b.Size() != int64(size) {
			t.Errorf("size %d, want %d", b.Size(), size)
		}
		if spilled := b.file != nil; spilled != (size > 100) {
			t.Errorf("%d bytes with a limit of 100: in a file is %v", size, spilled)
		}
		for range 2 { // a second reader starts anew
			got, err := io.ReadAll(b.Reader())
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("read back %d bytes, %v; want the %d written", len(got), err, size)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("a name is left in the directory: %v", left)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBufferReportsAMissingDirectory(t *testing.T) {
	b := &Buffer{Limit: 1, Dir: t.TempDir() + "/none"}
	if _, err := b.Write([]byte("ab")); err == nil {
		t.Fatal("no error although the temporary file can't be created")
	}
}
