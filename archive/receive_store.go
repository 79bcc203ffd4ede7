package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"walden/codec"
	"walden/postgres/wal"
	"walden/storage"
)

// storeAll stores what is finished, and tails of what is not, until ctx ends, or
// the outbox is closed and nothing more can be done.
func (r *receiver) storeAll(ctx context.Context) error {
	if err := r.introduce(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	for range parallelStores {
		g.Go(func() error { return r.storeFinished(ctx) })
	}
	if r.TailInterval > 0 {
		g.Go(func() error { return r.storeTails(ctx) })
	}
	return g.Wait()
}

// introduce makes sure that the repository knows the cluster. A store that
// refuses access, or can't work as it is configured, is not waited for.
func (r *receiver) introduce(ctx context.Context) error {
	tried := sync.OnceFunc(func() { close(r.tried) })
	return r.insist(ctx, func(err error) bool { return errors.Is(err, storage.ErrUnavailable) }, func() error {
		err := introduce(ctx, r.repo, wal.FileName{}, "", r.Push)
		if err == nil || errors.Is(err, storage.ErrUnavailable) {
			tried()
		}
		return err
	})
}

// storeFinished stores one file of the outbox after the other.
func (r *receiver) storeFinished(ctx context.Context) error {
	for {
		name, err := r.out.take(ctx)
		if err != nil || name == "" {
			return err
		}
		if err := r.insist(ctx, passes, func() error { return r.storeFile(ctx, name) }); err != nil {
			return err
		}
		r.out.done(name)
	}
}

func (r *receiver) storeFile(ctx context.Context, file string) error {
	name, err := wal.ParseFileName(file)
	if err != nil {
		return err
	}
	if name.Kind == wal.KindTail {
		err = r.storeTail(ctx, name, r.in.Path(file))
	} else {
		var res PushResult
		res, err = Push(ctx, r.repo, r.in.Path(file), r.Push)
		r.stored(res, err)
	}
	if err != nil {
		return err
	}
	if first := r.first.Load(); first != nil && *first == name.Segment {
		r.lookBack(ctx, *first)
	}
	return r.in.Remove(file)
}

// lookBack warns of a hole before the segment with which a spool began that knew
// nothing: one that was lost may have taken WAL with it that was received, and that
// nobody keeps any more.
func (r *receiver) lookBack(ctx context.Context, first wal.Segment) {
	n := first.Number(r.SegmentSize)
	if n == 0 {
		return
	}
	before := wal.NumberedSegment(first.Timeline, n-1, r.SegmentSize)
	_, err := r.repo.Store.Stat(ctx, r.repo.WALKey(wal.FileName{Kind: wal.KindSegment, Timeline: before.Timeline, Segment: before}))
	if !errors.Is(err, storage.ErrNotExist) {
		return
	}
	earlier, found, err := r.repo.NextSegment(ctx, wal.Segment{Timeline: first.Timeline})
	if err == nil && found && earlier.Less(before) {
		r.Report.Warn(fmt.Sprintf("the repository lacks segment %s, the one before %s with which receiving began, and has earlier ones: "+
			"if nothing else archives it, store it with wal-push from pg_wal of the server or of a standby", before, first))
	}
}

func (r *receiver) stored(res PushResult, err error) {
	if err != nil {
		return
	}
	what := "stored"
	if res.Existed {
		what = "already stored"
	}
	r.Report.Debug(fmt.Sprintf("%s %s, %d bytes in the repository", what, res.Fingerprint.Name, res.StoredSize))
}

// insist tries until it works, or fails in a way that does not pass. Once the
// outbox is closed it tries no more.
func (r *receiver) insist(ctx context.Context, passes func(error) bool, try func() error) error {
	for delay := (backoff{longest: storageBackoff}); ; {
		err := try()
		if err == nil {
			r.storage.worked()
			return nil
		}
		if ctx.Err() != nil || !passes(err) || r.out.isClosed() {
			return err
		}
		r.storage.failed(err)
		if err := pause(ctx, delay.next()); err != nil {
			return err
		}
	}
}

// passes reports whether an error may be over at the next try: storage is away, or
// somebody has to mend it.
func passes(err error) bool {
	for _, target := range []error{storage.ErrUnavailable, storage.ErrDenied, storage.ErrConfig, storage.ErrCorrupt, storage.ErrNotExist, unix.ENOSPC, unix.EDQUOT} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// storeTails stores the beginning of the unfinished segment at every interval in
// which it has grown, and at once when the server is lost.
func (r *receiver) storeTails(ctx context.Context) error {
	every := time.NewTicker(r.TailInterval)
	defer every.Stop()
	var last wal.FileName
	for {
		closed := r.out.isClosed()
		// It is of use only behind whole segments.
		if err := r.out.drop(ctx, 1); err != nil {
			return err
		}
		tail, path, ok := r.in.Unfinished()
		if ok && tail != last {
			stored, err := r.tryTail(ctx, tail, path)
			if err != nil {
				return err
			}
			if stored {
				last = tail
			}
		}
		if closed {
			return nil
		}
		select {
		case <-every.C:
		case <-r.nudge:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tryTail stores a tail, if its segment is not finished meanwhile and storage takes
// it.
func (r *receiver) tryTail(ctx context.Context, tail wal.FileName, path string) (stored bool, err error) {
	err = r.storeTail(ctx, tail, path)
	switch {
	case err == nil:
		r.storage.worked()
		return true, nil
	case errors.Is(err, errFinished):
		return false, nil
	case errors.Is(err, codec.ErrChanged), errors.Is(err, ErrRefused): // what a power loss left is being replaced
		r.Report.Debug(err.Error())
		return false, nil
	case ctx.Err() != nil || !passes(err):
		return false, err
	}
	r.storage.failed(err)
	return false, nil
}

var errFinished = errors.New("the segment was finished")

func (r *receiver) storeTail(ctx context.Context, tail wal.FileName, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store %s: %w: %w", tail, errFinished, err)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", tail, err)
	}
	defer f.Close() // it was only read
	res, err := pushTail(ctx, r.repo, tail, f, r.Push)
	r.stored(res, err)
	return err
}
