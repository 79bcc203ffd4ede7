package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"walden/catalog"
	"walden/postgres/server"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

// ReceiveOptions say what is received, and how. Server, Slot, Spool and
// Push.Repository are required.
type ReceiveOptions struct {
	Server     server.Config
	Slot       string // a permanent physical replication slot
	CreateSlot bool   // make the slot where there is none

	// SystemID and SegmentSize are those that the server must have; zero: any.
	SystemID    uint64
	SegmentSize wal.SegmentSize

	// Spool is the directory in which WAL gathers until it is stored. It survives
	// what the server must not forget before: keep it on a durable disk.
	Spool string
	// SpoolLimit is how much finished segments may take there while they wait, but
	// one may at least; zero means 1 GB.
	SpoolLimit Limit

	// TailInterval is the time between two looks whether the unfinished segment has
	// grown; if so, what there is of it is stored. 0: never.
	TailInterval time.Duration

	// Push says how files are stored. SegmentSize, Major, Memory and TempDir are
	// filled in.
	Push PushOptions

	Report Reporter
}

var (
	// ErrForked means that the server's history does not pass through the timeline
	// that was received last.
	ErrForked = errors.New("the server's history took another way")

	errSilent = errors.New("the server is silent")
	errSpool  = errors.New("the spool failed")
)

const (
	setUpLimit     = time.Minute      // for connecting and the commands before a stream
	serverBackoff  = 5 * time.Second  // at most, between two attempts to connect
	storageBackoff = 15 * time.Second // at most, between two attempts to store
	steady         = 10 * time.Second // a session that lasted this long was none that failed
	parallelStores = 2
	storeMemory    = 1 << 20 // bytes
)

