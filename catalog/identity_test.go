package catalog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"walden/internal/testkit"
	"walden/postgres/wal"
	"walden/storage"
)

var errNotExist = storage.ErrNotExist

var testIdentity = Identity{SegmentSize: wal.DefaultSegmentSize, PostgresVersion: 15}

func TestIdentity(t *testing.T) {
	store, dir := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	_, err := c.Identity(ctx)
	mustBe(t, err, storage.ErrNotExist)

	for range 2 { // the second finds it
		if err := c.EnsureIdentity(ctx, testIdentity); err != nil {
			t.Fatal(err)
		}
	}
	const golden = `{
  "format": 1,
  "system_identifier": "7312345678901234567",
  "wal_segment_size": 16777216,
  "postgres_version": 15
}
`
	if got := string(take(t, dir, "7312345678901234567/cluster.json")); got != golden {
		t.Errorf("cluster.json is\n%s", got)
	}
	id, err := c.Identity(ctx)
	if err != nil {
		t.Fatal(err)
	}
	check(t, "identity", id, Identity{Format: 1, SystemID: testSystemID, SegmentSize: 16 << 20, PostgresVersion: 15})
}

func TestEnsureIdentityConflict(t *testing.T) {
	store, dir := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	if err := c.EnsureIdentity(ctx, testIdentity); err != nil {
		t.Fatal(err)
	}
	before := take(t, dir, c.identityKey())
	err := c.EnsureIdentity(ctx, Identity{SegmentSize: 64 << 20, PostgresVersion: 15})
	mustBe(t, err, ErrConflict)
	mustSay(t, err.Error(), "16777216", "67108864")
	if !bytes.Equal(take(t, dir, c.identityKey()), before) {
		t.Error("cluster.json was changed")
	}
	if err := c.EnsureIdentity(ctx, Identity{SegmentSize: wal.DefaultSegmentSize, PostgresVersion: 16}); err != nil {
		t.Errorf("another major version than the first: %v", err)
	}
}

// TestEnsureIdentityWritesNothingImpossible: the record could never be changed.
func TestEnsureIdentityWritesNothingImpossible(t *testing.T) {
	store, _ := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	for _, size := range []wal.SegmentSize{0, -1, 3 << 20, 2 << 30} {
		if err := c.EnsureIdentity(ctx, Identity{SegmentSize: size}); err == nil {
			t.Errorf("segment size %d is accepted", size)
		}
	}
	if known, err := c.Known(ctx); err != nil || known {
		t.Errorf("something was stored: %v, %v", known, err)
	}
}

