package commands

import (
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"walden/catalog"
	"walden/postgres/wal"
)

func targetFlags() []cli.Flag {
	return []cli.Flag{
		stringFlag("target-time", "", "recover to this time, such as '2026-11-21 08:15:30+01' (without a zone: this host's)"),
		stringFlag("target-lsn", "", "recover to this LSN, such as 0/3000060"),
		stringFlag("target-xid", "", "recover to this transaction"),
		stringFlag("target-name", "", "recover to this restore point (pg_create_restore_point)"),
		boolFlag("target-immediate", "stop as soon as the backup is consistent"),
		stringFlag("target-timeline", "", "latest (the default), current, or a number: the timeline to follow"),
		stringFlag("target-action", "", "pause (the default), promote or shutdown, when the target is reached"),
		boolFlag("target-exclusive", "stop just before the target instead of just after"),
	}
}

// parseTarget reads the recovery target.
func parseTarget(c *cli.Context) (t catalog.Target, err error) {
	given := 0
	for _, name := range []string{"target-time", "target-lsn", "target-xid", "target-name", "target-immediate"} {
		if c.IsSet(name) {
			given++
		}
	}
	if given > 1 {
		return t, usagef("give one recovery target, not %d", given)
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
func targetAction(c *cli.Context) (string, error) {
	action := c.String("target-action")
	hasTarget := c.IsSet("target-time") || c.IsSet("target-lsn") || c.IsSet("target-xid") || c.IsSet("target-name") || c.Bool("target-immediate")
	switch {
	case action == "" && hasTarget:
		return "pause", nil
	case action == "" || (hasTarget && (action == "pause" || action == "promote" || action == "shutdown")):
		return action, nil
	case !hasTarget:
		return "", usagef("--target-action needs a target")
	}
	return "", usagef("--target-action is pause, promote or shutdown, not %q", action)
}
