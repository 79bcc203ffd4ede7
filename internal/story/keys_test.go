package story

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// keyPair is an age key. The zero value stands for no encryption.
type keyPair struct{ public, private string }

// noKeys stores everything as it is.
func noKeys(testing.TB) keyPair { return keyPair{} }

// newKeys makes a key with age's own tool. The private half stays in memory until a restore needs it, so
// that nothing can have read it before.
func newKeys(t testing.TB) keyPair {
	t.Helper()
	res := testkit.Run(t, testkit.Cmd{Path: testkit.Tool(t, "age-keygen")})
	var k keyPair
	for line := range strings.Lines(res.Stdout) {
		line = strings.TrimSpace(line)
		if public, ok := strings.CutPrefix(line, "# public key: "); ok {
			k.public = public
		}
		if strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			k.private = line
		}
	}
	if res.Code != 0 || k.public == "" || k.private == "" {
		t.Fatalf("age-keygen: exit %d\n%s", res.Code, res.Stderr)
	}
	return k
}

// encrypted reports whether there is a key.
func (k keyPair) encrypted() bool { return k.public != "" }

// sourceEnv is all that the host of the database knows of the key.
func (k keyPair) sourceEnv() []string {
	if !k.encrypted() {
		return nil
	}
	return []string{"WALDEN_RECIPIENT=" + k.public}
}

// restoreEnv brings the private half to a host that restores.
func (k keyPair) restoreEnv(t testing.TB) []string {
	t.Helper()
	if !k.encrypted() {
		return nil
	}
	return []string{"WALDEN_IDENTITY=" + k.file(t)}
}

// file writes the private half where the server's user can read it.
func (k keyPair) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(testkit.Dir(t), "key.txt")
	if err := os.WriteFile(path, []byte(k.private+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	testkit.GiveToServer(t, path)
	return path
}

// mustNeedKey fails the test if a host without the private key can restore, or writes anything.
func mustNeedKey(t testing.TB, repo repository, target ...string) {
	t.Helper()
	dir := filepath.Join(testkit.Dir(t), "unreadable")
	res := repo.host().walden(t, append([]string{"backup-fetch", dir, "latest"}, target...)...)
	if res.Code != 1 || !strings.Contains(res.Stderr, "--identity") {
		t.Errorf("restored without a private key: exit %d\n%s", res.Code, res.Stderr)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("without a private key, something was written to %s (error: %v)", dir, err)
	}
}
