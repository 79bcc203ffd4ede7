package storage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A script is a store whose methods are given one by one.
type script struct {
	get    func(ctx context.Context, off, n int64) (io.ReadCloser, error)
	stat   func(ctx context.Context) (Info, error)
	list   func(ctx context.Context, after string) iter.Seq2[Info, error]
	create func(ctx context.Context, body io.ReadSeeker, size int64) (Info, error)
	delete func(ctx context.Context, keys []string) error
}

var _ Store = (*script)(nil)

func (s *script) Get(ctx context.Context, _ string, off, n int64) (io.ReadCloser, error) {
	return s.get(ctx, off, n)
}
func (s *script) Stat(ctx context.Context, _ string) (Info, error) { return s.stat(ctx) }
func (s *script) List(ctx context.Context, _, after string) iter.Seq2[Info, error] {
	return s.list(ctx, after)
}
func (s *script) Create(ctx context.Context, _ string, body io.ReadSeeker, size int64) (Info, error) {
	return s.create(ctx, body, size)
}
func (s *script) Delete(ctx context.Context, keys ...string) error { return s.delete(ctx, keys) }

var errDown = errors.New("the server is down")

func unavailable() error { return errors.Join(ErrUnavailable, errDown) }

func retrying(s *script, timeout time.Duration) *retryStore {
	return newRetryStore(s, Location{scheme: schemeFile, path: "/repo"}, timeout)
}

func TestRetryUntilTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := retrying(&script{stat: func(context.Context) (Info, error) {
			tries++
			return Info{}, ErrUnavailable
		}}, 30*time.Second)
		began := time.Now()
		_, err := s.Stat(t.Context(), "key")
		if spent := time.Since(began); spent < 20*time.Second || spent > 30*time.Second {
			t.Errorf("it took %s, want nearly 30s", spent)
		}
		if tries < 8 || tries > 20 {
			t.Errorf("it tried %d times", tries)
		}
		if !errors.Is(err, ErrUnavailable) || !strings.HasPrefix(err.Error(), "stat /repo/key: storage unavailable (tried ") {
			t.Errorf("got %v", err)
		}
	})
}

func TestRetryIsNotForAnswers(t *testing.T) {
	for _, answer := range []error{ErrNotExist, ErrExist, ErrDenied, ErrConfig, io.ErrNoProgress} {
		synctest.Test(t, func(t *testing.T) {
			tries := 0
			s := retrying(&script{delete: func(context.Context, []string) error { tries++; return answer }}, time.Minute)
			began := time.Now()
			err := s.Delete(t.Context(), "key")
			if !errors.Is(err, answer) || tries != 1 || time.Since(began) > 0 {
				t.Errorf("got %v after %d tries and %s, want %v at once", err, tries, time.Since(began), answer)
			}
		})
	}
}

// A try that hangs is ended when time is up, by way of its context.
func TestRetryEndsASilentTry(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	s := retrying(&script{
		get:    func(ctx context.Context, _, _ int64) (io.ReadCloser, error) { return nil, hang(ctx) },
		stat:   func(ctx context.Context) (Info, error) { return Info{}, hang(ctx) },
		create: func(ctx context.Context, _ io.ReadSeeker, _ int64) (Info, error) { return Info{}, hang(ctx) },
		delete: func(ctx context.Context, _ []string) error { return hang(ctx) },
		list: func(ctx context.Context, _ string) iter.Seq2[Info, error] {
			return func(yield func(Info, error) bool) { yield(Info{}, hang(ctx)) }
		},
	}, 10*time.Second)
	synctest.Test(t, func(t *testing.T) {
		operations := map[string]func(context.Context) error{
			"get":    func(ctx context.Context) error { _, err := s.Get(ctx, "key", 0, -1); return err },
			"stat":   func(ctx context.Context) error { _, err := s.Stat(ctx, "key"); return err },
			"create": func(ctx context.Context) error { _, err := s.Create(ctx, "key", strings.NewReader(""), 0); return err },
			"delete": func(ctx context.Context) error { return s.Delete(ctx, "key") },
			"list": func(ctx context.Context) error {
				for _, err := range s.List(ctx, "", "") {
					return err
				}
				return nil
			},
		}
		for name, run := range operations {
			began := time.Now()
			if err := run(t.Context()); !errors.Is(err, ErrUnavailable) || time.Since(began) != 10*time.Second {
				t.Errorf("%s: got %v after %s, want ErrUnavailable after 10s", name, err, time.Since(began))
			}
			began = time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := run(ctx); !errors.Is(err, ErrUnavailable) || time.Since(began) != time.Second {
				t.Errorf("%s with a deadline: got %v after %s, want ErrUnavailable after 1s", name, err, time.Since(began))
			}
			cancel()
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if err := run(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
				t.Errorf("%s cancelled: got %v, want context.Canceled alone", name, err)
			}
		}
	})
}