// Receive streams WAL from a server until ctx ends, and stores it. It then returns
// nil. When it has to stop by itself, what is in the spool is stored first, as
// far as storage takes it; what can't be is there for the next call.
//
// What is reported to the server as flushed is durable in the spool: the slot
// never advances beyond it, and a commit that waits for a synchronous standby
// waits for it. Receiving goes on without a hole from whatever a killed process
// or a power loss leaves behind. When the server or storage can't be reached it
// waits for them for as long as it takes, but not before they were reached for
// the first time when they refuse access, or can't work as they are configured.
//
// Conclusive errors are server.ErrOtherCluster, server.ErrWALRemoved (with the
// range that is missing), ErrForked, walspool.ErrDiffers, catalog.ErrConflict and
// ErrRefused.
func Receive(ctx context.Context, store storage.Store, opts ReceiveOptions) error {
	opts.SpoolLimit = cmp.Or(opts.SpoolLimit, Limit{bytes: 1 << 30})
	r := newReceiver(store, opts)
	conn, err := r.meet(ctx, true)
	if err == nil {
		err = r.run(ctx, conn)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// receiver is one run of Receive.
type receiver struct {
	ReceiveOptions
	store storage.Store
	repo  catalog.Cluster
	in    *walspool.Incoming
	out   *outbox
	limit int           // of files in out
	tried chan struct{} // closed after the first attempt to reach storage
	nudge chan struct{} // asks for a tail now
	met   bool          // the server has streamed
	known map[wal.Timeline]bool
	first atomic.Pointer[wal.Segment] // where a spool that knew nothing began

	away    outage // the server
	storage outage
	full    outage // the spool
}

func newReceiver(store storage.Store, opts ReceiveOptions) *receiver {
	return &receiver{
		ReceiveOptions: opts,
		store:          store,
		tried:          make(chan struct{}),
		nudge:          make(chan struct{}, 1),
		known:          map[wal.Timeline]bool{},
		away:           outage{report: opts.Report, begins: "can't receive WAL, and try again", ends: "receiving WAL again"},
		storage:        outage{report: opts.Report, begins: "can't store WAL, and try again while it gathers in " + opts.Spool, ends: "storing WAL again"},
		full:           outage{report: opts.Report, begins: "the spool has reached its limit, the server keeps what follows", ends: "receiving goes on"},
	}
}

// identity is what a server must always be.
type identity struct {
	systemID uint64
	size     wal.SegmentSize
	major    int // 0: not known
}

// meet waits for the server and learns which cluster it runs. With orLeft, when the
// server is away and the spool was used for the only cluster that can be meant, it
// returns no connection: what is left there can be stored meanwhile.
func (r *receiver) meet(ctx context.Context, orLeft bool) (*server.Replication, error) {
	for delay := (backoff{longest: serverBackoff}); ; {
		conn, id, err := r.connect(ctx)
		if err == nil {
			r.become(id)
			return conn, nil
		}
		if ctx.Err() != nil || r.ends(err) {
			return nil, err
		}
		r.away.failed(err)
		if id, ok := r.left(); ok && orLeft {
			r.become(id)
			return nil, nil
		}
		if err := pause(ctx, delay.next()); err != nil {
			return nil, err
		}
	}
}

// become fixes which cluster is received.
func (r *receiver) become(id identity) {
	r.SystemID, r.SegmentSize = id.systemID, id.size
	r.repo = catalog.Open(r.store, id.systemID)
	r.Push.SegmentSize, r.Push.Major = id.size, id.major
}

// left finds the only cluster whose WAL the spool holds for this repository.
func (r *receiver) left() (identity, bool) {
	keys, err := walspool.FindIncoming(r.Spool, walspool.RepositoryKey(r.Push.Repository))
	if err != nil {
		return identity{}, false // the server will tell
	}
	var found []identity
	for _, k := range keys {
		if id := (identity{systemID: k.SystemID, size: k.SegmentSize}); r.mayBe(id) == nil {
			found = append(found, id)
		}
	}
	if len(found) != 1 {
		return identity{}, false
	}
	return found[0], true
}

// mayBe tells whether a server of that identity is the one that is meant.
func (r *receiver) mayBe(id identity) error {
	if r.SystemID != 0 && r.SystemID != id.systemID {
		return fmt.Errorf("the server runs the cluster with system identifier %d, but %d is meant: %w", id.systemID, r.SystemID, server.ErrOtherCluster)
	}
	if r.SegmentSize != 0 && r.SegmentSize != id.size {
		return fmt.Errorf("the server has WAL segments of %s, but %s are meant: %w", id.size, r.SegmentSize, server.ErrOtherCluster)
	}
	return nil
}

// connect opens a session with the server that is meant.
func (r *receiver) connect(ctx context.Context) (*server.Replication, identity, error) {
	ctx, cancel := context.WithTimeout(ctx, setUpLimit)
	defer cancel()
	conn, err := server.ConnectReplication(ctx, r.Server)
	if err != nil {
		return nil, identity{}, err
	}
	id, err := identify(ctx, conn)
	if err == nil {
		err = r.mayBe(id)
	}
	if err != nil {
		return nil, identity{}, errors.Join(err, hangUp(conn))
	}
	return conn, id, nil
}

func identify(ctx context.Context, conn *server.Replication) (id identity, err error) {
	sys, err := conn.IdentifySystem(ctx)
	if err != nil {
		return identity{}, err
	}
	id.systemID = sys.SystemID
	if id.size, err = conn.SegmentSize(ctx); err != nil {
		return identity{}, err
	}
	version, err := conn.Setting(ctx, "server_version_num")
	if err != nil {
		return identity{}, err
	}
	n, err := strconv.Atoi(version)
	if err != nil {
		return identity{}, fmt.Errorf("read the server's version: %w", err)
	}
	id.major = n / 10000
	return id, nil
}

// hangUp ends a session, whatever became of the context that it was for.
func hangUp(conn *server.Replication) error { return conn.Close(context.Background()) }

// ends reports whether trying again can't help, or must not be tried.
func (r *receiver) ends(err error) bool {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case is(unix.ENOSPC, unix.EDQUOT):
		return false
	case is(server.ErrWALRemoved, server.ErrOtherCluster, walspool.ErrDiffers, ErrForked, errSpool):
		return true
	}
	return !r.met && is(server.ErrConfig, server.ErrDenied, server.ErrNoSlot)
}

// inSpool marks errors of the spool, which no other session of the server mends.
func inSpool(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errSpool, err)
}
