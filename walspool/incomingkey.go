package walspool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"walden/postgres/wal"
)

// RepositoryKey returns what stands for a repository in names of a spool, given
// its identity (storage.Location.ID).
func RepositoryKey(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:8])
}

// IncomingKey says what a directory for incoming WAL is for. No two ever share
// one.
type IncomingKey struct {
	Repository  string // its RepositoryKey
	SystemID    uint64
	SegmentSize wal.SegmentSize
}

const incomingName = "receive"

// Dir returns the directory's place in a spool.
func (k IncomingKey) Dir(spool string) string {
	return filepath.Join(spool, incomingName, fmt.Sprintf("%s-%d-%d", k.Repository, k.SystemID, int64(k.SegmentSize)))
}

// FindIncoming returns the keys of the directories in a spool whose WAL is on its
// way to a repository.
func FindIncoming(spool, repository string) ([]IncomingKey, error) {
	entries, err := os.ReadDir(filepath.Join(spool, incomingName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("look for received WAL: %w", err)
	}
	var keys []IncomingKey
	for _, e := range entries {
		if k, ok := parseIncomingKey(e.Name()); ok && k.Repository == repository {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func parseIncomingKey(name string) (IncomingKey, bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return IncomingKey{}, false
	}
	id, errID := strconv.ParseUint(parts[1], 10, 64)
	size, errSize := strconv.ParseInt(parts[2], 10, 64)
	k := IncomingKey{Repository: parts[0], SystemID: id, SegmentSize: wal.SegmentSize(size)}
	ok := errID == nil && errSize == nil && id != 0 && k.SegmentSize.Valid() && filepath.Base(k.Dir("")) == name
	return k, ok
}
