package server

import (
	"encoding/binary"
	"fmt"
	"time"

	"walden/postgres/wal"
)

// Message is what a Stream brings: WALData, Keepalive or EndOfTimeline.
type Message interface{ isMessage() }

// WALData is a piece of WAL. Pieces follow each other without a gap; where they
// are cut means nothing, neither to records nor to segments.
type WALData struct {
	Start     wal.LSN
	ServerEnd wal.LSN   // up to where the server could send WAL
	Sent      time.Time // by the server's clock
	Data      []byte    // valid until the next call of Next
}

// End is the LSN after the last byte of d.
func (d WALData) End() wal.LSN { return d.Start + wal.LSN(len(d.Data)) }

// Keepalive is sent by a server that has nothing to send, or that wants an answer.
type Keepalive struct {
	ServerEnd wal.LSN   // up to where the server has sent WAL
	Sent      time.Time // by the server's clock
	// ReplyRequested asks for SendStatus at once. A server that doesn't get it
	// within wal_sender_timeout of the last one ends the session; one that shuts
	// down waits for the report that all is flushed.
	ReplyRequested bool
}

// EndOfTimeline says that the server's history leaves the stream's timeline. It is
// the last message of a stream, and the session is ready for the next command.
type EndOfTimeline struct {
	Next wal.Timeline
	// Switch is the first byte that belongs to Next. It may lie before the end of
	// what has arrived: the part behind it then is the beginning of a record that was
	// never completed, and not part of the history.
	Switch wal.LSN
}

func (WALData) isMessage()       {}
func (Keepalive) isMessage()     {}
func (EndOfTimeline) isMessage() {}

// Status is how far the receiver got with the WAL of a stream: the LSN after the
// last byte of which it is true. Zero says nothing.
type Status struct {
	Written wal.LSN // synchronous_commit = remote_write waits for it
	// Flushed WAL survives a power loss. Commits with synchronous_commit = on wait
	// for it, and the slot lets go of all WAL before it.
	Flushed wal.LSN
	// Applied WAL is visible to queries, which remote_apply waits for. It is not for
	// those who only store WAL.
	Applied wal.LSN
	// ReplyRequested asks the server for a Keepalive at once.
	ReplyRequested bool
}

// Sizes of the messages below, without their contents.
const (
	walDataHead     = 1 + 3*8
	keepaliveLength = 1 + 2*8 + 1
	statusLength    = 1 + 4*8 + 1
)

// parseMessage reads what the server wraps in CopyData: XLogData and Primary
// keepalive message, "Streaming Replication Protocol" in PostgreSQL's
// documentation. WALData aliases data.
func parseMessage(data []byte) (Message, error) {
	switch {
	case len(data) == 0:
		return nil, fmt.Errorf("the server sent an empty message")
	case data[0] == 'w' && len(data) >= walDataHead:
		return WALData{Start: lsnAt(data, 1), ServerEnd: lsnAt(data, 9), Sent: timeAt(data, 17), Data: data[walDataHead:]}, nil
	case data[0] == 'k' && len(data) == keepaliveLength:
		return Keepalive{ServerEnd: lsnAt(data, 1), Sent: timeAt(data, 9), ReplyRequested: data[17] != 0}, nil
	}
	return nil, fmt.Errorf("the server sent a message of type %q and %d bytes, which is not known", data[0], len(data))
}

func lsnAt(data []byte, i int) wal.LSN { return wal.LSN(binary.BigEndian.Uint64(data[i:])) }

// epoch is where PostgreSQL's clock starts: 2000-01-01 in UTC, in microseconds of
// the Unix epoch.
const epoch = 946684800_000000

func timeAt(data []byte, i int) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(data[i:])) + epoch).UTC()
}

// appendStatus appends a Standby status update, ready to be sent.
func appendStatus(dst []byte, s Status, now time.Time) []byte {
	dst = append(dst, 'd')
	dst = binary.BigEndian.AppendUint32(dst, 4+statusLength)
	dst = append(dst, 'r')
	for _, lsn := range []wal.LSN{s.Written, s.Flushed, s.Applied} {
		dst = binary.BigEndian.AppendUint64(dst, uint64(lsn))
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(now.UnixMicro()-epoch))
	if s.ReplyRequested {
		return append(dst, 1)
	}
	return append(dst, 0)
}
