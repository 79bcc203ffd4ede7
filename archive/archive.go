// Package archive moves WAL files between a cluster and its repository: Push is
// what archive_command needs, Fetch what restore_command needs.
package archive

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"walden/codec"
	"walden/postgres/wal"
)

var (
	// ErrRefused means that a file is not what its name and its cluster say,
	// so that it was not stored. Nothing in the repository was changed.
	ErrRefused = errors.New("refused")

	// ErrNotArchived means that the repository does not have the file, and that
	// nothing later of its timeline is there: the end of the archive.
	ErrNotArchived = errors.New("not in the archive")

	// ErrHole means that the repository does not have a segment although later
	// ones of the same timeline are there.
	ErrHole = errors.New("hole in the archive")

	// ErrUnknownCluster means that the repository holds nothing at all of the
	// cluster, which says nothing about its WAL.
	ErrUnknownCluster = errors.New("the repository holds nothing of cluster")
)

// checkSegment verifies that head, the first bytes of a segment of this length,
// belongs to the segment called name of the cluster.
func checkSegment(head []byte, length int64, name wal.Segment, systemID uint64, size wal.SegmentSize) error {
	if length != int64(size) {
		return fmt.Errorf("%s has %d bytes, a WAL segment of this cluster has %d: %w", name, length, int64(size), wal.ErrMismatch)
	}
	h, err := wal.ParseLongHeader(head)
	if err != nil {
		return err
	}
	return h.Check(name, systemID, size)
}

// maxText bounds .history and .backup files, which are read into memory.
const maxText = 16 << 20

// checkText verifies that a .history or .backup file is one, and belongs to its
// name.
func checkText(r io.Reader, f wal.FileName) error {
	data, err := io.ReadAll(io.LimitReader(r, maxText+1))
	if err != nil {
		return err
	}
	if len(data) > maxText {
		return fmt.Errorf("longer than %d bytes: %w", maxText, wal.ErrSyntax)
	}
	if f.Kind == wal.KindHistory {
		h, err := wal.ParseHistory(f.Timeline, data)
		if err == nil && len(h.Ancestors) == 0 { // PostgreSQL ends each with the parent; the name would be taken for good
			err = fmt.Errorf("it names no timeline that %s comes from: %w", f.Timeline, wal.ErrMismatch)
		}
		return err
	}
	label, err := wal.ParseBackupLabel(data)
	if err == nil && label.StartSegment != f.Segment {
		err = fmt.Errorf("its backup starts in segment %s: %w", label.StartSegment, wal.ErrMismatch)
	}
	return err
}

// checkFingerprint verifies that an object's fingerprint belongs to the file
// that was asked for, and bounds what it may take on disk.
func checkFingerprint(fp codec.Fingerprint, name wal.FileName, systemID uint64, size wal.SegmentSize) error {
	if fp.Name != name.String() || fp.SystemID != systemID {
		return fmt.Errorf("the object holds %s of cluster %d instead of %s of cluster %d: %w",
			fp.Name, fp.SystemID, name, systemID, codec.ErrCorrupt)
	}
	limit := int64(maxText)
	if isSegment(name) {
		limit = int64(size)
	}
	if fp.Size > limit {
		return fmt.Errorf("the object holds %d bytes, %s can have %d: %w", fp.Size, name, limit, codec.ErrCorrupt)
	}
	return nil
}

// isSegment reports whether a file has the form of a segment, whole or partial.
func isSegment(name wal.FileName) bool {
	return name.Kind == wal.KindSegment || name.Kind == wal.KindPartial
}

// base returns the name of a WAL file from the path that PostgreSQL gives.
func base(path string) (wal.FileName, error) {
	name, err := wal.ParseFileName(filepath.Base(path))
	if err != nil {
		return wal.FileName{}, fmt.Errorf("%w: %w", err, ErrRefused)
	}
	if name.Kind == wal.KindTail {
		return wal.FileName{}, fmt.Errorf("%s: only wal-receive stores the beginning of a segment: %w", name, ErrRefused)
	}
	return name, nil
}