// The last try may only say that time was up: the cause was told before.
func TestRetryKeepsTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := retrying(&script{stat: func(ctx context.Context) (Info, error) {
			if tries++; tries < 3 {
				return Info{}, unavailable()
			}
			<-ctx.Done()
			return Info{}, ctx.Err()
		}}, 10*time.Second)
		_, err := s.Stat(t.Context(), "key")
		if !errors.Is(err, errDown) || !errors.Is(err, errNoAnswer) {
			t.Errorf("got %v, want both causes", err)
		}
	})
}

// No limit of time ends an upload that moves.
func TestRetryLeavesASlowUploadAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := retrying(&script{create: func(ctx context.Context, body io.ReadSeeker, size int64) (Info, error) {
			for range size {
				if _, err := io.ReadFull(body, make([]byte, 1)); err != nil {
					return Info{}, err
				}
				select {
				case <-time.After(4 * time.Second):
				case <-ctx.Done():
					return Info{}, ctx.Err()
				}
			}
			return Info{Size: size}, nil
		}}, 10*time.Second)
		info, err := s.Create(t.Context(), "key", bytes.NewReader(make([]byte, 100)), 100)
		if err != nil || info.Size != 100 {
			t.Errorf("got %+v, %v", info, err)
		}
	})
}

// A consumer that takes its time with what List yields costs no tries.
func TestRetryLeavesASlowConsumerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := retrying(&script{list: func(ctx context.Context, after string) iter.Seq2[Info, error] {
			return func(yield func(Info, error) bool) {
				for _, key := range []string{"a", "b", "c"} {
					if ctx.Err() != nil {
						yield(Info{}, ctx.Err())
						return
					}
					if key > after && !yield(Info{Key: key}, nil) {
						return
					}
					if key == "b" && after == "" {
						yield(Info{}, ErrUnavailable)
						return
					}
				}
			}
		}}, 10*time.Second)
		var keys string
		for info, err := range s.List(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			keys += info.Key
			time.Sleep(time.Hour) // of the bubble's clock
		}
		if keys != "abc" {
			t.Errorf("got %q, want abc", keys)
		}
	})
}

// stutter gives one byte of content at a time, then fails.
type stutter struct {
	rest  string
	given bool
}

func (s *stutter) Read(p []byte) (int, error) {
	switch {
	case s.rest == "":
		return 0, io.EOF
	case s.given:
		return 0, ErrUnavailable
	}
	s.given = true
	p[0], s.rest = s.rest[0], s.rest[1:]
	return 1, nil
}

func (s *stutter) Close() error { return nil }

// Progress starts time anew, so a bad line gets there in the end.
func TestRetryReadsAlongABadLine(t *testing.T) {
	const content = "a hundred bytes or so, one at a time, each after an outage of six seconds"
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		s := retrying(&script{get: func(_ context.Context, off, _ int64) (io.ReadCloser, error) {
			if tries++; tries%2 == 0 {
				time.Sleep(6 * time.Second)
				return nil, ErrUnavailable
			}
			return &stutter{rest: content[off:]}, nil
		}}, 10*time.Second)
		body, err := s.Get(t.Context(), "key", 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		if err != nil || string(got) != content {
			t.Errorf("got %q, %v", got, err)
		}
		if err := body.Close(); err != nil {
			t.Error(err)
		}
		if _, err := body.Read(make([]byte, 1)); err == nil {
			t.Error("Read after Close succeeds")
		}
	})
}

func TestCreateNeverComparesItsFirstTry(t *testing.T) {
	s := retrying(&script{create: func(context.Context, io.ReadSeeker, int64) (Info, error) { return Info{}, ErrExist }}, time.Minute)
	if _, err := s.Create(t.Context(), "key", strings.NewReader("x"), 1); !errors.Is(err, ErrExist) {
		t.Errorf("got %v, want ErrExist", err)
	}
}

func TestEqual(t *testing.T) {
	long := strings.Repeat("x", 64<<10)
	texts := []string{"", "a", "b", "ab", long, long + "a", long + "b", long[1:] + "y", long + long}
	for i, a := range texts {
		for j, b := range texts {
			got, err := equal(strings.NewReader(a), strings.NewReader(b))
			if err != nil || got != (i == j) {
				t.Errorf("texts %d and %d: got %t, %v", i, j, got, err)
			}
		}
	}
}
