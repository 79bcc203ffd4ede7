package server

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"walden/postgres/pgdata"
)

// startWindow is how much later than its entry in postmaster.pid a postmaster
// may record its start: in between it sets up its shared memory.
const startWindow = 30 * time.Second

const timeLayout = "2006-01-02 15:04:05.999999 MST"

// Prove makes sure that the server that gave id runs the data directory
// dataDir, whose pg_control and postmaster.pid are ctl and pid. System
// identifier, data directory, port and start time must agree and, where the
// server let us see its own postmaster.pid, its process ID too: a cluster that
// was copied with its files, or another one on the same host, does not pass.
//
// ErrOtherCluster shows both identities side by side, on several lines.
// ErrDenied means that the server's role sees too little to tell.
func Prove(id Identity, dataDir string, ctl pgdata.Control, pid pgdata.PostmasterPID) error {
	own, err := ownPostmasterPID(id)
	if err != nil {
		return fmt.Errorf("prove that the server runs %s: %w", dataDir, err)
	}
	traits := compare(id, own, dataDir, ctl, pid)
	for _, t := range traits {
		if t.differs {
			return &failure{kind: ErrOtherCluster, text: sideBySide(dataDir, traits)}
		}
	}
	if id.DataDirectory == "" && own == nil {
		return &failure{kind: ErrDenied, text: fmt.Sprintf("prove that the server runs %s: this role may not see the server's "+
			"data_directory: GRANT pg_read_all_settings to it, or connect as a superuser", dataDir)}
	}
	return nil
}

// ownPostmasterPID is nil where the server didn't show the file.
func ownPostmasterPID(id Identity) (*pgdata.PostmasterPID, error) {
	if id.PostmasterPIDFile == nil {
		return nil, nil
	}
	own, err := pgdata.ParsePostmasterPID(id.PostmasterPIDFile)
	if err != nil {
		return nil, fmt.Errorf("the server's own postmaster.pid: %w", err)
	}
	return &own, nil
}

// trait is one thing that tells clusters apart, as the server and as the data
// directory have it.
type trait struct {
	name, server, local string
	differs             bool
}

func compare(id Identity, own *pgdata.PostmasterPID, dataDir string, ctl pgdata.Control, pid pgdata.PostmasterPID) []trait {
	const hidden = "(not shown to this role)"
	processID, serverDir := hidden, id.DataDirectory
	otherProcess, sameFile := false, false
	if own != nil {
		processID, serverDir = strconv.Itoa(own.PID), cmp.Or(serverDir, own.DataDir)
		otherProcess = own.PID != pid.PID
		sameFile = own.PID == pid.PID && own.DataDir == pid.DataDir && own.Port == pid.Port && own.StartTime.Equal(pid.StartTime)
	}
	lag := id.StartTime.Sub(pid.StartTime)
	// A server that has written this very postmaster.pid may take its time.
	inWindow := lag >= 0 && (lag <= startWindow || sameFile)
	otherStart := !inWindow || own != nil && !own.StartTime.Equal(pid.StartTime)
	return []trait{
		{"system identifier", strconv.FormatUint(id.SystemID, 10), strconv.FormatUint(ctl.SystemID, 10), id.SystemID != ctl.SystemID},
		{"data directory", cmp.Or(serverDir, hidden), dataDir, serverDir != "" && !sameDirectory(serverDir, dataDir)},
		{"port", strconv.Itoa(id.Port), strconv.Itoa(pid.Port), id.Port != pid.Port},
		{"started", id.StartTime.UTC().Format(timeLayout), pid.StartTime.UTC().Format(timeLayout), otherStart},
		{"process ID", processID, strconv.Itoa(pid.PID), otherProcess},
	}
}

// sameDirectory compares what the paths lead to, or the paths themselves where
// one of them can't be seen from here.
func sameDirectory(theirs, ours string) bool {
	a, errA := os.Stat(theirs)
	b, errB := os.Stat(ours)
	if errA == nil && errB == nil {
		return os.SameFile(a, b)
	}
	if real, err := filepath.EvalSymlinks(ours); err == nil {
		ours = real
	}
	if abs, err := filepath.Abs(ours); err == nil {
		ours = abs
	}
	return filepath.Clean(theirs) == filepath.Clean(ours)
}

func sideBySide(dataDir string, traits []trait) string {
	var b strings.Builder
	fmt.Fprintf(&b, "the server that answers does not run %s (what differs is marked with *):\n", dataDir)
	width := len("the server")
	for _, t := range traits {
		width = max(width, len(t.server))
	}
	fmt.Fprintf(&b, "    %-18s %-*s  %s", "", width, "the server", "the data directory")
	for _, t := range traits {
		mark := ' '
		if t.differs {
			mark = '*'
		}
		fmt.Fprintf(&b, "\n  %c %-18s %-*s  %s", mark, t.name, width, t.server, t.local)
	}
	b.WriteString("\nGive the data directory that is meant, or correct --dsn, PGHOST and PGPORT, which beat what its postmaster.pid says.")
	return b.String()
}
