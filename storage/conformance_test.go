package storage_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/storage"
	"walden/storage/storagetest"
)

// mustOpen opens a store that gives up soon, as tests of failures want it.
func mustOpen(t testing.TB, raw string, opts storage.Options) storage.Store {
	t.Helper()
	loc, err := storage.ParseLocation(raw)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Timeout == 0 {
		opts.Timeout = 20 * time.Second
	}
	s, err := storage.Open(loc, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.(io.Closer).Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func setEnv(t testing.TB, env []string) {
	t.Helper()
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
}

// ownS3 starts a server and makes its owner's credentials this process's.
func ownS3(t testing.TB, opts testkit.S3Options) *testkit.S3 {
	t.Helper()
	server := testkit.NewS3(t, opts)
	setEnv(t, server.Env())
	return server
}

func TestFileConforms(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Store {
		return mustOpen(t, "file://"+t.TempDir(), storage.Options{})
	}, storagetest.Caps{})
}

func TestS3Conforms(t *testing.T) {
	variants := []struct {
		name   string
		tls    bool
		prefix string
		params string
		caps   storagetest.Caps
	}{
		{name: "HTTP", prefix: "a/prefix"},
		{name: "HTTPS", tls: true},
		{name: "Unconditional", prefix: "p", params: "&conditional=off", caps: storagetest.Caps{Racy: true}},
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			server := ownS3(t, testkit.S3Options{TLS: v.tls})
			storagetest.Run(t, func(t *testing.T) storage.Store {
				return mustOpen(t, server.URL(server.Bucket(t), v.prefix)+v.params, storage.Options{})
			}, v.caps)
		})
	}
}
