package walspool

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"walden/internal/durable"
	"walden/postgres/wal"
)

var (
	// ErrBusy means that another process receives into the directory.
	ErrBusy = errors.New("in use by another process")
	// ErrDiffers means that WAL came again, and was not what it was before.
	ErrDiffers = errors.New("differs from what was received before")
)

// Incoming is the directory in which WAL gathers that is streamed from a server:
//
//	position                                   up to where all is durable; who receives holds its lock
//	000000010000000000000007.partial           the segment that is being received, as far as it came
//	000000010000000000000006                   whole, and waits to be stored elsewhere
//	000000010000000000000005.<LSN>.tail        where a timeline ended; waits as well
//	00000002.history                           waits as well
//
// Whatever was durable stays so while the same WAL is received once more, which
// is how receiving goes on after any interruption: from the beginning of the
// segment. One goroutine receives; Waiting, Unfinished, Path and Remove may be
// called by others.
type Incoming struct {
	dir   string
	size  wal.SegmentSize
	state *os.File // position

	file *os.File // of segment; nil before Begin
	segm wal.Segment
	end  wal.LSN // up to where it was received since Begin
	old  []byte  // buffer to compare with

	mu      sync.Mutex
	durable Position
	found   wal.LSN // up to where the segment of durable was found filled; zero once it was begun
}

const (
	positionName = "position"
	partialName  = ".partial"

	// BufferPrefix begins the names of temporary files that others may keep in the
	// directory while they have it open. OpenIncoming removes what is left of them.
	BufferPrefix = "walden-"
)

