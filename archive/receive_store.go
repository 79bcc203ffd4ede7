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
		if err := r.learnMajor(); err != nil {
			return err
		}
		err := introduce(ctx, r.repo, wal.FileName{}, "", r.Push)
		if err == nil || errors.Is(err, storage.ErrUnavailable) {
			tried()
		}
		return err
	})
}

// learnMajor looks into what was received when the server wasn't there to ask.
func (r *receiver) learnMajor() error {
	if r.Push.Major != 0 {
		return nil
	}
	names, err := r.in.Waiting()
	if err != nil {
		return err
	}
	paths := make([]string, 0, len(names)+1)
	for _, name := range names {
		paths = append(paths, r.in.Path(name))
	}
	if _, path, ok := r.in.Unfinished(); ok {
		paths = append(paths, path)
	}
	for _, path := range paths {
		if major := majorOf(path); major != 0 {
			r.Push.Major = major
			return nil
		}
	}
	return nil // nothing to store
}

// majorOf returns the version that wrote a segment, or 0.
func majorOf(path string) int {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close() // it was only read
	head := make([]byte, wal.LongHeaderSize)
	if _, err := f.ReadAt(head, 0); err != nil {
		return 0
	}
	h, err := wal.ParseLongHeader(head)
	if err != nil {
		return 0
	}
	return h.Major()
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
	return r.in.Remove(file)
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
