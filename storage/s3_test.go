package storage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/storage"
	"walden/storage/storagetest"
)

// A recorder keeps the requests that were sent.
type recorder struct {
	mu   sync.Mutex
	sent []*http.Request
}

func (r *recorder) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		r.mu.Lock()
		r.sent = append(r.sent, req)
		r.mu.Unlock()
		return next.RoundTrip(req)
	})
}

// take returns the requests sent since the last call.
func (r *recorder) take() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func TestS3RequestsAreCounted(t *testing.T) {
	server := ownS3(t, testkit.S3Options{})
	var rec recorder
	s := mustOpen(t, server.URL(server.Bucket(t), "p"), storage.Options{Transport: rec.wrap})
	data := storagetest.Content(20<<20, 1)
	steps := []struct {
		name string
		want string
		run  func() error
	}{
		{"Create", "PUT", func() error {
			_, err := s.Create(t.Context(), "a/b", bytes.NewReader(data), int64(len(data)))
			return err
		}},
		{"Create again", "PUT", func() error {
			_, err := s.Create(t.Context(), "a/b", strings.NewReader("x"), 1)
			return mustBe(err, storage.ErrExist)
		}},
		{"Get", "GET", func() error { return readAll(t, s, "a/b", 0, -1) }},
		{"Get a range", "GET", func() error { return readAll(t, s, "a/b", 5, 5) }},
		{"Get nothing", "GET", func() error { return readAll(t, s, "a/b", 1<<30, -1) }},
		{"Get an absent object", "GET", func() error { return mustBe(readAll(t, s, "a", 0, -1), storage.ErrNotExist) }},
		{"Stat", "HEAD", func() error { _, err := s.Stat(t.Context(), "a/b"); return err }},
		{"Stat an absent object", "HEAD GET", func() error {
			_, err := s.Stat(t.Context(), "a")
			return mustBe(err, storage.ErrNotExist)
		}},
		{"List", "GET", func() error { storagetest.MustList(t, s, "", ""); return nil }},
		{"Delete", "DELETE", func() error { return s.Delete(t.Context(), "a/b") }},
		{"Delete two", "POST", func() error { return s.Delete(t.Context(), "a/b", "c") }},
	}
	for _, step := range steps {
		if err := step.run(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var methods []string
		for _, req := range rec.take() {
			methods = append(methods, req.Method)
		}
		if got := strings.Join(methods, " "); got != step.want {
			t.Errorf("%s sends %s, want %s", step.name, got, step.want)
		}
	}
}

func readAll(t *testing.T, s storage.Store, key string, off, n int64) error {
	t.Helper()
	_, err := storagetest.Read(t.Context(), s, key, off, n)
	return err
}

func mustBe(err, want error) error {
	if errors.Is(err, want) {
		return nil
	}
	return fmt.Errorf("got %v, want %w", err, want)
}

// The condition and the checksum are what promises 1 and 2 stand on.
func TestS3CreateHeaders(t *testing.T) {
	for _, tls := range []bool{false, true} {
		for _, size := range []int{0, 1000, 20 << 20} {
			t.Run(fmt.Sprintf("TLS=%t/%d", tls, size), func(t *testing.T) {
				server := ownS3(t, testkit.S3Options{TLS: tls})
				var rec recorder
				s := mustOpen(t, server.URL(server.Bucket(t), ""), storage.Options{Transport: rec.wrap, UserAgent: "walden/1.2"})
				data := storagetest.Content(size, 1)
				storagetest.MustCreate(t, s, "key", data)
				checkCreateHeaders(t, rec.take()[0], data)
			})
		}
	}
}

func checkCreateHeaders(t *testing.T, req *http.Request, data []byte) {
	t.Helper()
	sum := sha256.Sum256(data)
	for name, want := range map[string]string{
		"If-None-Match":         "*",
		"X-Amz-Content-Sha256":  hex.EncodeToString(sum[:]),
		"X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(sum[:]),
		"X-Amz-Trailer":         "",
		"Content-Encoding":      "",
	} {
		if got := req.Header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if req.ContentLength != int64(len(data)) || len(req.Trailer) > 0 || len(req.TransferEncoding) > 0 {
		t.Errorf("length %d, trailer %v, encoding %v for a body of %d bytes", req.ContentLength, req.Trailer, req.TransferEncoding, len(data))
	}
	if !strings.Contains(req.Header.Get("Authorization"), "x-amz-checksum-sha256") ||
		!strings.Contains(req.Header.Get("Authorization"), "if-none-match") {
		t.Errorf("the signature covers %s: want the checksum and the condition in it", req.Header.Get("Authorization"))
	}
	if !strings.Contains(req.Header.Get("User-Agent"), "walden/1.2") {
		t.Errorf("the user agent is %q", req.Header.Get("User-Agent"))
	}
}

// allOperations calls every method on a key below dir/, all at once.
func allOperations(ctx context.Context, s storage.Store) map[string]error {
	operations := map[string]func() error{
		"stat":   func() error { _, err := s.Stat(ctx, "dir/key"); return err },
		"get":    func() error { _, err := storagetest.Read(ctx, s, "dir/key", 0, -1); return err },
		"create": func() error { _, err := s.Create(ctx, "dir/key", strings.NewReader("x"), 1); return err },
		"list": func() (last error) {
			for _, last = range s.List(ctx, "dir/", "") {
			}
			return last
		},
		"delete":      func() error { return s.Delete(ctx, "dir/key") },
		"delete many": func() error { return s.Delete(ctx, "dir/key", "dir/other") },
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs = make(map[string]error)
	)
	for name, run := range operations {
		wg.Go(func() {
			err := run()
			mu.Lock()
			defer mu.Unlock()
			errs[name] = err
		})
	}
	wg.Wait()
	return errs
}

// mustAllBe also holds what every message has to: one line, and where it was.
func mustAllBe(t *testing.T, errs map[string]error, want error, words ...string) {
	t.Helper()
	for op, err := range errs {
		if !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", op, err, want)
			continue
		}
		for _, sentinel := range []error{storage.ErrNotExist, storage.ErrExist, storage.ErrDenied, storage.ErrUnavailable, storage.ErrCorrupt, storage.ErrConfig} {
			if sentinel != want && errors.Is(err, sentinel) {
				t.Errorf("%s: %v is also %v", op, err, sentinel)
			}
		}
		for _, word := range words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the message lacks %q: %v", op, word, err)
			}
		}
		if strings.ContainsAny(err.Error(), "\n\r") {
			t.Errorf("%s: more than one line: %q", op, err)
		}
	}
}

