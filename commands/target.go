package commands

import (
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"walden/catalog"
	"walden/postgres/wal"
)

func targetFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag("target-time", "", "`TIME`recover to this time, such as '2026-11-21 08:15:30+01' (without a zone: this host's)"),
		stringFlag("target-lsn", "", "`LSN`recover to this LSN, such as 0/3000060"),
		stringFlag("target-xid", "", "`XID`recover to this transaction"),
		stringFlag("target-name", "", "`NAME`recover to this restore point (pg_create_restore_point)"),
		boolFlag("target-immediate", "recover to where the backup is consistent, and no further"),
		stringFlag("target-timeline", "", "`TIMELINE`the timeline to follow: latest (the default), current (the backup's own), or a number"),
		stringFlag("target-action", "", "`ACTION`what to do when the target is reached: pause (the default), promote or shutdown"),
		boolFlag("target-exclusive", "stop just before the target time, LSN or transaction instead of just after it"),
	}
}

// parseTarget reads the recovery target.
func parseTarget(c *cli.Context) (t catalog.Target, err error) {
	if err := checkTargetFlags(c); err != nil {
		return t, err
	}
	if s := c.String("target-time"); s != "" {
		if t.Time, err = parseTime(s); err != nil {
			return t, err
		}
	}
	if s := c.String("target-lsn"); s != "" {
		if t.LSN, err = wal.ParseLSN(s); err != nil || t.LSN == 0 {
			return t, usagef("--target-lsn: %q is not an LSN such as 0/3000060", s)
		}
	}
	if s := c.String("target-xid"); s != "" {
		if t.XID, err = strconv.ParseUint(s, 10, 64); err != nil || t.XID == 0 {
			return t, usagef("--target-xid: %q is not a transaction ID", s)
		}
	}
	t.Name, t.Immediate = c.String("target-name"), c.Bool("target-immediate")
	return t, parseTargetTimeline(c.String("target-timeline"), &t)
}

// checkTargetFlags refuses flags that don't go together. An empty target is a
// variable that nobody set: without it recovery would go to the end of the WAL.
func checkTargetFlags(c *cli.Context) error {
	var given []string
	for _, name := range []string{"target-time", "target-lsn", "target-xid", "target-name"} {
		if !c.IsSet(name) {
			continue
		}
		if c.String(name) == "" {
			return usagef("--%s is empty", name)
		}
		given = append(given, "--"+name)
	}
	inside := len(given) > 0 && !c.IsSet("target-name")
	if c.Bool("target-immediate") {
		given = append(given, "--target-immediate")
	}
	switch {
	case c.IsSet("target-timeline") && c.String("target-timeline") == "":
		return usagef("--target-timeline is empty")
	case len(given) > 1:
		return usagef("there can be one recovery target, but %s are given", strings.Join(given, " and "))
	case c.Bool("target-exclusive") && !inside:
		return usagef("--target-exclusive needs --target-time, --target-lsn or --target-xid")
	case c.String("target-action") != "" && len(given) == 0:
		return usagef("--target-action needs a recovery target")
	}
	return nil
}

func parseTargetTimeline(s string, t *catalog.Target) error {
	switch s {
	case "", "latest":
		return nil
	case "current":
		t.Current = true
		return nil
	}
	if len(s) == 8 { // as in file names
		if tli, err := wal.ParseTimeline(s); err == nil {
			t.Timeline = tli
			return nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return usagef("--target-timeline: %q is not latest, current or a number", s)
	}
	t.Timeline = wal.Timeline(n)
	return nil
}

// parseTime accepts what PostgreSQL prints and RFC 3339.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02 15:04:05.999999Z07:00", "2006-01-02 15:04:05.999999Z07", "2006-01-02 15:04:05.999999 MST",
		"2006-01-02T15:04:05.999999Z07",
	} {
		t, err := time.Parse(layout, s)
		// An abbreviation that isn't known here would silently mean UTC.
		if zone, offset := t.Zone(); err == nil && (offset != 0 || zone == "UTC" || zone == "") {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02 15:04:05.999999", "2006-01-02T15:04:05.999999", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usagef("--target-time: %q is not a time such as '2026-11-21 08:15:30+01'", s)
}

// targetAction returns what happens at the target: "" without one.
func targetAction(c *cli.Context, t catalog.Target) (string, error) {
	action := c.String("target-action")
	hasTarget := t.Immediate || !t.Time.IsZero() || t.LSN != 0 || t.XID != 0 || t.Name != ""
	switch {
	case !hasTarget:
		return "", nil
	case action == "":
		return "pause", nil
	case action == "pause" || action == "promote" || action == "shutdown":
		return action, nil
	}
	return "", usagef("--target-action is pause, promote or shutdown, not %q", action)
}
