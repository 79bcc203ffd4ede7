package codec

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os/exec"
	"testing"

	"filippo.io/age"
)

const (
	testSystemID = 7312345678901234567
	testName     = "0000000100000002000000A3"
)

// pgbenchData looks like the WAL of pgbench: short updates of rows full of
// spaces. It compresses about as well.
func pgbenchData(n int) []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, n+256)
	for xid := uint32(700); len(b) < n; xid++ {
		for rel := range uint32(3) {
			b = appendRecord(b, rnd, xid, 16384+rel)
			b = binary.LittleEndian.AppendUint32(b, rnd.Uint32N(2_000_000))
			b = binary.LittleEndian.AppendUint32(b, rel)
			b = binary.LittleEndian.AppendUint32(b, rnd.Uint32N(10_000)-5_000)
			b = append(b, bytes.Repeat([]byte{' '}, 84)...)
		}
	}
	return b[:n]
}

// hardData looks like WAL of random uuid, jsonb and bytea columns.
func hardData(n int) []byte {
	rnd := rand.New(rand.NewPCG(3, 4))
	words := []string{"customer", "order", "pending", "shipped", "EUR", "note", "amount", "created"}
	b := make([]byte, 0, n+1024)
	for xid := uint32(700); len(b) < n; xid++ {
		b = appendRecord(b, rnd, xid, 16400)
		b = appendRandom(b, rnd, 16)
		for range 6 {
			b = append(b, words[rnd.IntN(len(words))]...)
			b = append(b, ' ')
		}
		b = appendRandom(b, rnd, 32)
	}
	return b[:n]
}

// appendRecord appends the header of a WAL record and its block reference.
func appendRecord(b []byte, rnd *rand.Rand, xid, relation uint32) []byte {
	b = binary.LittleEndian.AppendUint32(b, 180)
	b = binary.LittleEndian.AppendUint32(b, xid)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(b)))
	b = append(b, 0, 10, 0, 0)
	b = appendRandom(b, rnd, 4) // CRC
	b = binary.LittleEndian.AppendUint32(b, 1663)
	b = binary.LittleEndian.AppendUint32(b, 5)
	b = binary.LittleEndian.AppendUint32(b, relation)
	return binary.LittleEndian.AppendUint32(b, rnd.Uint32N(30_000))
}

func appendRandom(b []byte, rnd *rand.Rand, n int) []byte {
	for range n {
		b = append(b, byte(rnd.Uint32()))
	}
	return b
}

// noise does not compress.
func noise(n int) []byte {
	return appendRandom(make([]byte, 0, n), rand.New(rand.NewPCG(5, 6)), n)
}

func levels() []Level { return []Level{LevelFastest, LevelDefault, LevelBetter, LevelNone} }

// encode makes an object of content.
func encode(t testing.TB, content []byte, opts ObjectOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := EncodeObject(&out, testName, testSystemID, sumOf(t, content), bytes.NewReader(content), opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func sumOf(t testing.TB, content []byte) Sum {
	t.Helper()
	sum, err := SumReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// decode reads an object to its end.
func decode(object []byte, ids ...Identity) ([]byte, error) {
	r, err := NewObjectReader(bytes.NewReader(object), ids)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// key is a pair of keys of either kind.
type key struct {
	identity  Identity
	recipient Recipient
	private   string
}

func newKey(t testing.TB) key {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return key{id, id.Recipient(), id.String()}
}

func newHybridKey(t testing.TB) key {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return key{id, id.Recipient(), id.String()}
}

// needTools skips a test, and says so, where a command line tool is missing.
func needTools(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
}

// pipe runs a tool over input.
func pipe(t *testing.T, input []byte, name string, args ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, stderr.String())
	}
	return stdout.Bytes()
}
