package walspool

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"walden/postgres/wal"
)

// load locks the directory, and finds out what it holds.
func (in *Incoming) load() error {
	err := flock(in.state, unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrBusy
	}
	if err != nil {
		return err
	}
	record, err := io.ReadAll(io.LimitReader(in.state, positionSize+1))
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(in.dir)
	if err != nil {
		return err
	}
	in.durable, _ = parsePosition(record) // one that is torn or missing is none
	found := contents{whole: map[wal.Segment]bool{}, partial: map[wal.Segment]int64{}}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) || strings.HasPrefix(e.Name(), BufferPrefix) { // its writer is dead: the lock is ours
			err = errors.Join(err, os.Remove(in.Path(e.Name())))
			continue
		}
		err = errors.Join(err, found.add(e))
	}
	in.durable = found.locate(in.durable, in.size)
	return errors.Join(err, in.measure())
}

// measure finds out up to where the unfinished segment is filled. That may be more
// than is noted as durable, because after a power loss the note may be an old one:
// a file is as long as it was when it was flushed last, or longer. What comes
// behind that was never flushed, and may be anything.
func (in *Incoming) measure() error {
	s := wal.SegmentAt(in.durable.Timeline, in.durable.LSN, in.size)
	f, err := os.Open(in.Path(s.String() + partialName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	n, err := filled(f, min(info.Size(), int64(in.size)), in.old)
	in.found = s.Start(in.size) + wal.LSN(n)
	return err
}

// filled returns how many of the first n bytes of r there are before those at the
// end that are zero.
func filled(r io.ReaderAt, n int64, buf []byte) (int64, error) {
	for n > 0 {
		from := max(0, n-int64(len(buf)))
		piece := buf[:n-from]
		if _, err := r.ReadAt(piece, from); err != nil {
			return 0, err
		}
		n = from + int64(len(bytes.TrimRight(piece, "\x00")))
		if n > from {
			return n, nil
		}
	}
	return 0, nil
}

// contents is what a directory was found with.
type contents struct {
	whole   map[wal.Segment]bool
	partial map[wal.Segment]int64 // bytes
}

func (c contents) add(e fs.DirEntry) error {
	name, err := wal.ParseFileName(e.Name())
	if err != nil {
		return nil // not ours
	}
	switch name.Kind {
	case wal.KindSegment:
		c.whole[name.Segment] = true
	case wal.KindPartial:
		info, err := e.Info()
		if err != nil {
			return err
		}
		c.partial[name.Segment] = info.Size()
	}
	return nil
}

// locate says up to where WAL is provably durable, given the position that was
// noted last, which may lag: a power loss takes notes back, but no segment.
func (c contents) locate(noted Position, size wal.SegmentSize) Position {
	if noted.IsZero() {
		for s := range c.partial {
			noted = noted.later(Position{s.Timeline, s.Start(size)})
		}
		for s := range c.whole {
			noted = noted.later(Position{s.Timeline, s.End(size)})
		}
		return noted
	}
	s := wal.SegmentAt(noted.Timeline, noted.LSN, size)
	if start := s.Start(size); c.partial[s] < int64(noted.LSN-start) {
		noted.LSN = start
	}
	for ; c.whole[s]; s = s.Next(size) {
		noted.LSN = s.End(size)
	}
	return noted
}
