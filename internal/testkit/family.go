package testkit

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// member is a process, told apart from a later one of the same id by the time it was started, in
// clock ticks since boot.
type member struct {
	pid     int
	started string
}

type family []member

// descendants lists the children of a process, their children and so on.
func descendants(root int) (family, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]member{}
	for _, name := range stats {
		parent, m, err := readStat(name)
		if err != nil {
			continue // it ended in the meantime
		}
		children[parent] = append(children[parent], m)
	}
	var found family
	for next := children[root]; len(next) > 0; next = next[1:] {
		found = append(found, next[0])
		next = append(next, children[next[0].pid]...)
	}
	return found, nil
}

// readStat reads /proc/<pid>/stat, see proc(5). The second field, the program's name in brackets,
// may hold anything: what follows is counted from the last bracket.
func readStat(name string) (parent int, m member, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, member{}, err
	}
	pid, _, _ := bytes.Cut(text, []byte(" "))
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 {
		return 0, member{}, fmt.Errorf("read %s: only %d fields", name, len(fields))
	}
	if m.pid, err = strconv.Atoi(string(pid)); err != nil {
		return 0, member{}, fmt.Errorf("read %s: %w", name, err)
	}
	m.started = string(fields[19]) // starttime, field 22
	if string(fields[0]) == "Z" {
		m.started = "" // a zombie does nothing any more
	}
	parent, err = strconv.Atoi(string(fields[1]))
	return parent, m, err
}

func (m member) alive() bool {
	_, now, err := readStat(fmt.Sprintf("/proc/%d/stat", m.pid))
	return err == nil && now.started != "" && now.started == m.started
}

// gone reports whether all members have ended.
func (f family) gone() bool {
	for _, m := range f {
		if m.alive() {
			return false
		}
	}
	return true
}

// kill ends those who still live.
func (f family) kill() {
	for _, m := range f {
		if m.alive() {
			// It may end by itself at this very moment, so an error says nothing.
			_ = syscall.Kill(m.pid, syscall.SIGKILL)
		}
	}
}
