package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second

	// Damage on the way is rare: what is damaged three times is damaged by
	// something that stays.
	corruptTries = 3
)

// errNoAnswer is why a watch cuts a try.
var errNoAnswer = errors.New("no answer")

// An effort is one operation's time and tries, counted from its beginning or
// from its last progress.
type effort struct {
	timeout time.Duration
	most    int // tries; 0: no limit
	since   time.Time
	tries   int
	last    error // of the try before
}

func newEffort(timeout time.Duration) *effort {
	return &effort{timeout: timeout, since: time.Now()}
}

// moved starts time and tries anew.
func (e *effort) moved() { e.since, e.tries, e.last = time.Now(), 0, nil }

// run calls try until it succeeds, fails for good, or time is up.
func (e *effort) run(ctx context.Context, try func(context.Context, *watch) error) error {
	for {
		err := e.once(ctx, try)
		if err == nil {
			return nil
		}
		if err := e.failed(ctx, err); err != nil {
			return err
		}
	}
}

func (e *effort) once(ctx context.Context, try func(context.Context, *watch) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tryCtx, cancel := context.WithCancelCause(ctx)
	w := newWatch(e.since.Add(e.timeout), stallLimit(e.timeout), cancel)
	err := try(tryCtx, w)
	w.pause()
	if !w.outlived || err != nil {
		defer cancel(nil)
	}
	if err != nil && ctx.Err() == nil && context.Cause(tryCtx) == errNoAnswer {
		return e.withLast(errNoAnswer)
	}
	return err
}

func (e *effort) withLast(cause error) error {
	if e.last == nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, cause)
	}
	return fmt.Errorf("%w; the last try: %w", e.last, cause)
}

// failed judges a try that failed with err. It returns nil after a pause when
// another try is worth it, and else the error to report.
func (e *effort) failed(ctx context.Context, err error) error {
	e.tries++
	if ctxErr := ctx.Err(); ctxErr != nil {
		return e.interrupted(ctxErr)
	}
	pause := e.pause()
	switch {
	case errors.Is(err, ErrUnavailable):
	case errors.Is(err, ErrCorrupt) && e.tries < corruptTries:
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("%w: %w", ErrUnavailable, err) // a limit of a lower layer
	default:
		return err
	}
	if e.tries == e.most || time.Since(e.since)+pause >= e.timeout {
		return e.summary(err)
	}
	e.last = err
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return e.interrupted(ctx.Err())
	}
}

// interrupted is the error when the caller's context ended. A deadline means
// that storage did not answer in time; being cancelled says nothing about it.
func (e *effort) interrupted(ctxErr error) error {
	if !errors.Is(ctxErr, context.DeadlineExceeded) {
		return ctxErr
	}
	return e.summary(e.withLast(ctxErr))
}

func (e *effort) summary(err error) error {
	times := "times"
	if e.tries == 1 {
		times = "time"
	}
	return fmt.Errorf("%w (tried %d %s in %s)", err, e.tries, times, time.Since(e.since).Round(time.Millisecond))
}

// pause grows with the tries, and half of it is random, so that hosts that
// failed together don't come back together.
func (e *effort) pause() time.Duration {
	longest := min(firstPause<<min(e.tries-1, 10), longestPause)
	return longest/2 + rand.N(longest/2)
}

// A watch ends a try when the operation's time is up, but not while bytes
// move: then only when none has moved for limit.
type watch struct {
	mu       sync.Mutex
	timer    *time.Timer
	deadline time.Time
	limit    time.Duration
	paused   bool
	outlived bool
}

func newWatch(deadline time.Time, limit time.Duration, cancel context.CancelCauseFunc) *watch {
	timer := time.AfterFunc(time.Until(deadline), func() { cancel(errNoAnswer) })
	return &watch{timer: timer, deadline: deadline, limit: limit}
}

// moved postpones the end. It does nothing once the try is over.
func (w *watch) moved() {
	w.mu.Lock()
	defer w.mu.Unlock()
	end := time.Now().Add(w.limit)
	if w.paused || end.Before(w.deadline) {
		return
	}
	w.deadline = end
	w.timer.Reset(w.limit)
}

// pause stops the clock until resume.
func (w *watch) pause() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = true
	w.timer.Stop()
}

// resume gives the whole limit again, as after progress.
func (w *watch) resume() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = false
	w.deadline = time.Now().Add(w.limit)
	w.timer.Reset(w.limit)
}

// outlive says that what a successful try returns goes on using its context.
func (w *watch) outlive() { w.outlived = true }
