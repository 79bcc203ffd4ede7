package commands

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"walden/catalog"
	"walden/postgres/pgdata"
	"walden/postgres/wal"
	"walden/storage"
)

// target is the cluster that a command works on.
type target struct {
	repo    catalog.Cluster
	dir     string         // its data directory; "" when only its system identifier is known
	control pgdata.Control // zero when dir is ""
}

// major returns PostgreSQL's major version where it is known.
func (t target) major() int { return t.control.Major }

// segmentSize returns the cluster's WAL segment size: of pg_control, else of the
// repository.
func (t target) segmentSize(ctx context.Context) (wal.SegmentSize, error) {
	if t.dir != "" {
		return t.control.SegmentSize, nil
	}
	id, err := t.repo.Identity(ctx)
	if errors.Is(err, storage.ErrNotExist) {
		return 0, usagef("the repository does not know cluster %d: give its data directory with --pgdata", t.repo.SystemID)
	}
	return id.SegmentSize, err
}

// clusterOf finds the cluster that a command means: by --pgdata, --cluster, and
// the data directories in where; else it is the only one in the repository. Where
// both are given, --cluster must be the system identifier of the data directory.
func (p *program) clusterOf(c *cli.Context, store storage.Store, where []string) (target, error) {
	t, err := p.dataDirectory(c, where)
	if err != nil {
		return target{}, err
	}
	id := t.control.SystemID
	if asked := c.String("cluster"); asked != "" {
		n, err := strconv.ParseUint(asked, 10, 64)
		if err != nil || n == 0 {
			return target{}, usagef("--cluster: %q is not a system identifier (see 'walden info')", asked)
		}
		if t.dir != "" && n != id {
			if c.String("pgdata") != "" {
				return target{}, usagef("--cluster %d, but %s is cluster %d", n, t.dir, id)
			}
			t = target{}
		}
		id = n
	}
	if id == 0 {
		if id, err = onlyCluster(c.Context, store); err != nil {
			return target{}, err
		}
	}
	t.repo = catalog.Open(store, id)
	return t, nil
}

// operatorsPlaces are where an operator's command looks for a data directory.
func (p *program) operatorsPlaces() []string { return []string{p.env.Getenv("PGDATA"), "."} }

// serversPlaces are where a command looks that the server runs, in its data
// directory, for a file of its pg_wal.
func (p *program) serversPlaces(file string) []string {
	return []string{".", dataDirectoryOf(file), p.env.Getenv("PGDATA")}
}

// dataDirectory finds the data directory that is meant. That of --pgdata must be
// one; else the first in where that is one counts.
func (p *program) dataDirectory(c *cli.Context, where []string) (target, error) {
	if dir := c.String("pgdata"); dir != "" {
		return openData(dir)
	}
	for _, dir := range where {
		if dir == "" {
			continue
		}
		t, err := openData(dir)
		if !errors.Is(err, pgdata.ErrNoCluster) {
			return t, err
		}
	}
	return target{}, nil
}

func openData(dir string) (target, error) {
	control, _, err := pgdata.ReadControl(dir)
	if errors.Is(err, pgdata.ErrNoCluster) {
		return target{}, usagef("%w", err)
	}
	if err != nil {
		return target{}, err
	}
	abs, err := filepath.Abs(dir)
	return target{dir: abs, control: control}, err
}

// onlyCluster returns the system identifier of the only cluster in a repository.
func onlyCluster(ctx context.Context, store storage.Store) (uint64, error) {
	ids, err := catalog.Clusters(ctx, store)
	switch {
	case err != nil:
		return 0, err
	case len(ids) == 1:
		return ids[0], nil
	case len(ids) == 0:
		return 0, errEmpty
	}
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = strconv.FormatUint(id, 10)
	}
	return 0, usagef("the repository holds %d clusters: choose one with --cluster (%s)", len(ids), strings.Join(names, ", "))
}

// errEmpty is a conclusive answer: the repository could be read.
var errEmpty = errors.New("the repository holds no cluster: nothing has been stored in it yet")
