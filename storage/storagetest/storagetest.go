// Package storagetest holds the conformance suite of storage.Store: what each
// implementation has to do, whatever is behind it.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"walden/storage"
)

// Caps say in what a store may fall short of the contract.
type Caps struct {
	// Racy is for a store that looks before it writes, where several racing
	// creators may succeed.
	Racy bool
}

// Run tests the store that open returns: a new and empty one for each call.
func Run(t *testing.T, open func(t *testing.T) storage.Store, caps Caps) {
	tests := []struct {
		name string
		run  func(*testing.T, storage.Store)
	}{
		{"RoundTrip", testRoundTrip},
		{"Absent", testAbsent},
		{"CreateTwice", testCreateTwice},
		{"CreateFromOffsetZero", testCreateFromOffsetZero},
		{"WrongSize", testWrongSize},
		{"FailingBody", testFailingBody},
		{"InvalidKeys", testInvalidKeys},
		{"UnusualKeys", testUnusualKeys},
		{"Ranges", testRanges},
		{"ListPages", testListPages},
		{"ListOrder", testListOrder},
		{"ListPrefix", testListPrefix},
		{"ListStops", testListStops},
		{"Delete", testDelete},
		{"DeleteMany", testDeleteMany},
		{"CancelledBefore", testCancelledBefore},
		{"CancelledGet", testCancelledGet},
		{"CancelledList", testCancelledList},
		{"CancelledCreate", testCancelledCreate},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
	t.Run("Race", func(t *testing.T) {
		if caps.Racy {
			t.Skip("this store does not tell racing creators apart")
		}
		testRace(t, open(t))
	})
}

// Content returns size bytes that no compression or padding could imitate,
// the same ones for the same seed.
func Content(size int, seed uint64) []byte {
	data := make([]byte, size)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(data) // never fails
	return data
}

// MustCreate stores an object or ends the test.
func MustCreate(t testing.TB, s storage.Store, key string, data []byte) storage.Info {
	t.Helper()
	info, err := s.Create(t.Context(), key, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// Read returns a range of an object.
func Read(ctx context.Context, s storage.Store, key string, off, n int64) (data []byte, err error) {
	body, err := s.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, body.Close()) }()
	return io.ReadAll(body)
}

// MustHold ends the test unless the object has just this content.
func MustHold(t testing.TB, s storage.Store, key string, want []byte) {
	t.Helper()
	got, err := Read(t.Context(), s, key, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%s holds %s, want %s", key, sketch(got), sketch(want))
	}
}

// MustBeAbsent ends the test unless the store says that there is no such
// object, in every way of asking.
func MustBeAbsent(t testing.TB, s storage.Store, key string) {
	t.Helper()
	if _, err := s.Stat(t.Context(), key); !errors.Is(err, storage.ErrNotExist) {
		t.Fatalf("Stat of %s: got %v, want ErrNotExist", key, err)
	}
	if _, err := Read(t.Context(), s, key, 0, -1); !errors.Is(err, storage.ErrNotExist) {
		t.Fatalf("Get of %s: got %v, want ErrNotExist", key, err)
	}
	for _, found := range MustList(t, s, key, "") {
		if found == key {
			t.Fatalf("List yields %s", key)
		}
	}
}

// MustList returns the keys that List yields.
func MustList(t testing.TB, s storage.Store, prefix, after string) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), prefix, after) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

// sketch is a short description of bytes.
func sketch(data []byte) string {
	return fmt.Sprintf("%d bytes that begin with %x", len(data), data[:min(len(data), 16)])
}
