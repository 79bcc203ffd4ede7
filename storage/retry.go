package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"path/filepath"
	"slices"
	"time"
)

var _ Store = (*retryStore)(nil)

// deleteBatch is how many objects one request deletes at most.
const deleteBatch = 1000

// A retryStore tries again what may pass, and gives every error its subject.
type retryStore struct {
	inner   Store
	loc     Location
	timeout time.Duration
	tries   int // 0: no limit
}

func newRetryStore(inner Store, loc Location, timeout time.Duration) *retryStore {
	return &retryStore{inner: inner, loc: loc, timeout: timeout}
}

func (s *retryStore) newEffort() *effort {
	e := newEffort(s.timeout)
	e.most = s.tries
	return e
}

// name is how a message names an object: where it is, not how to get there.
func (l Location) name(key string) string {
	if l.scheme == schemeFile {
		return filepath.Join(l.path, filepath.FromSlash(key))
	}
	return l.endpointURL() + "/" + path.Join(l.bucket, l.prefix) + "/" + key
}

// Close lets go of what the store holds on to between operations, such as
// idle connections. The store can still be used.
func (s *retryStore) Close() error {
	if c, ok := s.inner.(io.Closer); ok {
		return c.Close()
	}
	return nil
}

func (s *retryStore) wrap(op, key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, s.loc.name(key), err)
}

func (s *retryStore) Stat(ctx context.Context, key string) (Info, error) {
	var info Info
	err := s.newEffort().run(ctx, func(ctx context.Context, _ *watch) (err error) {
		info, err = s.inner.Stat(ctx, key)
		return err
	})
	return info, s.wrap("stat", key, err)
}

func (s *retryStore) Delete(ctx context.Context, keys ...string) error {
	for batch := range slices.Chunk(keys, deleteBatch) {
		err := s.newEffort().run(ctx, func(ctx context.Context, _ *watch) error {
			return s.inner.Delete(ctx, batch...)
		})
		if err != nil && len(batch) > 1 {
			return s.wrap("delete", "", fmt.Errorf("%d objects from %s on: %w", len(batch), batch[0], err))
		}
		if err != nil {
			return s.wrap("delete", batch[0], err)
		}
	}
	return nil
}

// List asks anew after the last object that it has yielded.
func (s *retryStore) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		stopped := false
		effort := s.newEffort()
		err := effort.run(ctx, func(ctx context.Context, w *watch) error {
			for info, err := range s.inner.List(ctx, prefix, after) {
				if err != nil {
					return err
				}
				after = info.Key
				w.pause() // the consumer may take its time
				if !yield(info, nil) {
					stopped = true
					return nil
				}
				effort.moved()
				w.resume()
			}
			return nil
		})
		if err != nil && !stopped {
			yield(Info{}, s.wrap("list", prefix, err))
		}
	}
}

// Create compares when a try finds the key taken after an earlier one ended
// without a clear answer: it may have been our own.
func (s *retryStore) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (Info, error) {
	var info Info
	effort := s.newEffort()
	err := effort.run(ctx, func(ctx context.Context, w *watch) (err error) {
		info, err = s.inner.Create(ctx, key, &movingBody{ReadSeeker: body, watch: w}, size)
		return err
	})
	if errors.Is(err, ErrExist) && effort.tries > 1 {
		same, cmpErr := s.holds(ctx, key, body, size)
		if cmpErr != nil {
			return Info{}, s.wrap("create", key, fmt.Errorf("compare with what an earlier try may have stored: %w", cmpErr))
		}
		if same {
			return Info{Key: key, Size: size}, nil
		}
	}
	return info, s.wrap("create", key, err)
}

// holds reports whether the object's content is body's.
func (s *retryStore) holds(ctx context.Context, key string, body io.ReadSeeker, size int64) (bool, error) {
	stored, err := s.Get(ctx, key, 0, -1)
	if errors.Is(err, ErrNotExist) {
		return false, fmt.Errorf("%w: the key was taken, and is free again", ErrUnavailable)
	}
	if err != nil {
		return false, err
	}
	defer stored.Close()
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return false, fmt.Errorf("rewind body: %w", err)
	}
	return equal(stored, io.LimitReader(body, size))
}

func equal(a, b io.Reader) (bool, error) {
	const chunk = 64 << 10 // bytes
	bufA, bufB := make([]byte, chunk), make([]byte, chunk)
	for {
		n, errA := io.ReadFull(a, bufA)
		m, errB := io.ReadFull(b, bufB)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return false, err
			}
		}
		if !bytes.Equal(bufA[:n], bufB[:m]) {
			return false, nil
		}
		if errA != nil || errB != nil {
			// Equal and shorter than a chunk: both have ended.
			return true, nil
		}
	}
}

// A movingBody tells a watch that bytes are being sent.
type movingBody struct {
	io.ReadSeeker
	watch *watch
}

func (b *movingBody) Read(p []byte) (int, error) {
	b.watch.moved()
	return b.ReadSeeker.Read(p)
}
