package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"walden/catalog"
	"walden/postgres/wal"
)

// Recovery says how a restored cluster recovers when it is started.
type Recovery struct {
	// RestoreCommand is the value of restore_command, with %f and %p.
	RestoreCommand string
	Target         catalog.Target
	// Action is recovery_target_action: pause, promote or shutdown. It has no
	// meaning without a target.
	Action string
	// Exclusive makes recovery stop just before the target instead of just after.
	Exclusive bool
	// KeepArchiving leaves archive_mode as it is. Otherwise it is turned off, so
	// that a copy can't write into the repository of its source.
	KeepArchiving bool
}

// setting is a line of a PostgreSQL configuration file.
type setting struct{ name, value string }

// settings returns the configuration that makes PostgreSQL recover. It empties
// commands that were meant for another server.
func (r Recovery) settings() []setting {
	s := []setting{
		{"restore_command", r.RestoreCommand},
		{"recovery_target_timeline", timelineSetting(r.Target)},
		{"recovery_target_inclusive", strconv.FormatBool(!r.Exclusive)},
		{"recovery_end_command", ""},
		{"archive_cleanup_command", ""},
		{"recovery_min_apply_delay", "0"}, // of a delayed standby: recovery minds it, too
	}
	s = append(s, targetSettings(r.Target)...)
	if r.Action != "" {
		s = append(s, setting{"recovery_target_action", r.Action})
	}
	if !r.KeepArchiving {
		s = append(s, setting{"archive_mode", "off"})
	}
	return s
}

// targetSettings empties the targets that are not asked for, because other
// configuration files may set them. The one that is asked for comes last:
// PostgreSQL refuses even an empty target after another one.
func targetSettings(t catalog.Target) []setting {
	var name, value string
	switch {
	case t.Immediate:
		name, value = "recovery_target", "immediate"
	case !t.Time.IsZero():
		name, value = "recovery_target_time", t.Time.UTC().Format("2006-01-02 15:04:05.999999+00")
	case t.LSN != 0:
		name, value = "recovery_target_lsn", t.LSN.String()
	case t.XID != 0:
		name, value = "recovery_target_xid", strconv.FormatUint(t.XID, 10)
	case t.Name != "":
		name, value = "recovery_target_name", t.Name
	}
	var s []setting
	for _, other := range []string{"recovery_target", "recovery_target_time", "recovery_target_lsn", "recovery_target_xid", "recovery_target_name"} {
		if other != name {
			s = append(s, setting{other, ""})
		}
	}
	if name != "" {
		s = append(s, setting{name, value})
	}
	return s
}

func timelineSetting(t catalog.Target) string {
	switch {
	case t.Timeline != wal.Timeline(0):
		return strconv.FormatUint(uint64(t.Timeline), 10)
	case t.Current, t.Immediate: // the newest one need not come from this backup
		return "current"
	}
	return "latest"
}

// autoConf is read by every server after its other configuration files, wherever
// those lie.
const autoConf = "postgresql.auto.conf"

// write sets up recovery in a restored data directory: it replaces older
// recovery settings in postgresql.auto.conf and creates recovery.signal.
func (r Recovery) write(dir string, o *owner) error {
	path := filepath.Join(dir, autoConf)
	// Where it is a symbolic link, it leads to another cluster's settings.
	info, err := os.Lstat(path)
	var old []byte
	if err == nil && info.Mode().IsRegular() {
		old, err = os.ReadFile(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := o.replace(path, r.rewrite(old)); err != nil {
		return err
	}
	// A backup of a standby holds its signal file; this is a recovery.
	if err := os.Remove(filepath.Join(dir, "standby.signal")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return o.replace(filepath.Join(dir, "recovery.signal"), nil)
}

// rewrite returns the configuration file without settings that would fight with
// those of r, and with them.
func (r Recovery) rewrite(old []byte) []byte {
	var b bytes.Buffer
	for line := range strings.Lines(string(old)) {
		if !isRecoverySetting(line, r.KeepArchiving) {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	b.WriteString("# Recovery settings, written by walden backup-fetch.\n")
	for _, s := range r.settings() {
		fmt.Fprintf(&b, "%s = '%s'\n", s.name, quoteSetting.Replace(s.value))
	}
	return b.Bytes()
}

// quoteSetting escapes what GUC_scanstr unescapes, src/backend/utils/misc/guc-file.l.
// A string can't hold a line break itself.
var quoteSetting = strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", `\n`, "\r", `\r`)

func isRecoverySetting(line string, keepArchiving bool) bool {
	name := strings.ToLower(strings.TrimSpace(line))
	if i := strings.IndexAny(name, "= \t'"); i >= 0 {
		name = name[:i]
	}
	switch name {
	case "restore_command", "recovery_target", "recovery_end_command", "archive_cleanup_command", "recovery_min_apply_delay":
		return true
	case "archive_mode":
		return !keepArchiving
	}
	return strings.HasPrefix(name, "recovery_target_")
}
