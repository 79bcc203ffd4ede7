package walspool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDeliverAcrossFileSystems makes a copy beside dst first.
func TestDeliverAcrossFileSystems(t *testing.T) {
	spool, walDir := t.TempDir(), tmpfs(t, 4<<20)
	s, dst := mustOpen(t, spool), filepath.Join(walDir, "dst")
	before := openFiles(t)
	for _, content := range []string{"old", strings.Repeat("new", 300_000), ""} {
		if err := mustTemp(t, s, content).Deliver(dst); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, content)
	}
	if left := append(temps(t, spool), temps(t, filepath.Join(walDir, Hidden))...); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
}

// TestDeliverAcrossFileSystemsWithoutItsName: what becomes of the temporary name
// after the hand-over is no failure of it.
func TestDeliverAcrossFileSystemsWithoutItsName(t *testing.T) {
	spool, walDir := t.TempDir(), tmpfs(t, 4<<20)
	s, dst := mustOpen(t, spool), filepath.Join(walDir, "dst")
	f := mustTemp(t, s, "content")
	if err := os.Remove(temps(t, spool)[0]); err != nil {
		t.Fatal(err)
	}
	if err := copyBeside(f.f, dst); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dst, "content")
	if err := f.Discard(); err != nil {
		t.Error(err)
	}
}

// TestReadersSeeWholeFilesAcrossFileSystems polls while copies are made.
func TestReadersSeeWholeFilesAcrossFileSystems(t *testing.T) {
	spool, dst := t.TempDir(), filepath.Join(tmpfs(t, 16<<20), "dst")
	done := make(chan error, 1)
	go func() {
		var err error
		for n := 0; n < 100 && err == nil; n++ {
			err = deliverOne(spool, dst)
		}
		done <- err
	}()
	for {
		content, err := os.ReadFile(dst)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || err == nil && !isWhole(content) {
			t.Errorf("a reader sees %d bytes, %v", len(content), err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
		}
	}
}

// TestDiskFull: writing fails, and when there is room again, all goes on.
func TestDiskFull(t *testing.T) {
	dir := tmpfs(t, 1<<20)
	spool := filepath.Join(dir, "spool")
	s, dst := mustOpen(t, spool), filepath.Join(dir, "dst")
	if err := mustTemp(t, s, "old").Deliver(dst); err != nil {
		t.Fatal(err)
	}
	f := mustTemp(t, s, "")
	_, err := f.Write(make([]byte, 2<<20))
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("write 2 MiB to a disk of 1 MiB: %v", err)
	}
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dst, "old")
	if err := mustTemp(t, s, strings.Repeat("x", 500_000)).Deliver(dst); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestDestinationFull: the copy beside dst does not fit.
func TestDestinationFull(t *testing.T) {
	spool, walDir := t.TempDir(), tmpfs(t, 1<<20)
	s, dst := mustOpen(t, spool), filepath.Join(walDir, "dst")
	if err := mustTemp(t, s, "old").Deliver(dst); err != nil {
		t.Fatal(err)
	}
	before := openFiles(t)
	err := mustTemp(t, s, strings.Repeat("x", 2<<20)).Deliver(dst)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("deliver 2 MiB to a disk of 1 MiB: %v", err)
	}
	mustHold(t, dst, "old")
	if left := append(temps(t, spool), temps(t, filepath.Join(walDir, Hidden))...); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, %d were before", after, before)
	}
	if err := mustTemp(t, s, "new").Deliver(dst); err != nil {
		t.Errorf("after that: %v", err)
	}
}

// TestMarkOnAFullDisk fails or holds, and never lies.
func TestMarkOnAFullDisk(t *testing.T) {
	dir := tmpfs(t, 64<<10)
	s := mustOpen(t, dir)
	fill := mustTemp(t, s, "")
	for {
		if _, err := fill.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	if err := s.Mark("m"); (err == nil) != s.Marked("m", time.Hour) {
		t.Errorf("mark says %v, and it is marked: %v", err, s.Marked("m", time.Hour))
	}
	if err := fill.Discard(); err != nil {
		t.Fatal(err)
	}
}
