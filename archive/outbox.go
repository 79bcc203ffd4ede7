package archive

import (
	"context"
	"slices"
	"sync"
)

// outbox is the queue of finished files that wait to be stored. It is safe for
// concurrent use.
type outbox struct {
	mu      sync.Mutex
	names   []string // in the order in which they are taken
	taken   []string // being stored
	closed  bool
	changed chan struct{} // closed at the next change
}

func newOutbox(names []string) *outbox {
	return &outbox{names: slices.Clone(names), changed: make(chan struct{})}
}

// change applies f, and wakes who waits.
func (o *outbox) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	close(o.changed)
	o.changed = make(chan struct{})
}

// wait returns once ok, which is called with the lock held, returns true.
func (o *outbox) wait(ctx context.Context, ok func() bool) error {
	for {
		o.mu.Lock()
		done, changed := ok(), o.changed
		o.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// put adds a file, unless it waits already.
func (o *outbox) put(name string) {
	o.change(func() {
		if !slices.Contains(o.names, name) && !slices.Contains(o.taken, name) {
			o.names = append(o.names, name)
		}
	})
}

// close says that nothing more will be put.
func (o *outbox) close() { o.change(func() { o.closed = true }) }

// isClosed reports whether the end is near: who can't store now doesn't wait.
func (o *outbox) isClosed() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.closed
}

// take waits for a file. It is "" when the outbox is closed and empty. Each file
// taken must be reported as done.
func (o *outbox) take(ctx context.Context) (name string, err error) {
	err = o.wait(ctx, func() bool {
		if len(o.names) > 0 {
			name, o.names = o.names[0], o.names[1:]
			o.taken = append(o.taken, name)
		}
		return name != "" || o.closed
	})
	return name, err
}

// done says that a file which was taken is stored, and gone.
func (o *outbox) done(name string) {
	o.change(func() { o.taken = slices.DeleteFunc(o.taken, func(n string) bool { return n == name }) })
}

// size returns how many files are not stored yet.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.names) + len(o.taken)
}

// drop waits until fewer than n files are not stored yet.
func (o *outbox) drop(ctx context.Context, n int) error {
	return o.wait(ctx, func() bool { return len(o.names)+len(o.taken) < n })
}