func TestS3MissingBucket(t *testing.T) {
	for _, params := range []string{"", "&conditional=off"} {
		server := ownS3(t, testkit.S3Options{})
		var rec recorder
		s := mustOpen(t, server.URL("no-such-bucket", "p")+params, storage.Options{Transport: rec.wrap})
		mustAllBe(t, allOperations(t.Context(), s), storage.ErrConfig, "no-such-bucket does not exist", server.Endpoint)
		if n := len(rec.take()); n > 8 {
			t.Errorf("sent %d requests: it was tried again", n)
		}
	}
}

func TestS3Denied(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	bucket := server.Bucket(t)
	strangers := map[string]testkit.S3Credentials{
		"unknown key":  {AccessKey: "nobody-knows-me", SecretKey: "any-secret-key"},
		"wrong secret": {AccessKey: server.Owner.AccessKey, SecretKey: "wrong-secret-key"},
	}
	for name, who := range strangers {
		t.Run(name, func(t *testing.T) {
			setEnv(t, who.Env())
			errs := allOperations(t.Context(), mustOpen(t, server.URL(bucket, "p"), storage.Options{}))
			mustAllBe(t, errs, storage.ErrDenied, "access denied", bucket)
			for op, err := range errs {
				if strings.Contains(err.Error(), who.SecretKey) || strings.Contains(err.Error(), who.AccessKey) {
					t.Errorf("%s: the message holds a key: %v", op, err)
				}
			}
		})
	}
}

func TestS3ReadOnlyUser(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	bucket := server.Bucket(t)
	reader := server.ReadOnlyUser(t, bucket)
	setEnv(t, server.Env())
	raw := server.URL(bucket, "p")
	owner := mustOpen(t, raw, storage.Options{})
	storagetest.MustCreate(t, owner, "dir/key", []byte("x"))
	setEnv(t, reader.Env())
	s := mustOpen(t, raw, storage.Options{})
	storagetest.MustHold(t, s, "dir/key", []byte("x"))
	storagetest.MustBeAbsent(t, s, "dir/other")
	_, err := s.Create(t.Context(), "dir/new", strings.NewReader("x"), 1)
	mustAllBe(t, map[string]error{
		"create": err, "delete": s.Delete(t.Context(), "dir/key"), "delete many": s.Delete(t.Context(), "dir/key", "dir/other"),
	}, storage.ErrDenied)
	storagetest.MustHold(t, s, "dir/key", []byte("x"))
}

