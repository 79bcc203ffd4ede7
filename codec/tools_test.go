package codec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// keyFile writes a private key where the age command finds it.
func keyFile(t *testing.T, k key) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("# made for a test\n"+k.private+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// realSizes are those of an empty file, a .history file, a .backup file, and
// segments of 1, 16 and 64 MiB.
func realSizes() []int { return []int{0, 42, 337, 1 << 20, 16 << 20, 64 << 20} }

// TestObjectWithStandardTools reads objects with nothing but zstd and age.
func TestObjectWithStandardTools(t *testing.T) {
	needTools(t, "zstd", "age")
	k := newKey(t)
	path := keyFile(t, k)
	data := bytes.Repeat(pgbenchData(4<<20), 16)
	for _, level := range levels() {
		for _, size := range realSizes() {
			if size > 16<<20 && level != LevelFastest && level != LevelNone {
				continue // takes long, and shows nothing new
			}
			t.Run(fmt.Sprintf("%v/%d", level, size), func(t *testing.T) {
				content := data[:size]
				plain := encode(t, content, ObjectOptions{Level: level})
				if got := pipe(t, plain, "zstd", "-d"); !bytes.Equal(got, content) {
					t.Error("zstd -d: other content")
				}
				sealed := encode(t, content, ObjectOptions{Level: level, Recipients: []Recipient{newKey(t).recipient, k.recipient}})
				if got := pipe(t, pipe(t, sealed, "age", "-d", "-i", path), "zstd", "-d"); !bytes.Equal(got, content) {
					t.Error("age -d | zstd -d: other content")
				}
			})
		}
	}
}

// TestFrameDeclaresItsSize lets zstd say how long the content is.
func TestFrameDeclaresItsSize(t *testing.T) {
	needTools(t, "zstd")
	content := pgbenchData(1 << 20)
	for _, level := range levels() {
		path := filepath.Join(t.TempDir(), "object.zst")
		if err := os.WriteFile(path, encode(t, content, ObjectOptions{Level: level}), 0o600); err != nil {
			t.Fatal(err)
		}
		out := pipe(t, nil, "zstd", "-lv", path)
		if !bytes.Contains(out, []byte("(1048576 B)")) || !bytes.Contains(out, []byte("XXH64")) {
			t.Errorf("%v: zstd -lv says\n%s", level, out)
		}
	}
}

// TestFramesWithStandardTools reads the run of frames that a backup's slice is.
func TestFramesWithStandardTools(t *testing.T) {
	needTools(t, "zstd", "age")
	k := newKey(t)
	data := hardData(2*FrameSize + 12345)
	for _, level := range levels() {
		enc, err := NewFrameEncoder(level)
		if err != nil {
			t.Fatal(err)
		}
		var slice []byte
		for _, part := range [][]byte{data[:FrameSize], nil, data[FrameSize : FrameSize+1], data[FrameSize+1 : 2*FrameSize+1], data[2*FrameSize+1:]} {
			slice = enc.Append(slice, part)
		}
		if got := pipe(t, slice, "zstd", "-d"); !bytes.Equal(got, data) {
			t.Errorf("%v: zstd -d: other content", level)
		}
		sealed := seal(t, slice, k.recipient)
		if got := pipe(t, pipe(t, sealed, "age", "-d", "-i", keyFile(t, k)), "zstd", "-d"); !bytes.Equal(got, data) {
			t.Errorf("%v: age -d | zstd -d: other content", level)
		}
	}
}

// TestStreamWithStandardTools goes both ways: a manifest's stream read by zstd,
// and zstd's read by this package.
func TestStreamWithStandardTools(t *testing.T) {
	needTools(t, "zstd")
	content := pgbenchData(1 << 20)
	for _, level := range levels() {
		if got := pipe(t, zstdWrite(t, content, level), "zstd", "-d"); !bytes.Equal(got, content) {
			t.Errorf("%v: zstd -d: other content", level)
		}
	}
	for _, arg := range []string{"-1", "-3", "-19", "--fast=5"} {
		if got, err := zstdRead(pipe(t, content, "zstd", arg)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("zstd %s: other content, or %v", arg, err)
		}
	}
	if _, err := zstdRead(pipe(t, content, "zstd", "--long=27", "-1")); err == nil {
		t.Error("a window of 128 MiB was taken")
	}
}

// TestDecryptWithStandardTools reads what the age command encrypts.
func TestDecryptWithStandardTools(t *testing.T) {
	needTools(t, "age")
	k := newKey(t)
	content := hardData(200_000)
	sealed := pipe(t, content, "age", "-r", fmt.Sprint(k.recipient))
	if got, err := unseal(sealed, k.identity); err != nil || !bytes.Equal(got, content) {
		t.Errorf("other content, or %v", err)
	}
}
