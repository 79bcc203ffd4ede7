package archive

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"walden/postgres/wal"
)

// mustBeFinished refuses a segment in a pg_wal that PostgreSQL has not finished: it
// would take the place of the finished one for good, and recovery would end inside
// it. PostgreSQL says that a segment is finished by a file in archive_status, and
// where archiving is off, by having begun the next one. In a directory without
// archive_status, as where segments were saved, nothing can be told.
func mustBeFinished(name wal.FileName, path string, systemID uint64, size wal.SegmentSize) error {
	dir := filepath.Dir(path)
	if name.Kind != wal.KindSegment || !exists(statusDir(dir)) {
		return nil
	}
	for _, status := range []string{statusReady, statusDone} {
		if exists(filepath.Join(statusDir(dir), name.String()+status)) {
			return nil
		}
	}
	begun, err := hasBegun(dir, name.Segment.Next(size), systemID, size)
	if err != nil || begun {
		return err
	}
	return fmt.Errorf("%w: PostgreSQL has not finished this segment, or had not when its server ended (there is no %s%s or %s in %s, "+
		"and the next segment has not begun); nothing was stored. To have a recovery replay it, put it into pg_wal of the restored "+
		"data directory before its server is started", ErrRefused, name, statusReady, statusDone, statusDir(dir))
}

// exists reports whether there is a file: one that can't be seen counts, so that
// nothing is concluded from it.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// hasBegun reports whether PostgreSQL has written to a segment: files that it
// keeps for later use have the name already, and still an older segment's header.
func hasBegun(dir string, s wal.Segment, systemID uint64, size wal.SegmentSize) (bool, error) {
	f, err := os.Open(filepath.Join(dir, s.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close() // it was only read
	head := make([]byte, wal.LongHeaderSize)
	if _, err := io.ReadFull(f, head); err != nil {
		return false, err
	}
	h, err := wal.ParseLongHeader(head)
	return err == nil && h.Check(s, systemID, size) == nil, nil
}
