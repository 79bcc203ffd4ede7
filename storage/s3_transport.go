package storage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// maxStall is how long a connection may move no byte. It has to leave a
// server time to make a whole object durable before it answers.
const maxStall = 30 * time.Second

// stallLimit leaves time for another try after a connection was cut.
func stallLimit(timeout time.Duration) time.Duration { return min(timeout/2, maxStall) }

// newTransport returns an HTTP/1.1 transport, one request to a connection at
// a time, whose connections are cut when they move no byte: a total limit
// would cut a large object on a slow link.
func newTransport(timeout time.Duration, caFiles ...string) (*http.Transport, error) {
	limit := stallLimit(timeout)
	roots, err := certPool(caFiles)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: min(limit, 10*time.Second)}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: conn, limit: limit}, nil
		},
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout: min(limit, 10*time.Second),
		MaxIdleConnsPerHost: 64,
		IdleConnTimeout:     limit / 2, // sooner than the limit, which would cut it in use
		DisableCompression:  true,      // objects are bytes: never decode them
	}, nil
}

// certPool is the system's roots and those of the files. nil means the
// system's alone.
func certPool(files []string) (*x509.CertPool, error) {
	var pool *x509.CertPool
	for _, file := range files {
		if file == "" {
			continue
		}
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: CA file: %w", ErrConfig, err)
		}
		if pool == nil {
			if pool, err = x509.SystemCertPool(); err != nil {
				pool = x509.NewCertPool()
			}
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: CA file %s holds no PEM certificate", ErrConfig, file)
		}
	}
	return pool, nil
}

// A stallConn fails when it has moved no byte in either direction for limit.
// Both deadlines move together: the goroutine that waits for the response
// reads all the while the request is being written, and must not take a slow
// upload for silence.
type stallConn struct {
	net.Conn
	limit time.Duration
}

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	return n, c.explain(err)
}

func (c *stallConn) Write(p []byte) (int, error) {
	if err := c.extend(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err == nil {
		err = c.extend() // the wait for an answer begins now
	}
	return n, c.explain(err)
}

func (c *stallConn) extend() error { return c.Conn.SetDeadline(time.Now().Add(c.limit)) }

func (c *stallConn) explain(err error) error {
	if netErr, ok := err.(net.Error); ok && netErr.Timeout() {
		return &stallError{limit: c.limit, cause: err}
	}
	return err
}

// A stallError is a net.Error, as net/http expects of a connection.
type stallError struct {
	limit time.Duration
	cause error
}

var _ net.Error = (*stallError)(nil)

func (e *stallError) Error() string   { return fmt.Sprintf("no byte moved for %s", e.limit) }
func (e *stallError) Unwrap() error   { return e.cause }
func (e *stallError) Timeout() bool   { return true }
func (e *stallError) Temporary() bool { return true }
