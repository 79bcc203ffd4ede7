package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Get's body goes on from the byte reached when the connection is cut.
func (s *retryStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &resumer{store: s, ctx: ctx, cancel: cancel, key: key, off: off, left: n, end: -1, effort: s.newEffort()}
	if err := r.open(); err != nil {
		cancel()
		return nil, s.wrap("get", key, err)
	}
	return r, nil
}

// A resumer reads one range of one object over as many bodies as it takes.
type resumer struct {
	store  *retryStore
	ctx    context.Context // of the Get that made it: a body has no other
	cancel context.CancelFunc
	key    string
	off    int64 // of the next byte
	left   int64 // < 0: to the end
	end    int64 // where the first body said that it ends; < 0: it didn't
	effort *effort
	body   io.ReadCloser // nil between a cut and the next open
	err    error         // what Read returns from now on
}

// open gets the rest of the range. Once the store answers, the connection's
// own limit watches over the body, so that a slow reader isn't cut.
func (r *resumer) open() error {
	return r.effort.run(r.ctx, func(ctx context.Context, w *watch) error {
		w.outlive()
		body, err := r.store.inner.Get(ctx, r.key, r.off, r.left)
		if err != nil {
			return err
		}
		if err := r.checkEnd(body); err != nil {
			body.Close()
			return err
		}
		r.body = body
		return nil
	})
}

// A sizedBody knows at first how many bytes it will deliver.
type sizedBody interface{ promised() int64 }

// checkEnd makes sure that a later body ends where the first one would have:
// else the end of a shorter object would pass for that of this one.
func (r *resumer) checkEnd(body io.Reader) error {
	sized, ok := body.(sizedBody)
	if !ok {
		return nil
	}
	end := r.off + sized.promised()
	if r.end >= 0 && r.end != end {
		return fmt.Errorf("%w: the object's size has changed while it was read", ErrUnavailable)
	}
	r.end = end
	return nil
}

func (r *resumer) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.body == nil {
			if err := r.open(); err != nil {
				return 0, r.fail(err)
			}
		}
		n, err := r.body.Read(p)
		r.advance(n)
		switch {
		case err == nil && n == 0:
			continue
		case err == nil:
			return n, nil
		case err == io.EOF:
			r.err = io.EOF
			return n, io.EOF
		}
		err = r.drop(err)
		if n > 0 && err == nil {
			return n, nil
		}
		if err != nil {
			return n, r.fail(err)
		}
	}
}

func (r *resumer) advance(n int) {
	if n == 0 {
		return
	}
	r.off += int64(n)
	if r.left > 0 {
		r.left -= int64(n)
	}
	r.effort.moved()
}

// drop gives up a body that failed, and waits if it is worth another try.
func (r *resumer) drop(cause error) error {
	r.body.Close() // it has told its error
	r.body = nil
	return r.effort.failed(r.ctx, cause)
}

func (r *resumer) fail(err error) error {
	r.err = r.store.wrap("get", r.key, err)
	return r.err
}

func (r *resumer) Close() error {
	defer r.cancel()
	if r.err == nil {
		r.err = errClosed
	}
	if r.body == nil {
		return nil
	}
	body := r.body
	r.body = nil
	return body.Close()
}

var errClosed = errors.New("read after close")
