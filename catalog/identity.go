package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"walden/postgres/wal"
	"walden/storage"
)

// Identity is cluster.json: what never changes in the life of a cluster. It
// holds no time and no host, so that every host writes the same bytes.
type Identity struct {
	Format          int             `json:"format"`
	SystemID        uint64          `json:"system_identifier,string"`
	SegmentSize     wal.SegmentSize `json:"wal_segment_size"`
	PostgresVersion int             `json:"postgres_version"` // the major version that first wrote here
}

// ErrConflict means that the repository holds something else under the same
// name. Nothing was changed.
var ErrConflict = errors.New("conflicts with what the repository holds")

// maxRecord bounds the JSON records that are read into memory.
const maxRecord = 1 << 20

// Identity reads cluster.json. storage.ErrNotExist means that no host has
// written to this cluster's part of the repository yet.
func (c Cluster) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	if err := c.readRecord(ctx, c.identityKey(), &id); err != nil {
		return Identity{}, err
	}
	if id.SystemID != c.SystemID || !id.SegmentSize.Valid() {
		return Identity{}, fmt.Errorf("read %s: names system identifier %d and a WAL segment size of %d bytes: %w",
			c.identityKey(), id.SystemID, id.SegmentSize, storage.ErrCorrupt)
	}
	return id, nil
}

// EnsureIdentity makes sure that cluster.json says what id says: it creates the
// record when there is none. ErrConflict means that the repository knows this
// system identifier with another WAL segment size.
func (c Cluster) EnsureIdentity(ctx context.Context, id Identity) error {
	if !id.SegmentSize.Valid() {
		return fmt.Errorf("create %s: a WAL segment size of %d bytes is impossible: %w", c.identityKey(), id.SegmentSize, storage.ErrConfig)
	}
	id.Format, id.SystemID = Format, c.SystemID
	err := c.createRecord(ctx, c.identityKey(), id)
	if !errors.Is(err, storage.ErrExist) {
		return err
	}
	there, err := c.Identity(ctx)
	if err != nil {
		return err
	}
	if there.SegmentSize != id.SegmentSize {
		return fmt.Errorf("%s says WAL segments of %d bytes, this cluster has %d: %w",
			c.identityKey(), there.SegmentSize, id.SegmentSize, ErrConflict)
	}
	return nil
}

// ErrNotConditional means that the store replaced an object although it was told
// to create it only.
var ErrNotConditional = errors.New("the endpoint ignores the condition of a conditional create (If-None-Match)")

// ProbeConditional finds out whether the store honours conditional create:
// ErrNotConditional if not. It creates cluster.json, which must exist, once more
// with a line break at its end: a store that ignores the condition replaces it
// by what says the same, and is told apart. The very same bytes would not do:
// for a store that had to retry they are its own first try, a success.
func (c Cluster) ProbeConditional(ctx context.Context) error {
	body, err := c.readObject(ctx, c.identityKey(), maxRecord)
	if err != nil {
		return err
	}
	body = append(body, '\n')
	_, err = c.Store.Create(ctx, c.identityKey(), bytes.NewReader(body), int64(len(body)))
	switch {
	case errors.Is(err, storage.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("probe conditional create: %w", err)
	}
	return fmt.Errorf("%w: two hosts could overwrite each other's WAL; use a store that honours it, "+
		"or add ?conditional=off to the repository URL to look before each write instead (racing hosts are then not told apart): %w",
		ErrNotConditional, storage.ErrConfig)
}

func (c Cluster) createRecord(ctx context.Context, key string, record any) error {
	body, err := json.MarshalIndent(record, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	body = append(body, '\n')
	if _, err := c.Store.Create(ctx, key, bytes.NewReader(body), int64(len(body))); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}

func (c Cluster) readRecord(ctx context.Context, key string, record any) error {
	body, err := c.readObject(ctx, key, maxRecord)
	if err != nil {
		return err
	}
	if err := decodeRecord(body, record); err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	return nil
}

// decodeRecord parses a record of the repository and refuses one of a newer
// format.
func decodeRecord(body []byte, record any) error {
	var head struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	if head.Format > Format {
		return fmt.Errorf("repository format %d is newer than this walden reads (%d): use a newer walden: %w",
			head.Format, Format, storage.ErrConfig)
	}
	if head.Format < 1 {
		return fmt.Errorf("no format number: %w", storage.ErrCorrupt)
	}
	if err := json.Unmarshal(body, record); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrCorrupt, err)
	}
	return nil
}

func (c Cluster) readObject(ctx context.Context, key string, limit int64) (body []byte, err error) {
	r, err := c.Store.Get(ctx, key, 0, -1)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	body, err = io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("read %s: longer than %d bytes: %w", key, limit, storage.ErrCorrupt)
	}
	return body, nil
}
