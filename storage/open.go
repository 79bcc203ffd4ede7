package storage

import (
	"fmt"
	"net/http"
	"time"
)

// DefaultTimeout is how long an operation keeps trying when Options.Timeout
// is zero.
const DefaultTimeout = time.Minute

// Options say how a store is talked to. The zero value works.
type Options struct {
	// Timeout is how long one operation keeps trying while storage doesn't
	// answer; 0 means DefaultTimeout. It does not limit an operation that
	// moves bytes.
	Timeout time.Duration

	// Tries is how often an operation is tried within Timeout at most, counted
	// from its last progress; 0 means as often as that allows.
	Tries int

	// CAFile names a PEM file of certificate authorities that are trusted
	// beside the system's and the location's.
	CAFile string

	// UserAgent is the program and version that S3 servers may log, such as
	// "walden/1.0".
	UserAgent string

	// Transport wraps what sends S3 requests. It is for tests that count
	// requests or inject faults.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Open returns the store at loc, which retries what may pass. It makes no
// request: a store that can't be reached shows at the first operation. The
// store is also an io.Closer, which drops idle connections.
func Open(loc Location, opts Options) (Store, error) {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	switch loc.scheme {
	case schemeFile:
		return withRetries(newFileStore(loc.path), loc, opts), nil
	case schemeS3:
		s3, err := newS3Store(loc, opts)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", loc, err)
		}
		return withRetries(s3, loc, opts), nil
	default:
		return nil, fmt.Errorf("open storage: %w: the location is empty", ErrConfig)
	}
}

func withRetries(inner Store, loc Location, opts Options) Store {
	s := newRetryStore(inner, loc, opts.Timeout)
	s.tries = opts.Tries
	return s
}
