package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/storage"
	"walden/storage/storagetest"
)

// flip changes one byte of each PUT's body in flight, for the first times
// requests.
func flip(times int64, puts *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if req.Method == http.MethodPut && puts.Add(1) <= times {
				req = req.Clone(req.Context())
				req.Body = &flippedBody{ReadCloser: req.Body}
			}
			return next.RoundTrip(req)
		})
	}
}

type flippedBody struct {
	io.ReadCloser
	off int
}

func (b *flippedBody) Read(p []byte) (int, error) {
	const at = 50_000
	n, err := b.ReadCloser.Read(p)
	if b.off <= at && at < b.off+n {
		p[at-b.off] ^= 1
	}
	b.off += n
	return n, err
}

func TestS3DamageOnTheWay(t *testing.T) {
	for _, tls := range []bool{false, true} {
		server := ownS3(t, testkit.S3Options{TLS: tls})
		raw := server.URL(server.Bucket(t), "")
		data := storagetest.Content(100_000, 1)

		var puts atomic.Int64
		s := mustOpen(t, raw, storage.Options{Transport: flip(1, &puts)})
		storagetest.MustCreate(t, s, "once", data)
		storagetest.MustHold(t, s, "once", data)
		if n := puts.Load(); n != 2 {
			t.Errorf("one damaged PUT: %d were sent, want 2", n)
		}

		puts.Store(0)
		s = mustOpen(t, raw, storage.Options{Transport: flip(1000, &puts)})
		_, err := s.Create(t.Context(), "always", bytes.NewReader(data), int64(len(data)))
		mustAllBe(t, map[string]error{"create": err}, storage.ErrCorrupt, "other bytes")
		if n := puts.Load(); n != 3 {
			t.Errorf("damage that stays: %d PUTs were sent, want 3", n)
		}
		storagetest.MustBeAbsent(t, s, "always")
	}
}

var errCable = errors.New("somebody stumbled over the cable")

// loseAnswers lets PUTs through, and drops the answers to the first times.
func loseAnswers(times int64, puts *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil || req.Method != http.MethodPut || puts.Add(1) > times {
				return resp, err
			}
			resp.Body.Close()
			return nil, errCable
		})
	}
}

func TestS3AnswerLost(t *testing.T) {
	for _, params := range []string{"", "&conditional=off"} {
		server := ownS3(t, testkit.S3Options{})
		raw := server.URL(server.Bucket(t), "p") + params
		data := storagetest.Content(3<<20, 1)

		var puts atomic.Int64
		s := mustOpen(t, raw, storage.Options{Transport: loseAnswers(1, &puts)})
		info := storagetest.MustCreate(t, s, "mine", data)
		if info.Key != "mine" || info.Size != int64(len(data)) {
			t.Errorf("Create returned %+v", info)
		}
		storagetest.MustHold(t, s, "mine", data)

		other := bytes.Clone(data)
		other[len(other)-1] ^= 1
		for _, theirs := range [][]byte{other, data[:len(data)-1], append(bytes.Clone(data), 0), nil} {
			plain := mustOpen(t, raw, storage.Options{})
			if err := plain.Delete(t.Context(), "theirs"); err != nil {
				t.Fatal(err)
			}
			storagetest.MustCreate(t, plain, "theirs", theirs)
			s = mustOpen(t, raw, storage.Options{Transport: failFirst()})
			_, err := s.Create(t.Context(), "theirs", bytes.NewReader(data), int64(len(data)))
			mustAllBe(t, map[string]error{"create": err}, storage.ErrExist, "theirs")
			storagetest.MustHold(t, s, "theirs", theirs)
		}
	}
}

// failFirst fails the first request before it is sent, which looks the same
// as a lost answer.
func failFirst() func(http.RoundTripper) http.RoundTripper {
	var failed atomic.Bool
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			if failed.CompareAndSwap(false, true) {
				return nil, errCable
			}
			return next.RoundTrip(req)
		})
	}
}

