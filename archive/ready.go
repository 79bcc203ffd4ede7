package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"walden/postgres/wal"
)

// What PostgreSQL wants archived, and what it takes for archived, stands in
// archive_status: src/backend/access/transam/xlogarchive.c. It is only read here.
const (
	statusReady = ".ready"
	statusDone  = ".done"
)

// statusDir is archive_status of the directory that a WAL file lies in.
func statusDir(walDir string) string { return filepath.Join(walDir, "archive_status") }

// withStatus returns the names of the WAL files with one of these marks, in the
// order in which PostgreSQL archives them. There are none where the directory has
// no archive_status.
func withStatus(walDir string, suffixes ...string) ([]string, error) {
	dir, err := os.Open(statusDir(walDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("see what is to be archived: %w", err)
	}
	defer dir.Close() // it was only read
	var names []string
	for {
		entries, err := dir.Readdirnames(1024)
		for _, e := range entries {
			if name, ok := cutSuffixes(e, suffixes); ok && isWAL(name) {
				names = append(names, name)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("see what is to be archived: %w", err)
		}
	}
	slices.SortFunc(names, compareUrgency)
	return slices.Compact(names), nil
}

func cutSuffixes(s string, suffixes []string) (string, bool) {
	for _, suffix := range suffixes {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			return rest, true
		}
	}
	return "", false
}

// isWAL reports whether PostgreSQL would archive a file of that name.
func isWAL(name string) bool {
	f, err := wal.ParseFileName(name)
	return err == nil && f.Kind != wal.KindTail
}

// compareUrgency is ready_file_comparator of src/backend/postmaster/pgarch.c:
// timeline histories first, then by name.
func compareUrgency(a, b string) int {
	switch aFirst, bFirst := isHistory(a), isHistory(b); {
	case aFirst && !bFirst:
		return -1
	case bFirst && !aFirst:
		return 1
	}
	return strings.Compare(a, b)
}

func isHistory(name string) bool { return strings.HasSuffix(name, ".history") }
