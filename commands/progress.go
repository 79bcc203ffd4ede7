package commands

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// How often progress shows on a terminal, and in a log.
const (
	redraw = 250 * time.Millisecond
	relog  = 10 * time.Second
)

// progress tells how a long operation goes on: a line that is redrawn on a
// terminal, plain log lines otherwise. It is a backup.Reporter.
type progress struct {
	log   *logger
	total atomic.Int64
	done  atomic.Int64

	mu     sync.Mutex
	began  time.Time // of the current step
	shown  bool      // a progress line stands on the terminal
	stop   chan struct{}
	closed sync.WaitGroup
}

func newProgress(l *logger) *progress {
	p := &progress{log: l, began: time.Now(), stop: make(chan struct{})}
	every := relog
	if l.terminal {
		every = redraw
	}
	p.closed.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show()
			case <-p.stop:
				return
			}
		}
	})
	return p
}

// close ends the display.
func (p *progress) close() {
	close(p.stop)
	p.closed.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

func (p *progress) Step(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	p.began = time.Now()
	p.log.Info().Msg(text)
}

func (p *progress) Total(bytes int64) { p.total.Store(bytes) }
func (p *progress) Add(bytes int64)   { p.done.Add(bytes) }

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	done, total := p.done.Load(), p.total.Load()
	if done == 0 || total == 0 {
		return
	}
	text := progressText(done, total, time.Since(p.began))
	if !p.log.terminal {
		p.log.Info().Msg(text)
		return
	}
	fmt.Fprintf(p.log.out, "\r\x1b[K%s", text)
	p.shown = true
}

// clear removes the progress line so that a log line can take its place.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.log.out, "\r\x1b[K")
		p.shown = false
	}
}

// progressText says how far it is, how fast, and how long it may take. A running
// cluster changes while it is copied, so done may pass total.
func progressText(done, total int64, took time.Duration) string {
	rate := float64(done) / max(took.Seconds(), 0.001)
	text := fmt.Sprintf("%s of %s (%d%%), %s/s", size(done), size(total), min(100*done/total, 100), size(int64(rate)))
	if left := total - done; left > 0 && rate > 0 {
		text += ", " + time.Duration(float64(left)/rate*float64(time.Second)).Round(time.Second).String() + " left"
	}
	return text
}

// size renders bytes for people.
func size(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, u := float64(n)/1000, 0
	for v >= 999.95 && u < len(units)-1 {
		v, u = v/1000, u+1
	}
	return fmt.Sprintf("%.1f %cB", v, units[u])
}
