package archive

import (
	"context"
	"errors"
	"fmt"
	"os"

	"walden/postgres/server"
	"walden/postgres/wal"
	"walden/walspool"
)

// run prepares the spool, then receives and stores side by side, beginning with a
// session where there is one.
func (r *receiver) run(ctx context.Context, conn *server.Replication) (err error) {
	key := walspool.IncomingKey{Repository: walspool.RepositoryKey(r.Push.Repository), SystemID: r.SystemID, SegmentSize: r.SegmentSize}
	if r.in, err = walspool.OpenIncoming(key.Dir(r.Spool), r.SegmentSize); err != nil {
		return errors.Join(err, closeSession(conn))
	}
	defer func() { err = errors.Join(err, r.in.Close()) }()
	if err := r.prepare(); err != nil {
		return errors.Join(err, closeSession(conn))
	}
	if conn, err = r.knowMajor(ctx, conn); err != nil {
		return err
	}
	return r.receiveAndStore(ctx, conn)
}

// receiveAndStore ends when receiving does. What was received is stored then, as
// far as that is possible.
func (r *receiver) receiveAndStore(ctx context.Context, conn *server.Replication) (err error) {
	receiving, stop := context.WithCancel(ctx)
	defer stop()
	stored := make(chan error, 1)
	go func() {
		err := r.storeAll(ctx)
		stop()
		stored <- err
	}()
	select { // storage that refuses is told of before the server gets a slot
	case <-r.tried:
		err = r.receive(receiving, conn)
	case <-receiving.Done():
		err = errors.Join(receiving.Err(), closeSession(conn))
	}
	r.out.close()
	r.wantTail()
	storeErr := <-stored
	if ctx.Err() == nil && receiving.Err() != nil && storeErr != nil && errors.Is(err, context.Canceled) {
		return storeErr // why receiving was stopped
	}
	if ctx.Err() == nil && storeErr != nil {
		r.Report.Warn(fmt.Sprintf("not all that was received is stored yet, the next call does that: %v", storeErr))
	}
	return err
}

// prepare looks at what waits in the spool, and how much may.
func (r *receiver) prepare() error {
	names, err := r.in.Waiting()
	if err != nil {
		return err
	}
	r.out = newOutbox(names)
	for _, file := range names {
		if name, err := wal.ParseFileName(file); err == nil && name.Kind == wal.KindHistory {
			r.known[name.Timeline] = true
		}
	}
	limit, err := r.SpoolLimit.bytesOf(r.in.Dir())
	if err != nil {
		return err
	}
	r.limit = max(1, int(limit/int64(r.SegmentSize)))
	r.Push.Memory, r.Push.TempDir = storeMemory, r.in.Dir()
	return nil
}

// knowMajor sees to it that the server's version is known, with which the
// repository is introduced to the cluster: from what is left in the spool, if the
// server wasn't there to tell. If nothing is, it waits for the server.
func (r *receiver) knowMajor(ctx context.Context, conn *server.Replication) (*server.Replication, error) {
	if r.Push.Major != 0 {
		return conn, nil
	}
	names, err := r.in.Waiting()
	if err != nil {
		return nil, err
	}
	_, unfinished, _ := r.in.Unfinished()
	for _, name := range names {
		r.Push.Major = max(r.Push.Major, majorOf(r.in.Path(name)))
	}
	if r.Push.Major = max(r.Push.Major, majorOf(unfinished)); r.Push.Major != 0 {
		return conn, nil
	}
	return r.meet(ctx, false)
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

func closeSession(conn *server.Replication) error {
	if conn == nil {
		return nil
	}
	return hangUp(conn)
}
