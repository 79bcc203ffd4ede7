package pgdata_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math/bits"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"walden/postgres/pgdata"
	"walden/postgres/wal"
)

var majors = []int{13, 14, 15, 16, 17, 18}

// captured reads a file of ../testdata: see README.md there.
func captured(tb testing.TB, major int, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", strconv.Itoa(major), name))
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// serverSays is what a server's pg_control_*() functions returned.
type serverSays struct {
	Version string
	System  struct {
		PGControlVersion      uint32    `json:"pg_control_version"`
		CatalogVersion        uint32    `json:"catalog_version_no"`
		SystemID              uint64    `json:"system_identifier"`
		PGControlLastModified time.Time `json:"pg_control_last_modified"`
	}
	Checkpoint struct {
		CheckpointLSN  string    `json:"checkpoint_lsn"`
		RedoLSN        string    `json:"redo_lsn"`
		TimelineID     uint32    `json:"timeline_id"`
		PrevTimelineID uint32    `json:"prev_timeline_id"`
		NextXID        string    `json:"next_xid"` // epoch:xid
		CheckpointTime time.Time `json:"checkpoint_time"`
	}
	Recovery struct {
		MinRecoveryEndLSN         string `json:"min_recovery_end_lsn"`
		MinRecoveryEndTimeline    uint32 `json:"min_recovery_end_timeline"`
		BackupStartLSN            string `json:"backup_start_lsn"`
		BackupEndLSN              string `json:"backup_end_lsn"`
		EndOfBackupRecordRequired bool   `json:"end_of_backup_record_required"`
	}
	Init struct {
		DatabaseBlockSize  uint32 `json:"database_block_size"`
		BlocksPerSegment   uint32 `json:"blocks_per_segment"`
		WALBlockSize       uint32 `json:"wal_block_size"`
		BytesPerWALSegment int64  `json:"bytes_per_wal_segment"`
		ChecksumVersion    uint32 `json:"data_page_checksum_version"`
	}
}

// control puts what the server says into our terms.
func (s serverSays) control(t *testing.T, state pgdata.State) pgdata.Control {
	t.Helper()
	lsn := func(text string) wal.LSN {
		l, err := wal.ParseLSN(text)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	epoch, xid, _ := strings.Cut(s.Checkpoint.NextXID, ":")
	major, _, _ := strings.Cut(s.Version, ".")
	return pgdata.Control{
		SystemID:            s.System.SystemID,
		Version:             s.System.PGControlVersion,
		CatalogVersion:      s.System.CatalogVersion,
		Major:               int(number(t, major)),
		State:               state,
		Updated:             s.System.PGControlLastModified.UTC(),
		Checkpoint:          lsn(s.Checkpoint.CheckpointLSN),
		Redo:                lsn(s.Checkpoint.RedoLSN),
		Timeline:            wal.Timeline(s.Checkpoint.TimelineID),
		PrevTimeline:        wal.Timeline(s.Checkpoint.PrevTimelineID),
		NextXID:             number(t, epoch)<<32 | number(t, xid),
		CheckpointTime:      s.Checkpoint.CheckpointTime.UTC(),
		MinRecoveryPoint:    lsn(s.Recovery.MinRecoveryEndLSN),
		MinRecoveryTimeline: wal.Timeline(s.Recovery.MinRecoveryEndTimeline),
		BackupStart:         lsn(s.Recovery.BackupStartLSN),
		BackupEnd:           lsn(s.Recovery.BackupEndLSN),
		BackupEndRequired:   s.Recovery.EndOfBackupRecordRequired,
		MaxConnections:      37,
		MaxWorkerProcesses:  9,
		MaxWALSenders:       11,
		MaxPreparedXacts:    3,
		MaxLocksPerXact:     65,
		SegmentSize:         wal.SegmentSize(s.Init.BytesPerWALSegment),
		WALBlockSize:        s.Init.WALBlockSize,
		BlockSize:           s.Init.DatabaseBlockSize,
		RelSegSize:          s.Init.BlocksPerSegment,
		ChecksumVersion:     s.Init.ChecksumVersion,
	}
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestControlAsServersSayIt compares every field with what the server itself reports.
func TestControlAsServersSayIt(t *testing.T) {
	for _, major := range majors {
		for name, state := range map[string]pgdata.State{
			"control.primary": pgdata.StateInProduction,
			"control.standby": pgdata.StateInArchiveRecovery,
		} {
			t.Run(fmt.Sprintf("%d/%s", major, name), func(t *testing.T) {
				var says serverSays
				if err := json.Unmarshal(captured(t, major, name+".json"), &says); err != nil {
					t.Fatal(err)
				}
				got, err := pgdata.ParseControl(captured(t, major, name))
				if err != nil {
					t.Fatal(err)
				}
				if want := says.control(t, state); !reflect.DeepEqual(got, want) {
					t.Errorf("pg_control says\n%+v\nits server says\n%+v", got, want)
				}
				if got.Major != major || !got.Running() {
					t.Errorf("major %d, running %v", got.Major, got.Running())
				}
			})
		}
	}
}

func TestControlAfterShutdown(t *testing.T) {
	for _, major := range majors {
		c, err := pgdata.ParseControl(captured(t, major, "control.shutdown"))
		if err != nil {
			t.Fatal(err)
		}
		// A shutdown checkpoint is its own redo point.
		if c.State != pgdata.StateShutDown || c.Running() || c.Checkpoint != c.Redo {
			t.Errorf("%d: %+v", major, c)
		}
	}
}

func TestTablespaceDirectory(t *testing.T) {
	want := []string{"PG_13_202007201", "PG_14_202107181", "PG_15_202209061", "PG_16_202307071", "PG_17_202406281", "PG_18_202506291"}
	for i, major := range majors {
		c, err := pgdata.ParseControl(captured(t, major, "control.primary"))
		if err != nil {
			t.Fatal(err)
		}
		if got := c.TablespaceDirectory(); got != want[i] {
			t.Errorf("%d: %s, want %s", major, got, want[i])
		}
	}
}

// seal gives a changed control file the CRC that it would have.
func seal(b []byte, major int) []byte {
	at := 288
	if major == 18 {
		at = 292
	}
	binary.LittleEndian.PutUint32(b[at:], crc32.Checksum(b[:at], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestParseControlRefuses(t *testing.T) {
	le := binary.LittleEndian
	put := func(off int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[off:], v); return seal(b, 15) }
	}
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		is     error
		says   string
	}{
		"nothing":           {func([]byte) []byte { return nil }, pgdata.ErrControl, "0 bytes"},
		"cut off":           {func(b []byte) []byte { return b[:290] }, pgdata.ErrControl, "290 bytes"},
		"zeros":             {func(b []byte) []byte { clear(b); return b }, pgdata.ErrControl, "version 0"},
		"first bit flipped": {func(b []byte) []byte { b[0] ^= 1; return b }, pgdata.ErrControl, "CRC"},
		"last bit flipped":  {func(b []byte) []byte { b[287] ^= 128; return b }, pgdata.ErrControl, "CRC"},
		"CRC flipped":       {func(b []byte) []byte { b[288] ^= 1; return b }, pgdata.ErrControl, "CRC"},
		"version 12":        {put(8, 1201), pgdata.ErrVersion, "1201"},
		"version 19":        {put(8, 1900), pgdata.ErrVersion, "1900"},
		"big-endian":        {put(8, bits.ReverseBytes32(1300)), pgdata.ErrVersion, "big-endian"},
		"development":       {put(12, 202209062), pgdata.ErrVersion, "202209062"},
		"32-bit":            {put(204, 4), pgdata.ErrVersion, "alignment"},
		"segment size 0":    {put(228, 0), pgdata.ErrControl, "segment size 0"},
		"segment size 3M":   {put(228, 3<<20), pgdata.ErrControl, "segment size 3145728"},
		"block size 0":      {put(216, 0), pgdata.ErrControl, "block size 0"},
		"block size 64k":    {put(216, 1<<16), pgdata.ErrControl, "block size 65536"},
		"no relation size":  {put(220, 0), pgdata.ErrControl, "relation segment size"},
		"no system":         {func(b []byte) []byte { clear(b[:8]); return seal(b, 15) }, pgdata.ErrControl, "system identifier"},
	} {
		got, err := pgdata.ParseControl(c.change(captured(t, 15, "control.primary")))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || got != (pgdata.Control{}) {
			t.Errorf("%s: %+v, %v; want %v that says %q", name, got, err, c.is, c.says)
		}
	}
}

// TestControlWhileRestoring: a server that recovers from a backup, and lacks WAL, can't be asked. But it must have taken
// the backup's start from backup_label, and its end from the pg_control of the standby that it was taken from.
func TestControlWhileRestoring(t *testing.T) {
	for _, major := range majors {
		label, err := wal.ParseBackupLabel(captured(t, major, "backup_label.standby"))
		if err != nil {
			t.Fatal(err)
		}
		source, err := pgdata.ParseControl(captured(t, major, "control.standby"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgdata.ParseControl(captured(t, major, "control.restored"))
		if err != nil || c.BackupStart != label.Start || c.BackupEnd != source.MinRecoveryPoint || !c.BackupEndRequired || c.BackupEnd == 0 {
			t.Errorf("%d: %+v, %v; want the backup of %+v and %+v", major, c, err, label, source)
		}
	}
}

func TestStateStrings(t *testing.T) {
	for state, want := range map[pgdata.State]string{
		pgdata.StateStartup:            "starting up",
		pgdata.StateShutDown:           "shut down",
		pgdata.StateShutDownInRecovery: "shut down in recovery",
		pgdata.StateShuttingDown:       "shutting down",
		pgdata.StateInCrashRecovery:    "in crash recovery",
		pgdata.StateInArchiveRecovery:  "in archive recovery",
		pgdata.StateInProduction:       "in production",
		99:                             "unrecognized state 99",
	} {
		if got := state.String(); got != want {
			t.Errorf("state %d is %q, want %q", uint32(state), got, want)
		}
	}
}

// dataDir makes a directory with a control file.
func dataDir(t *testing.T, control []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "global", "pg_control"), control, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReadControl(t *testing.T) {
	raw := captured(t, 16, "control.primary")
	c, got, err := pgdata.ReadControl(dataDir(t, raw))
	if err != nil || c.Major != 16 || !reflect.DeepEqual(got, raw) {
		t.Errorf("%+v, %d bytes, %v", c, len(got), err)
	}
}

func TestReadControlFails(t *testing.T) {
	raw := captured(t, 16, "control.primary")
	torn := append([]byte(nil), raw...)
	torn[40] ^= 1
	old := append([]byte(nil), raw...)
	old[8]++
	for name, c := range map[string]struct {
		dir string
		is  error
	}{
		"no directory":    {filepath.Join(t.TempDir(), "none"), pgdata.ErrNoCluster},
		"empty directory": {t.TempDir(), pgdata.ErrNoCluster},
		"damaged":         {dataDir(t, torn), pgdata.ErrControl},
		"cut off":         {dataDir(t, raw[:512]), pgdata.ErrControl},
		"too long":        {dataDir(t, append(raw[:len(raw):len(raw)], 0)), pgdata.ErrControl},
		"other version":   {dataDir(t, old), pgdata.ErrVersion},
	} {
		control, b, err := pgdata.ReadControl(c.dir)
		if !errors.Is(err, c.is) || b != nil || control != (pgdata.Control{}) || !strings.Contains(err.Error(), c.dir) {
			t.Errorf("%s: %v; want %v with the path", name, err, c.is)
		}
	}
}

// TestReadControlTorn: while a server writes the file, a reader may see old and new bytes mixed. It must get one or the
// other.
func TestReadControlTorn(t *testing.T) {
	versions := [][]byte{captured(t, 14, "control.primary"), captured(t, 14, "control.shutdown")}
	dir := dataDir(t, versions[0])
	f, err := os.OpenFile(filepath.Join(dir, "global", "pg_control"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { // in halves, so that the file is torn about half of the time
		for i := 0; ; i++ {
			b := versions[i%2]
			_, err1 := f.WriteAt(b[:64], 0)
			_, err2 := f.WriteAt(b[64:], 64)
			if err := errors.Join(err1, err2); err != nil {
				done <- err
				return
			}
			select {
			case <-stop:
				done <- f.Close()
				return
			default:
			}
		}
	}()
	for range 100 {
		_, raw, err := pgdata.ReadControl(dir)
		if err != nil || !bytes.Equal(raw, versions[0]) && !bytes.Equal(raw, versions[1]) {
			t.Errorf("got neither version: %v", err)
			break
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzParseControl(f *testing.F) {
	for _, major := range majors {
		for _, name := range []string{"control.primary", "control.standby", "control.restored", "control.shutdown"} {
			f.Add(captured(f, major, name)[:512], major == 18)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, is18 bool) {
		if len(b) >= 296 { // a right CRC opens the way to what comes after it
			b = append([]byte(nil), b...)
			major := 15
			if is18 {
				major = 18
			}
			seal(b, major)
		}
		c, err := pgdata.ParseControl(b)
		switch {
		case err != nil && !errors.Is(err, pgdata.ErrControl) && !errors.Is(err, pgdata.ErrVersion):
			t.Fatalf("%v is neither ErrControl nor ErrVersion", err)
		case err == nil && (c.Major < 13 || c.Major > 18 || !c.SegmentSize.Valid() || c.SystemID == 0):
			t.Fatalf("accepted %+v", c)
		}
	})
}
