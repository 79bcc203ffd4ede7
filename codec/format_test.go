package codec

import (
	"os"
	"testing"
)

// formatDir holds objects that the first version of format 1 wrote. They must
// stay readable for ever: add to them, never write them anew.
const formatDir = "testdata/format1/"

// formatObjects are one of each level, and one for each kind of key.
var formatObjects = []string{"fastest", "default", "better", "none", "encrypted", "post-quantum"}

// formatIdentities returns the keys of the encrypted ones, which protect
// nothing else.
func formatIdentities(t testing.TB) []Identity {
	t.Helper()
	file, err := os.Open(formatDir + "key")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ids, err := ParseIdentities(file)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestFormatStaysReadable(t *testing.T) {
	ids := formatIdentities(t)
	content := "1\t0/3000000\tno recovery target specified\n\n2\t0/5000158\tbefore 2026-11-21 08:15:30+00\n"
	want := Fingerprint{
		Version: 1, Name: "00000003.history", SystemID: testSystemID,
		Size: int64(len(content)), SHA256: sumOf(t, []byte(content)).SHA256,
	}
	for _, name := range formatObjects {
		object, err := os.ReadFile(formatDir + name)
		if err != nil {
			t.Fatal(err)
		}
		if fp, err := ReadFingerprint(object); err != nil || fp != want {
			t.Errorf("%s: %v, %v", name, fp, err)
		}
		if got, err := decode(object, ids...); err != nil || string(got) != content {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
