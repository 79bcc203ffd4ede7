package backup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"walden/postgres/pgdata"
	"walden/postgres/server"
)

// session is a connection to a server that has proven to be the server of a data
// directory.
type session struct {
	dir    string // absolute path of the data directory
	ctl    pgdata.Control
	conn   *server.Conn
	server server.Identity
}

// connect opens a session with the running server of dir. server.ErrOtherCluster
// means that another server answers.
func connect(ctx context.Context, dir string, cfg server.Config) (s *session, err error) {
	s = &session{}
	if s.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if s.ctl, _, err = pgdata.ReadControl(s.dir); err != nil {
		return nil, err
	}
	pid, err := pgdata.ReadPostmasterPID(s.dir)
	if err != nil {
		return nil, fmt.Errorf("find the running server of %s: %w", s.dir, err)
	}
	cfg.PGData = s.dir
	if s.conn, err = server.Connect(ctx, cfg); err != nil {
		return nil, err
	}
	s.server, err = s.conn.Identity(ctx)
	if err == nil {
		err = server.Prove(s.server, s.dir, s.ctl, pid)
	}
	if err != nil {
		return nil, errors.Join(err, s.close(ctx))
	}
	return s, nil
}

func (s *session) close(ctx context.Context) error { return s.conn.Close(context.WithoutCancel(ctx)) }
