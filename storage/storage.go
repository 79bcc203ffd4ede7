// Package storage is the object-store contract that every repository is built
// on, and its two implementations: a directory and an S3-compatible bucket.
//
// The contract is deliberately small. An object is created once, by one
// conditional request, and never changed: there is no replacing Put. Every
// failure is one of six sentinels, so that a caller can always tell "no" from
// "can't tell": an outage is never reported as an absent object.
package storage

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"
)

// A Store holds immutable objects under slash-separated keys.
//
// Keys are relative to the Location that the store was opened with. A key has
// no empty, "." or ".." element, no element that begins with a dot, no control
// characters and at most 1024 bytes. In a directory an element has at most 255
// bytes, and one object's key can't be the directory of another's.
//
// All methods are safe for concurrent use. A cancelled context gives an error
// for which errors.Is(err, context.Canceled); a deadline that passes while the
// store doesn't answer is ErrUnavailable.
type Store interface {
	// Get reads n bytes of an object from offset off on; n < 0 reads to the
	// end. A range that reaches beyond the end is cut there, and one that
	// begins there is empty. A body that ends early is an error, never io.EOF.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)

	// Stat tells an object's size and time, or ErrNotExist.
	Stat(ctx context.Context, key string) (Info, error)

	// List yields the objects whose key begins with prefix, which need not
	// end at a slash, and sorts after the key after, in bytewise order of
	// whole keys. It stops at the first error, which it yields.
	List(ctx context.Context, prefix, after string) iter.Seq2[Info, error]

	// Create stores the first size bytes of body, read from offset 0, under a
	// key that must be free: else ErrExist. It returns only once the store
	// has confirmed the bytes durable and their checksum right. When it fails
	// nothing is visible under the key, except that an ErrUnavailable or a
	// cancelled context may leave the whole object behind. The body is not
	// used after Create returns.
	Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (Info, error)

	// Delete removes objects. One that isn't there counts as removed. After
	// an error some may have been removed.
	Delete(ctx context.Context, keys ...string) error
}

// Info describes one object.
type Info struct {
	Key     string
	Size    int64     // bytes
	ModTime time.Time // by the store's clock; zero where the store didn't say, as after Create on S3
}

// The ways in which a store fails, for errors.Is.
var (
	// ErrNotExist is conclusive: the store answered, it is the right one,
	// and it holds no such object.
	ErrNotExist = errors.New("does not exist")

	// ErrExist means that the key was taken when Create asked.
	ErrExist = errors.New("already exists")

	// ErrDenied means that the store refuses these credentials, or that
	// there are none.
	ErrDenied = errors.New("access denied")

	// ErrUnavailable means that the answer could not be determined: network,
	// server error, timeout, full disk. It says nothing about the object.
	ErrUnavailable = errors.New("storage unavailable")

	// ErrCorrupt means that the store received other bytes than were sent.
	ErrCorrupt = errors.New("corrupt")

	// ErrConfig means that the location or the options can't work as they
	// are: a missing bucket or directory, a wrong region, an unknown CA.
	ErrConfig = errors.New("configuration error")
)