// cutBodies ends each body of a GET with err after n bytes, for the first
// times requests.
func cutBodies(n int64, cause error, times int64, gets *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err == nil && req.Method == http.MethodGet && gets.Add(1) <= times {
				resp.Body = struct {
					io.Reader
					io.Closer
				}{io.MultiReader(io.LimitReader(resp.Body, n), failingReader{cause}), resp.Body}
			}
			return resp, err
		})
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

func TestS3CutBodyResumes(t *testing.T) {
	server := ownS3(t, testkit.S3Options{})
	raw := server.URL(server.Bucket(t), "")
	data := storagetest.Content(1<<20, 1)
	storagetest.MustCreate(t, mustOpen(t, raw, storage.Options{}), "key", data)
	// io.EOF is the nastiest: a body that is short and looks complete.
	for _, cause := range []error{io.ErrUnexpectedEOF, io.EOF, errCable} {
		for _, r := range []struct{ off, n int64 }{{0, -1}, {1000, -1}, {1000, 500_000}} {
			var gets atomic.Int64
			s := mustOpen(t, raw, storage.Options{Transport: cutBodies(100_000, cause, 4, &gets)})
			got, err := storagetest.Read(t.Context(), s, "key", r.off, r.n)
			if err != nil {
				t.Fatal(err)
			}
			want := data[r.off:]
			if r.n >= 0 {
				want = want[:r.n]
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v: got %d bytes from %d, not the %d that were asked for", cause, len(got), r.off, len(want))
			}
			if n := gets.Load(); n != 5 {
				t.Errorf("%v: four cuts took %d requests, want 5", cause, n)
			}
		}
	}
}

func TestS3CutBodyGivesUp(t *testing.T) {
	server := ownS3(t, testkit.S3Options{})
	raw := server.URL(server.Bucket(t), "")
	storagetest.MustCreate(t, mustOpen(t, raw, storage.Options{}), "key", storagetest.Content(1000, 1))
	for _, cause := range []error{io.ErrUnexpectedEOF, io.EOF, errCable} {
		var gets atomic.Int64
		s := mustOpen(t, raw, storage.Options{Timeout: time.Second, Transport: cutBodies(0, cause, 1000, &gets)})
		began := time.Now()
		got, err := storagetest.Read(t.Context(), s, "key", 0, -1)
		mustAllBe(t, map[string]error{"get": err}, storage.ErrUnavailable, "/key", "tried ")
		if len(got) > 0 || time.Since(began) > 5*time.Second || gets.Load() < 2 {
			t.Errorf("%v: got %d bytes after %s and %d requests", cause, len(got), time.Since(began), gets.Load())
		}
	}
}

// A listing that fails in the middle goes on, and yields no object twice.
func TestS3ListResumes(t *testing.T) {
	server := ownS3(t, testkit.S3Options{})
	raw := server.URL(server.Bucket(t), "p")
	want := make([]string, 1100) // two pages
	plain := mustOpen(t, raw, storage.Options{})
	var wg sync.WaitGroup
	for i := range want {
		want[i] = fmt.Sprintf("%04d", i)
		wg.Go(func() { storagetest.MustCreate(t, plain, want[i], nil) })
	}
	wg.Wait()
	var lists atomic.Int64
	s := mustOpen(t, raw, storage.Options{Transport: func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			switch n := lists.Add(1); {
			case err != nil:
				return nil, err
			case n == 1 || n == 3: // cut in the middle of the XML
				resp.Body = struct {
					io.Reader
					io.Closer
				}{io.LimitReader(resp.Body, 2000), resp.Body}
			case n == 4:
				resp.Body.Close()
				return nil, errCable
			}
			return resp, err
		})
	}})
	if got := storagetest.MustList(t, s, "", ""); !slices.Equal(got, want) {
		t.Errorf("got %d keys, want %d", len(got), len(want))
	}
	if n := lists.Load(); n != 5 {
		t.Errorf("two pages with three failures took %d requests, want 5", n)
	}
}
