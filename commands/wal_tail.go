package commands

import (
	"fmt"
	"os"

	"walden/postgres/wal"
)

// allowTail allows wal-fetch to end a recovery with what there is of an unfinished
// segment. PostgreSQL runs restore_command in the data directory: only there, and
// only what recovery.signal or standby.signal say. A standby asks again for what it
// could not replay, and may find its primary: it must not take the beginning of a
// segment for all of it. Nor must an operator who fetches a segment by hand.
func (p *program) allowTail() func(wal.FileName) {
	if _, err := os.Stat("standby.signal"); !os.IsNotExist(err) {
		return nil
	}
	if _, err := os.Stat("recovery.signal"); err != nil {
		return nil
	}
	return func(tail wal.FileName) {
		p.log.Warn().Msg(fmt.Sprintf("%s: %s is not in the archive, only what was received of it up to %s: that was handed over, and recovery ends there",
			walFetchName, tail.Segment, tail.End))
	}
}
