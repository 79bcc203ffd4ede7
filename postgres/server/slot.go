package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"walden/postgres/wal"
)

// Slot is a physical replication slot.
type Slot struct {
	// RestartLSN is from where on the server keeps WAL for the slot. It is zero
	// for a slot that keeps none: it never did, or the server has invalidated it
	// because it kept too much (max_slot_wal_keep_size).
	RestartLSN wal.LSN
	// Timeline is the one of the server's history that RestartLSN lies on; zero
	// when that is zero.
	Timeline wal.Timeline
}

// slotName is what ReplicationSlotValidateName lets pass, src/backend/replication/slot.c.
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

func checkSlotName(name string) error {
	if slotName.MatchString(name) {
		return nil
	}
	return &failure{kind: ErrConfig, text: fmt.Sprintf(
		"%q can't name a replication slot: use 1 to 63 lower-case letters, digits and underscores", asLine(name))}
}

// CreateSlot makes a permanent physical slot that keeps WAL from now on: from the
// redo point of the last checkpoint or, on a standby, restartpoint. That a slot of
// that name exists is ErrSlotExists; a name that no slot can have is ErrConfig.
func (r *Replication) CreateSlot(ctx context.Context, name string) error {
	if err := checkSlotName(name); err != nil {
		return fmt.Errorf("create a replication slot: %w", err)
	}
	options := "(RESERVE_WAL)"
	if r.conn.major() < 15 {
		options = "RESERVE_WAL"
	}
	_, err := r.command(ctx, 4, "CREATE_REPLICATION_SLOT "+quoteName(name)+" PHYSICAL "+options)
	if err != nil {
		return fmt.Errorf("create replication slot %s: %w", name, withKind(err, duplicateObject, ErrSlotExists))
	}
	return nil
}

// ReadSlot reads a physical slot's position. That there is no slot of that name is
// ErrNoSlot; one that isn't physical is ErrConfig. Before PostgreSQL 15 it opens an
// ordinary session for it, which pg_hba.conf must let in, too.
func (r *Replication) ReadSlot(ctx context.Context, name string) (Slot, error) {
	err := checkSlotName(name)
	if err != nil {
		return Slot{}, fmt.Errorf("read a replication slot: %w", err)
	}
	var slot Slot
	if r.conn.major() < 15 {
		slot, err = r.readSlotBySQL(ctx, name)
	} else {
		slot, err = r.readSlot(ctx, name)
	}
	if err != nil {
		return Slot{}, fmt.Errorf("read replication slot %s: %w", name, err)
	}
	return slot, nil
}

func (r *Replication) readSlot(ctx context.Context, name string) (Slot, error) {
	row, err := r.command(ctx, 3, "READ_REPLICATION_SLOT "+quoteName(name))
	if err != nil {
		return Slot{}, withKind(err, featureNotSupported, ErrConfig) // a logical one
	}
	if row[0] == nil {
		return Slot{}, noSlot()
	}
	if row[1] == nil {
		return Slot{}, nil
	}
	slot := Slot{}
	if slot.RestartLSN, err = wal.ParseLSN(string(row[1])); err != nil {
		return Slot{}, err
	}
	slot.Timeline, err = parseTimelineNumber(row[2])
	return slot, err
}

const slotSQL = "SELECT slot_type, restart_lsn FROM pg_replication_slots WHERE slot_name = $1"

func (r *Replication) readSlotBySQL(ctx context.Context, name string) (slot Slot, err error) {
	beside, err := Connect(ctx, r.cfg)
	if err != nil {
		return Slot{}, err
	}
	defer func() { err = errors.Join(err, beside.Close(ctx)) }()
	rows, err := beside.rows(ctx, slotSQL, name)
	switch {
	case err != nil:
		return Slot{}, err
	case len(rows) == 0:
		return Slot{}, noSlot()
	case string(rows[0][0]) != "physical":
		return Slot{}, &failure{kind: ErrConfig, text: "it is a logical slot"}
	case rows[0][1] == nil:
		return Slot{}, nil
	}
	if slot.RestartLSN, err = wal.ParseLSN(string(rows[0][1])); err != nil {
		return Slot{}, err
	}
	slot.Timeline, err = r.timelineAt(ctx, slot.RestartLSN)
	return slot, err
}

// timelineAt is the timeline of the server's history that holds the byte at lsn.
func (r *Replication) timelineAt(ctx context.Context, lsn wal.LSN) (wal.Timeline, error) {
	sys, err := r.IdentifySystem(ctx)
	if err != nil || sys.Timeline == 1 {
		return sys.Timeline, err
	}
	file, err := r.TimelineHistory(ctx, sys.Timeline)
	if err != nil {
		return 0, err
	}
	history, err := wal.ParseHistory(sys.Timeline, file.Content)
	if err != nil {
		return 0, err
	}
	return history.TimelineAt(lsn), nil
}

func noSlot() error {
	return &failure{kind: ErrNoSlot, text: "there is no such slot on this server"}
}

// quoteName makes a name an identifier of the replication grammar, also where it is
// a keyword. There is no way to quote a quote: src/backend/replication/repl_scanner.l.
func quoteName(name string) string { return `"` + name + `"` }
