package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/wal"
	"walden/walspool"
)

// A tail is an object like that of a segment, but holds only its first bytes, up
// to the LSN in its name. wal-receive stores one after the other of the segment
// at the end of the WAL, so that losing a host loses seconds.

// tailSize returns the length of a tail's content in bytes.
func tailSize(tail wal.FileName, size wal.SegmentSize) (int64, error) {
	start := tail.Segment.Start(size)
	if !tail.Segment.ValidFor(size) || tail.End < start+wal.LongHeaderSize || tail.End-start > wal.LSN(size) {
		return 0, fmt.Errorf("%s can't be the name of a tail where segments are of %s: %w", tail, size, wal.ErrMismatch)
	}
	return int64(tail.End - start), nil
}

// checkTail verifies that head, the first bytes of a tail, belong to its name and
// cluster.
func checkTail(head io.ReaderAt, tail wal.FileName, systemID uint64, size wal.SegmentSize) error {
	b := make([]byte, wal.LongHeaderSize)
	if _, err := head.ReadAt(b, 0); err != nil {
		return err
	}
	h, err := wal.ParseLongHeader(b)
	if err != nil {
		return err
	}
	return h.Check(tail.Segment, systemID, size)
}

// pushTail stores the first bytes of an unfinished segment, which lie at the
// beginning of f. Errors are those of Push.
func pushTail(ctx context.Context, repo catalog.Cluster, tail wal.FileName, f *os.File, opts PushOptions) (PushResult, error) {
	res, err := storeTail(ctx, repo, tail, f, opts)
	if err != nil {
		return PushResult{}, fmt.Errorf("push %s: %w", tail, err)
	}
	return res, nil
}

func storeTail(ctx context.Context, repo catalog.Cluster, tail wal.FileName, f *os.File, opts PushOptions) (PushResult, error) {
	n, err := tailSize(tail, opts.SegmentSize)
	if err != nil {
		return PushResult{}, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	content := io.NewSectionReader(f, 0, n)
	sum, err := codec.SumReader(content)
	if err != nil {
		return PushResult{}, err
	}
	if sum.Size != n {
		return PushResult{}, fmt.Errorf("the file has %d bytes of the tail's %d: %w", sum.Size, n, ErrRefused)
	}
	if err := checkTail(content, tail, repo.SystemID, opts.SegmentSize); err != nil {
		return PushResult{}, refuse(err)
	}
	if err := introduce(ctx, repo, tail, "", opts); err != nil {
		return PushResult{}, err
	}
	return store(ctx, repo, tail, content, sum, opts)
}

// fetchEnd deals with a segment that the archive conclusively does not have, nor
// any later one of its timeline: it hands over what there is of its beginning,
// where that is allowed.
func fetchEnd(ctx context.Context, repo catalog.Cluster, s wal.Segment, dst string, opts FetchOptions) error {
	if opts.Tail == nil {
		return conclude(ctx, repo)
	}
	tail, found, err := repo.LongestTail(ctx, s)
	if err != nil {
		return fmt.Errorf("look for what was received of it: %w", err)
	}
	if !found {
		return conclude(ctx, repo)
	}
	if err := fetchTail(ctx, repo, tail, dst, opts); err != nil {
		return fmt.Errorf("take %s for it: %w", tail, err)
	}
	opts.Tail(tail)
	return nil
}

// fetchTail puts a segment at dst that begins with the tail and goes on with
// zeros. It promises what Fetch does.
func fetchTail(ctx context.Context, repo catalog.Cluster, tail wal.FileName, dst string, opts FetchOptions) error {
	r, err := repo.Store.Get(ctx, repo.WALKey(tail), 0, -1)
	if err != nil {
		return err
	}
	t, err := opts.Spool.Temp()
	if err != nil {
		return errors.Join(err, r.Close())
	}
	if err := errors.Join(receiveTail(t, r, repo.SystemID, tail, opts), r.Close()); err != nil {
		return errors.Join(err, t.Discard())
	}
	return t.Deliver(dst)
}

// receiveTail writes the segment to t and verifies all that comes from r.
func receiveTail(t *walspool.Temp, r io.Reader, systemID uint64, tail wal.FileName, opts FetchOptions) error {
	n, err := tailSize(tail, opts.SegmentSize)
	if err != nil {
		return fmt.Errorf("%w: %w", codec.ErrCorrupt, err)
	}
	or, err := codec.NewObjectReader(r, opts.Identities)
	if err != nil {
		return err
	}
	if fp := or.Fingerprint(); fp.Name != tail.String() || fp.SystemID != systemID || fp.Size != n {
		return fmt.Errorf("the object holds %s of cluster %d instead of %d bytes of %s of cluster %d: %w",
			fp, fp.SystemID, n, tail, systemID, codec.ErrCorrupt)
	}
	if _, err := io.Copy(t, or); err != nil { // of no more than the fingerprint says
		return err
	}
	if err := checkTail(t, tail, systemID, opts.SegmentSize); err != nil {
		return fmt.Errorf("%w: %w", codec.ErrCorrupt, err)
	}
	_, err = io.CopyN(t, zeros{}, int64(opts.SegmentSize)-n)
	return err
}

// zeros is a reader of zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
