package durable

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A powercut is a file system whose image can be copied at any moment, which
// is what a power loss leaves: what was not synced isn't in it.
type powercut struct {
	image, dir string
}

func newPowercut(t *testing.T) *powercut {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a file system")
	}
	tmp := t.TempDir()
	p := &powercut{image: filepath.Join(tmp, "image"), dir: filepath.Join(tmp, "mounted")}
	if err := os.WriteFile(p.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(p.image, 64<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", p.image).CombinedOutput(); err != nil {
		t.Skipf("can't make a file system: %v: %s", err, out)
	}
	p.mount(t, p.image, p.dir)
	return p
}

func (p *powercut) mount(t *testing.T, image, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-o", "loop", image, dir).CombinedOutput(); err != nil {
		t.Skipf("can't mount a file system: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
}

// after returns the directory as the next start of the machine finds it.
func (p *powercut) after(t *testing.T) string {
	t.Helper()
	image, dir := p.image+".copy", p.dir+".copy"
	if out, err := exec.Command("cp", "--sparse=always", p.image, image).CombinedOutput(); err != nil {
		t.Fatalf("copy the image: %v: %s", err, out)
	}
	p.mount(t, image, dir)
	return dir
}

func TestRenameSurvivesAPowerCut(t *testing.T) {
	p := newPowercut(t)
	content := strings.Repeat("content ", 10_000)
	if err := os.WriteFile(filepath.Join(p.dir, "tmp"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MkdirAll(filepath.Join(p.dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Rename(filepath.Join(p.dir, "tmp"), filepath.Join(p.dir, "a", "b", "dst")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(p.after(t), "a", "b", "dst"))
	if err != nil || string(got) != content {
		t.Errorf("after the power cut dst holds %d bytes, %v, want %d", len(got), err, len(content))
	}
}

func TestSyncTreeSurvivesAPowerCut(t *testing.T) {
	p := newPowercut(t)
	if err := os.MkdirAll(filepath.Join(p.dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	paths := []string{"one", "a/two", "a/b/three"}
	for _, path := range paths {
		if err := os.WriteFile(filepath.Join(p.dir, path), []byte(path), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := SyncTree(filepath.Join(p.dir, "a")); err != nil {
		t.Fatal(err)
	}
	after := p.after(t)
	for _, path := range paths[1:] {
		if got, err := os.ReadFile(filepath.Join(after, path)); err != nil || string(got) != path {
			t.Errorf("after the power cut %s holds %q, %v", path, got, err)
		}
	}
}
