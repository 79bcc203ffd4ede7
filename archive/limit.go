package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"walden/postgres/wal"
)

// Limit is how large pg_wal may grow: bytes, or a share of its volume. The zero
// value is no limit.
type Limit struct {
	bytes   int64
	percent int64
}

// errLimit is what ParseLimit says of everything else.
var errLimit = errors.New("not a size such as 20GB, nor a percentage such as 80%")

// ParseLimit reads a size in PostgreSQL's units (kB, MB, GB, TB; 1 kB is 1024
// bytes), or a percentage from 1% to 100% of the volume.
func ParseLimit(s string) (Limit, error) {
	if digits, ok := strings.CutSuffix(s, "%"); ok {
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n < 1 || n > 100 {
			return Limit{}, fmt.Errorf("%q: %w", s, errLimit)
		}
		return Limit{percent: int64(n)}, nil
	}
	for _, unit := range units {
		digits, ok := strings.CutSuffix(s, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(digits, 10, 64)
		if err != nil || n < 1 || n > (1<<62)/uint64(unit.bytes) {
			break
		}
		return Limit{bytes: int64(n) * unit.bytes}, nil
	}
	return Limit{}, fmt.Errorf("%q: %w", s, errLimit)
}

var units = []struct {
	name  string
	bytes int64
}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}}

// IsZero reports whether there is no limit.
func (l Limit) IsZero() bool { return l == Limit{} }

// String is what ParseLimit reads.
func (l Limit) String() string {
	if l.percent != 0 {
		return fmt.Sprintf("%d%%", l.percent)
	}
	unit := units[0]
	for _, u := range units {
		if l.bytes%u.bytes == 0 {
			unit = u
		}
	}
	return fmt.Sprintf("%d%s", l.bytes/unit.bytes, unit.name)
}

// bytesOf returns the limit in bytes for a directory.
func (l Limit) bytesOf(dir string) (int64, error) {
	if l.percent == 0 {
		return l.bytes, nil
	}
	var volume unix.Statfs_t
	if err := unix.Statfs(dir, &volume); err != nil {
		return 0, fmt.Errorf("size of the volume of %s: %w", dir, err)
	}
	return int64(volume.Blocks) / 100 * l.percent * int64(volume.Bsize), nil
}

// walSize sums up the segments in a directory, those that wait to be reused
// included.
func walSize(dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, fmt.Errorf("size of pg_wal: %w", err)
	}
	for _, e := range entries {
		name, err := wal.ParseFileName(e.Name())
		if err != nil || !isSegment(name) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // removed or renamed this moment
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("size of pg_wal: %w", err)
		}
		total += info.Size()
	}
	return total, nil
}
