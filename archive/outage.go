package archive

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Reporter hears what a long operation has to tell. It is called from several
// goroutines.
type Reporter interface {
	Debug(text string)
	Info(text string)
	Warn(text string)
}

// outage tells once that something does not work any more, and once that it does.
type outage struct {
	report Reporter
	begins string // what is told when it begins, before the cause
	ends   string // what is told when it is over, before how long it took

	mu    sync.Mutex
	since time.Time // zero: it works
}

func (o *outage) failed(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		o.report.Warn(o.begins + ": " + cause.Error())
	}
}

func (o *outage) worked() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.report.Info(fmt.Sprintf("%s after %s", o.ends, time.Since(o.since).Round(time.Second)))
		o.since = time.Time{}
	}
}

// backoff grows from try to try. Half of it is random, so that those who failed
// together don't come back together.
type backoff struct {
	longest time.Duration
	tries   int
}

const shortestBackoff = 250 * time.Millisecond

func (b *backoff) next() time.Duration {
	d := min(shortestBackoff<<min(b.tries, 20), b.longest)
	b.tries++
	return d/2 + rand.N(d/2)
}

func (b *backoff) reset() { b.tries = 0 }