// OpenIncoming opens the directory, which it creates when needed, for the only
// process that may receive into it: else ErrBusy.
func OpenIncoming(dir string, size wal.SegmentSize) (in *Incoming, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open %s: %w", dir, err)
		}
	}()
	for _, d := range []string{filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir), dir} {
		if err := create(d); err != nil {
			return nil, err
		}
	}
	state, err := os.OpenFile(filepath.Join(dir, positionName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	inherit(state.Name(), state.Chown)
	in = &Incoming{dir: dir, size: size, state: state, old: make([]byte, 128<<10)}
	if err := in.load(); err != nil {
		return nil, errors.Join(err, state.Close())
	}
	return in, nil
}

// Close lets go of the directory. What was not flushed may not survive.
func (in *Incoming) Close() error { return errors.Join(in.closeFile(), in.state.Close()) }

func (in *Incoming) closeFile() error {
	if in.file == nil {
		return nil
	}
	f := in.file
	in.file = nil
	return f.Close()
}

// Durable returns the position up to which all WAL that was received survives a
// power loss: here, or because it was stored elsewhere. It is zero when nothing
// has ever been received.
func (in *Incoming) Durable() Position {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.durable
}

// note takes down what is durable. The note itself is durable only when sync is
// set: an older one is true as well.
func (in *Incoming) note(p Position, sync bool) error {
	if _, err := in.state.WriteAt(p.record(), 0); err != nil {
		return fmt.Errorf("note the position: %w", err)
	}
	if sync {
		if err := in.state.Sync(); err != nil {
			return fmt.Errorf("note the position: %w", err)
		}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.durable = p
	return nil
}

// Begin says that WAL arrives next from the start of a segment. What is durable of
// that segment stays.
func (in *Incoming) Begin(s wal.Segment) error {
	if err := in.begin(s); err != nil {
		return fmt.Errorf("begin %s: %w", in.Path(s.String()+partialName), err)
	}
	return nil
}

func (in *Incoming) begin(s wal.Segment) error {
	if err := in.closeFile(); err != nil {
		return err
	}
	f, err := os.OpenFile(in.Path(s.String()+partialName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	in.file, in.segm, in.end = f, s, s.Start(in.size)
	in.forget()
	inherit(f.Name(), f.Chown)
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if err := durable.SyncDir(in.dir); err != nil {
		return err
	}
	if p := in.Durable(); p.Timeline == s.Timeline && wal.SegmentAt(p.Timeline, p.LSN, in.size) == s && info.Size() >= int64(p.LSN-in.end) {
		return nil
	}
	return in.note(Position{s.Timeline, in.end}, true)
}

// forget makes what was found count no more: it is about to be replaced.
func (in *Incoming) forget() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.found = 0
}

// End returns up to where WAL was received since Begin.
func (in *Incoming) End() wal.LSN { return in.end }

// Full reports whether the segment that was begun is complete: call Seal.
func (in *Incoming) Full() bool { return in.file != nil && in.end == in.segm.End(in.size) }

// Write takes the WAL that follows, and returns how much of it belongs to the
// segment that was begun. ErrDiffers means that something else was durable there.
func (in *Incoming) Write(p []byte) (int, error) {
	p = p[:min(int64(len(p)), int64(in.segm.End(in.size)-in.end))]
	written := 0
	for written < len(p) {
		n, err := in.writeSome(p[written:])
		if err != nil {
			return written, fmt.Errorf("receive %s at %s: %w", in.segm, in.end, err)
		}
		in.end += wal.LSN(n)
		written += n
	}
	return written, nil
}

func (in *Incoming) writeSome(p []byte) (int, error) {
	offset := int64(in.end - in.segm.Start(in.size))
	durable := in.Durable().LSN
	if in.end >= durable {
		return in.file.WriteAt(p, offset)
	}
	old := in.old[:min(int64(len(p)), int64(len(in.old)), int64(durable-in.end))]
	if _, err := in.file.ReadAt(old, offset); err != nil {
		return 0, err
	}
	if !bytes.Equal(old, p[:len(old)]) {
		return 0, ErrDiffers
	}
	return len(old), nil
}

// Flush makes what was received durable.
func (in *Incoming) Flush() error {
	if in.file == nil || in.end <= in.Durable().LSN {
		return nil
	}
	if err := in.file.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", in.segm, err)
	}
	return in.note(Position{in.segm.Timeline, in.end}, false)
}

// Seal gives the segment that is full its name, and returns that.
func (in *Incoming) Seal() (string, error) {
	return in.finish(in.segm.String(), Position{in.segm.Timeline, in.end})
}

// Leave ends a timeline: the segment that was begun will get no more. What there
// is of it gets the name of a tail, which it returns; "" if that is nothing. next
// is where receiving goes on.
func (in *Incoming) Leave(next Position) (string, error) {
	if err := in.Flush(); err != nil {
		return "", err
	}
	end := max(in.end, in.Durable().LSN)
	start := in.segm.Start(in.size)
	if end < start+wal.LongHeaderSize {
		err := in.closeFile()
		if err == nil {
			err = os.Remove(in.Path(in.segm.String() + partialName))
		}
		if err != nil {
			return "", fmt.Errorf("leave %s: %w", in.segm, err)
		}
		return "", in.note(next, true)
	}
	if err := in.file.Truncate(int64(end - start)); err != nil {
		return "", fmt.Errorf("leave %s: %w", in.segm, err)
	}
	tail := wal.FileName{Kind: wal.KindTail, Timeline: in.segm.Timeline, Segment: in.segm, End: end}
	return in.finish(tail.String(), next)
}

// finish gives the segment its final name, so that it waits to be stored.
func (in *Incoming) finish(name string, next Position) (string, error) {
	from := in.Path(in.segm.String() + partialName)
	err := in.file.Sync()
	err = errors.Join(err, in.closeFile())
	if err == nil {
		err = durable.Rename(from, in.Path(name))
	}
	if err != nil {
		return "", fmt.Errorf("finish %s: %w", from, err)
	}
	return name, in.note(next, true)
}

// Add puts a small file, such as a timeline's history, among those that wait.
func (in *Incoming) Add(name string, content []byte) error {
	f, err := os.CreateTemp(in.dir, tempPrefix)
	if err != nil {
		return fmt.Errorf("add %s: %w", name, err)
	}
	inherit(f.Name(), f.Chown)
	_, err = f.Write(content)
	t := &Temp{f: f}
	if err != nil {
		return errors.Join(fmt.Errorf("add %s: %w", name, err), t.Discard())
	}
	return t.Deliver(in.Path(name))
}

// Waiting lists the files that wait to be stored elsewhere, in the order in which
// that is best done: histories, then WAL from the oldest on.
func (in *Incoming) Waiting() ([]string, error) {
	entries, err := os.ReadDir(in.dir)
	if err != nil {
		return nil, fmt.Errorf("list what was received: %w", err)
	}
	var histories, others []string
	for _, e := range entries {
		name, err := wal.ParseFileName(e.Name())
		switch {
		case err != nil:
		case name.Kind == wal.KindHistory:
			histories = append(histories, e.Name())
		case name.Kind == wal.KindSegment, name.Kind == wal.KindTail:
			others = append(others, e.Name())
		}
	}
	slices.Sort(others)
	return append(histories, others...), nil
}

// Unfinished names what is durable of the segment that is being received, and the
// file that begins with it, which may be finished meanwhile. ok is false when
// there is nothing of it yet.
//
// Before the segment is begun again, it names all that is in the file. Everything
// that was ever flushed is part of that. What was not may follow, or be other bytes
// after a power loss: recovery stops there, since every WAL record has a checksum.
func (in *Incoming) Unfinished() (tail wal.FileName, path string, ok bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	p := in.durable
	s := wal.SegmentAt(p.Timeline, p.LSN, in.size)
	end := max(p.LSN, in.found)
	if p.IsZero() || end < s.Start(in.size)+wal.LongHeaderSize {
		return wal.FileName{}, "", false
	}
	tail = wal.FileName{Kind: wal.KindTail, Timeline: p.Timeline, Segment: s, End: end}
	return tail, in.Path(s.String() + partialName), true
}

// Dir returns the directory.
func (in *Incoming) Dir() string { return in.dir }

// Path returns where a file lies.
func (in *Incoming) Path(name string) string { return filepath.Join(in.dir, name) }

// Remove removes a file that was stored elsewhere.
func (in *Incoming) Remove(name string) error {
	if err := os.Remove(in.Path(name)); err != nil {
		return fmt.Errorf("remove what was stored: %w", err)
	}
	return nil
}
