package commands

import (
	"debug/elf"
	"os"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
)

// maxBinary is how large the shipped binary may get.
const maxBinary = 30_000_000

func TestBinaryIsStaticAndSmall(t *testing.T) {
	path := testkit.Walden(t)
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a segment %s: it is linked dynamically", p.Type)
		}
	}
	libraries, err := f.ImportedLibraries()
	if len(libraries) > 0 {
		t.Errorf("it needs %q (error: %v)", libraries, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() > maxBinary {
		t.Errorf("it has %d bytes, which is more than %d", info.Size(), maxBinary)
	}
}

// TestBinaryTellsItsVersion shows how long a start takes, without judging it: that
// depends on what else the machine does.
func TestBinaryTellsItsVersion(t *testing.T) {
	cmd := testkit.Cmd{Args: []string{"--version"}, Path: testkit.Walden(t), Dir: testkit.Dir(t)}
	began := time.Now()
	res := testkit.Run(t, cmd)
	t.Logf("walden --version took %s", time.Since(began))
	if res.Code != 0 || strings.TrimSpace(res.Stdout) != "walden test" || res.Stderr != "" {
		t.Errorf("%+v", res)
	}
}