// TestEnsureIdentityRace: of hosts that begin at once, with different ideas, one
// wins, and nobody is told that the other idea is in the repository.
func TestEnsureIdentityRace(t *testing.T) {
	store, _ := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	sizes := [2]wal.SegmentSize{16 << 20, 64 << 20}
	var agreed [2]atomic.Int64
	var g errgroup.Group
	for i := range 16 {
		g.Go(func() error {
			err := c.EnsureIdentity(ctx, Identity{SegmentSize: sizes[i%2]})
			if err == nil {
				agreed[i%2].Add(1)
			} else if !errors.Is(err, ErrConflict) {
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	id, err := c.Identity(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i, size := range sizes {
		want := int64(0)
		if id.SegmentSize == size {
			want = 8
		}
		if got := agreed[i].Load(); got != want {
			t.Errorf("%d of 8 were told that segments of %s are agreed on; the repository says %s", got, size, id.SegmentSize)
		}
	}
}

func TestIdentityRefuses(t *testing.T) {
	const whole = `{"format":1,"system_identifier":"7312345678901234567","wal_segment_size":16777216,"postgres_version":15}`
	for _, c := range []struct {
		name, from, to string
		want           error
	}{
		{"another cluster", "7312345678901234567", "7312345678901234568", storage.ErrCorrupt},
		{"impossible segment size", "16777216", "16777217", storage.ErrCorrupt},
		{"no segment size", `"wal_segment_size":16777216,`, ``, storage.ErrCorrupt},
		{"no format", `"format":1,`, ``, storage.ErrCorrupt},
		{"negative format", `"format":1`, `"format":-1`, storage.ErrCorrupt},
		{"newer format", `"format":1`, `"format":2`, storage.ErrConfig},
		{"newer format with other types", `"format":1,"system_identifier":"7312345678901234567"`, `"format":2,"system_identifier":{}`, storage.ErrConfig},
		{"truncated", `15}`, `1`, storage.ErrCorrupt},
		{"empty", whole, ``, storage.ErrCorrupt},
		{"two records", whole, whole + whole, storage.ErrCorrupt},
		{"not JSON", `{`, `<`, storage.ErrCorrupt},
		{"too long", whole, whole + strings.Repeat(" ", maxRecord), storage.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, dir := directory(t)
			cluster, ctx := Open(store, testSystemID), context.Background()
			put(t, dir, cluster.identityKey(), []byte(strings.Replace(whole, c.from, c.to, 1)))
			_, err := cluster.Identity(ctx)
			mustBe(t, err, c.want)
			mustBe(t, cluster.EnsureIdentity(ctx, testIdentity), c.want)
		})
	}
}

// careless ignores the condition of a conditional create.
type careless struct{ storage.Store }

func (c careless) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (storage.Info, error) {
	if err := c.Store.Delete(ctx, key); err != nil {
		return storage.Info{}, err
	}
	return c.Store.Create(ctx, key, body, size)
}

func TestProbeConditional(t *testing.T) {
	store, dir := directory(t)
	c, ctx := Open(store, testSystemID), context.Background()
	mustBe(t, c.ProbeConditional(ctx), storage.ErrNotExist) // nothing to probe with
	if err := c.EnsureIdentity(ctx, testIdentity); err != nil {
		t.Fatal(err)
	}
	before := take(t, dir, c.identityKey())
	if err := c.ProbeConditional(ctx); err != nil {
		t.Errorf("a store that honours the condition: %v", err)
	}
	if !bytes.Equal(take(t, dir, c.identityKey()), before) {
		t.Error("the probe changed cluster.json")
	}
	for range 3 {
		err := Open(careless{store}, testSystemID).ProbeConditional(ctx)
		mustBe(t, err, ErrNotConditional, storage.ErrConfig)
		mustSay(t, err.Error(), "?conditional=off")
	}
	if id, err := c.Identity(ctx); err != nil || id.SegmentSize != testIdentity.SegmentSize {
		t.Errorf("the probe of a careless store damaged cluster.json: %v, %v", id, err)
	}
}

// lossy loses the answers to the first PUTs that it passes on.
type lossy struct {
	http.RoundTripper
	lose *atomic.Int64
}

func (l lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := l.RoundTripper.RoundTrip(r)
	if err == nil && r.Method == http.MethodPut && l.lose.Add(-1) >= 0 {
		_ = resp.Body.Close()
		return nil, errors.New("connection lost after the request was sent")
	}
	return resp, err
}

// TestProbeConditionalOverBadNetwork: a store that has to ask twice takes an
// object with the very bytes that it sent for its own first try.
func TestProbeConditionalOverBadNetwork(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	for _, entry := range server.Env() {
		name, value, _ := strings.Cut(entry, "=")
		t.Setenv(name, value)
	}
	var lose atomic.Int64
	store := openStore(t, server.URL(server.Bucket(t), ""), storage.Options{Timeout: 20 * time.Second,
		Transport: func(rt http.RoundTripper) http.RoundTripper { return lossy{rt, &lose} }})
	c, ctx := Open(store, testSystemID), context.Background()
	lose.Store(1)
	if err := c.EnsureIdentity(ctx, testIdentity); err != nil {
		t.Fatalf("create cluster.json when the answer is lost: %v", err)
	}
	lose.Store(1)
	if err := c.ProbeConditional(ctx); err != nil {
		t.Errorf("versitygw honours the condition, the probe says: %v", err)
	}
	if lose.Load() >= 0 {
		t.Error("no answer was lost")
	}
}