func TestS3UnknownCA(t *testing.T) {
	server := ownS3(t, testkit.S3Options{TLS: true})
	bucket := server.Bucket(t)
	raw, _, _ := strings.Cut(server.URL(bucket, ""), "&ca-file=")
	mustAllBe(t, allOperations(t.Context(), mustOpen(t, raw, storage.Options{})), storage.ErrConfig, "ca-file=")
	storagetest.MustBeAbsent(t, mustOpen(t, raw, storage.Options{CAFile: server.CAFile}), "key")

	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	loc, err := storage.ParseLocation(raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{empty, empty + ".absent"} {
		if _, err := storage.Open(loc, storage.Options{CAFile: file}); !errors.Is(err, storage.ErrConfig) {
			t.Errorf("Open with CA file %s: got %v, want ErrConfig", file, err)
		}
	}
}

func TestS3WrongScheme(t *testing.T) {
	server := ownS3(t, testkit.S3Options{})
	raw := strings.Replace(server.URL(server.Bucket(t), ""), "=http://", "=https://", 1)
	mustAllBe(t, allOperations(t.Context(), mustOpen(t, raw, storage.Options{})), storage.ErrConfig, "endpoint=http://")
}

// A dead endpoint is one that refuses connections, or one that takes them and
// never says a word.
func TestS3DeadEndpoint(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // never accepts: the kernel does that for it
	setEnv(t, testkit.S3Credentials{AccessKey: "access-key", SecretKey: "secret-key"}.Env())
	for name, address := range map[string]string{
		"refused": fmt.Sprintf("127.0.0.1:%d", testkit.FreePort(t)),
		"silent":  silent.Addr().String(),
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+"/"+scheme, func(t *testing.T) {
				t.Parallel()
				const timeout = time.Second
				s := mustOpen(t, "s3://bucket/p?endpoint="+scheme+"://"+address, storage.Options{Timeout: timeout})
				began := time.Now()
				errs := allOperations(t.Context(), s)
				mustAllBe(t, errs, storage.ErrUnavailable, scheme+"://"+address+"/bucket/p/", "tried ", " in ")
				if spent, most := time.Since(began), timeout+5*time.Second; spent > most {
					t.Errorf("%d operations took %s, want at most %s", len(errs), spent, most)
				}
			})
		}
	}
}

func TestS3DeadlineOfCaller(t *testing.T) {
	setEnv(t, testkit.S3Credentials{AccessKey: "access-key", SecretKey: "secret-key"}.Env())
	s := mustOpen(t, fmt.Sprintf("s3://bucket?endpoint=http://127.0.0.1:%d", testkit.FreePort(t)), storage.Options{Timeout: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := s.Stat(ctx, "key")
	mustAllBe(t, map[string]error{"stat": err}, storage.ErrUnavailable, "connection refused", "deadline")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want context.DeadlineExceeded in it", err)
	}
}

func TestS3OutageEnds(t *testing.T) {
	server := ownS3(t, testkit.S3Options{})
	s := mustOpen(t, server.URL(server.Bucket(t), ""), storage.Options{Timeout: time.Minute})
	storagetest.MustCreate(t, s, "before", []byte("x"))
	server.Stop(t)
	failed := make(chan struct{})
	var once sync.Once
	flaky := mustOpen(t, server.URL("bucket-1", ""), storage.Options{Timeout: time.Minute, Transport: func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(req *http.Request) (*http.Response, error) {
			resp, err := next.RoundTrip(req)
			if err != nil {
				once.Do(func() { close(failed) })
			}
			return resp, err
		})
	}})
	done := make(chan error, 1)
	go func() {
		_, err := flaky.Create(t.Context(), "after", strings.NewReader("y"), 1)
		done <- err
	}()
	<-failed
	server.Start(t)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	storagetest.MustHold(t, s, "before", []byte("x"))
	storagetest.MustHold(t, s, "after", []byte("y"))
}
