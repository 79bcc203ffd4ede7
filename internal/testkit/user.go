package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// serverUser is who servers run as.
type serverUser struct {
	name     string
	uid, gid int
	other    bool // it is not the user that runs the tests
}

// currentServer is the user of this process; if that is root, postgres or nobody.
var currentServer = sync.OnceValues(func() (serverUser, error) {
	if os.Geteuid() != 0 {
		u, err := user.Current()
		if err != nil {
			return serverUser{}, fmt.Errorf("look up the current user: %w", err)
		}
		return serverUser{name: u.Username, uid: os.Geteuid(), gid: os.Getegid()}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.Atoi(u.Uid)
		gid, errGID := strconv.Atoi(u.Gid)
		if err := errors.Join(errUID, errGID); err != nil {
			return serverUser{}, fmt.Errorf("look up user %s: %w", name, err)
		}
		return serverUser{name: name, uid: uid, gid: gid, other: true}, nil
	}
	return serverUser{}, errors.New("running as root, and there is neither a user postgres nor a user nobody to run servers as")
})

func mustServerUser(t testing.TB) serverUser {
	t.Helper()
	u, err := currentServer()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// ServerUser returns the name of the operating system's user that servers run as.
func ServerUser(t testing.TB) string {
	t.Helper()
	return mustServerUser(t).name
}

// GiveToServer makes the server user the owner of path and of everything below it, so that a
// server, or a walden run with Cmd.AsServerUser, may write there. Symbolic links aren't followed.
func GiveToServer(t testing.TB, path string) {
	t.Helper()
	u := mustServerUser(t)
	if !u.other {
		return
	}
	err := filepath.WalkDir(path, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, u.uid, u.gid)
	})
	if err != nil {
		t.Fatalf("give %s to %s: %v", path, u.name, err)
	}
}

// attributes are those of a process that runs as u and gets the signal onDeath when the thread that
// started it ends.
func (u serverUser) attributes(onDeath syscall.Signal) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Pdeathsig: onDeath}
	if u.other {
		attr.Credential = &syscall.Credential{Uid: uint32(u.uid), Gid: uint32(u.gid)}
	}
	return attr
}

// reaches reports whether u may enter dir. It is tried, not computed: there are access lists,
// mount options and security modules to know of.
func (u serverUser) reaches(dir string) bool {
	cmd := exec.Command("true")
	cmd.Dir = dir
	return runAs(u, cmd) == nil
}

// runAs runs a short command to its end.
func runAs(u serverUser, cmd *exec.Cmd) error {
	cmd.SysProcAttr = u.attributes(syscall.SIGKILL)
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	return p.wait()
}
