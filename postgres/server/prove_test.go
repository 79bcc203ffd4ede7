package server

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"walden/postgres/pgdata"
)

// One cluster, and the smallest lies about it.
func TestProveTraits(t *testing.T) {
	const dir = "/nowhere/data"
	started := time.Unix(1795253572, 0)
	file := func(pid int, dir string, start time.Time, port int) []byte {
		return fmt.Appendf(nil, "%d\n%s\n%d\n%d\n/tmp\nlocalhost\n 10016953     32780\nready   \n", pid, dir, start.Unix(), port)
	}
	same := file(4711, dir, started, 5499)
	for name, tt := range map[string]struct {
		change func(*Identity)
		kind   error
		marked string // the traits that differ
	}{
		"same":                   {change: func(id *Identity) {}},
		"same path, spelt apart": {change: func(id *Identity) { id.DataDirectory = "/nowhere/../nowhere/data/" }},
		"without the file":       {change: func(id *Identity) { id.PostmasterPIDFile = nil }},
		"directory by the file":  {change: func(id *Identity) { id.DataDirectory = "" }},
		"slow start":             {change: func(id *Identity) { id.StartTime = started.Add(5 * time.Minute) }},
		"slow start, without the file": {
			change: func(id *Identity) { id.StartTime, id.PostmasterPIDFile = started.Add(5*time.Minute), nil },
			kind:   ErrOtherCluster, marked: "started"},
		"started before": {change: func(id *Identity) { id.StartTime = started.Add(-time.Microsecond) },
			kind: ErrOtherCluster, marked: "started"},
		"system identifier": {change: func(id *Identity) { id.SystemID-- }, kind: ErrOtherCluster, marked: "system identifier"},
		"directory": {change: func(id *Identity) { id.DataDirectory = "/nowhere/data2" },
			kind: ErrOtherCluster, marked: "data directory"},
		"directory by the file only": {
			change: func(id *Identity) { id.DataDirectory, id.PostmasterPIDFile = "", file(4711, "/other", started, 5499) },
			kind:   ErrOtherCluster, marked: "data directory"},
		"port": {change: func(id *Identity) { id.Port = 5500 }, kind: ErrOtherCluster, marked: "port"},
		"process": {change: func(id *Identity) { id.PostmasterPIDFile = file(4712, dir, started, 5499) },
			kind: ErrOtherCluster, marked: "process ID"},
		"file of another start": {change: func(id *Identity) { id.PostmasterPIDFile = file(4711, dir, started.Add(-time.Second), 5499) },
			kind: ErrOtherCluster, marked: "started"},
		"sees nothing": {change: func(id *Identity) { id.DataDirectory, id.PostmasterPIDFile = "", nil }, kind: ErrDenied},
		"sees nothing, but differs": {
			change: func(id *Identity) { id.DataDirectory, id.PostmasterPIDFile, id.SystemID = "", nil, 1 },
			kind:   ErrOtherCluster, marked: "system identifier"},
		"garbage in the file": {change: func(id *Identity) { id.PostmasterPIDFile = []byte("x") }, kind: pgdata.ErrSyntax},
	} {
		t.Run(name, func(t *testing.T) {
			id := Identity{SystemID: 18446744073709551615, Port: 5499, DataDirectory: dir, StartTime: started.Add(20 * time.Millisecond), PostmasterPIDFile: same}
			tt.change(&id)
			pid, err := pgdata.ParsePostmasterPID(same)
			if err != nil {
				t.Fatal(err)
			}
			err = Prove(id, dir, pgdata.Control{SystemID: 18446744073709551615}, pid)
			if !errors.Is(err, tt.kind) {
				t.Fatalf("got %v, want %v", err, tt.kind)
			}
			if tt.marked != "" && (strings.Count(err.Error(), "\n  * ") != 1 || !strings.Contains(err.Error(), "\n  * "+tt.marked+" ")) {
				t.Errorf("only %s should be marked in: %s", tt.marked, err)
			}
		})
	}
}

// A row that no server sends is refused, not believed.
func FuzzParseIdentity(f *testing.F) {
	f.Add("7710555380837675952", "150018", "1795253572000000", "5499", "16777216", "1")
	f.Add("-1", "180004", "0", "1", "1073741824", "4294967295")
	f.Add("", "x", "1e9", "99999999999999999999", "1048577", "-1")
	f.Fuzz(func(t *testing.T, system, version, start, port, segment, timeline string) {
		row := make([][]byte, identityColumns)
		for i, v := range map[int]string{0: system, 1: version, 3: start, 4: port, 6: segment, 7: timeline} {
			row[i] = []byte(v)
		}
		id, err := parseIdentity(row)
		want, notNumber := strconv.ParseInt(system, 10, 64)
		if err == nil && (!id.SegmentSize.Valid() || id.Timeline == 0 || notNumber != nil || id.SystemID != uint64(want)) {
			t.Errorf("%q gave %+v", row, id)
		}
	})
}
