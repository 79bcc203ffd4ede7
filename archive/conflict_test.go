package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"walden/catalog"
)

// variants are two contents under one name.
func variants(t testing.TB) map[string][2][]byte {
	const name = "000000010000000000000001"
	a, b := segmentOf(t, name, small, 1), segmentOf(t, name, small, 1)
	b[len(b)-1] ^= 1 // the smallest difference
	return map[string][2][]byte{
		name:               {a, b},
		name + ".partial":  {a, b},
		"00000002.history": {[]byte(historyText), []byte("1\t0/3000000\tno recovery target specifieD\n")},
		"000000010000000000000005.00000028.backup": {[]byte(backupText), []byte(backupText + "# again\n")},
	}
}

func TestSameAgainAndConflict(t *testing.T) {
	k, other := newKey(t), newKey(t)
	for keyName, keys := range map[string][2]key{
		"plain": {}, "encrypted": {k, k}, "encrypted to others": {k, other}, "plain, then encrypted": {{}, k}, "encrypted, then plain": {k, {}},
	} {
		t.Run(keyName, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			for name, content := range variants(t) {
				push := func(i int, k key) (PushResult, error) {
					opts := h.pushOptions()
					opts.Codec.Recipients = k.recipients
					return Push(context.Background(), h.repo, h.write(t, name, content[i]), opts)
				}
				first, err := push(0, keys[0])
				if err != nil || first.Existed {
					t.Fatalf("%+v, %v", first, err)
				}
				before, err := os.ReadFile(h.objectPath(t, name))
				if err != nil {
					t.Fatal(err)
				}
				again, err := push(0, keys[1])
				if err != nil || !again.Existed || !again.Fingerprint.Same(first.Fingerprint) {
					t.Errorf("%s, the same again: %+v, %v", name, again, err)
				}
				_, err = push(1, keys[1])
				mustBe(t, err, catalog.ErrConflict)
				mustSay(t, err, hex.EncodeToString(first.Fingerprint.SHA256[:]), fmt.Sprint(len(content[1])), "nothing was overwritten")
				mustHold(t, h.objectPath(t, name), before)
			}
		})
	}
}

// TestRacingPushes: of hosts that push different content under one name at the
// same moment, one wins, and the others are told what they and the winner have.
func TestRacingPushes(t *testing.T) {
	const hosts = 8
	k := newKey(t)
	for round := range 6 {
		ctx, h := context.Background(), newHost(t)
		const name = "00000001000000000000000A"
		results, errs := make([]PushResult, hosts), make([]error, hosts)
		var hold, done sync.WaitGroup
		hold.Add(1)
		for i := range hosts {
			dir := filepath.Join(t.TempDir(), fmt.Sprint(i))
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, segmentOf(t, name, small, uint64(i)), 0o600); err != nil {
				t.Fatal(err)
			}
			opts := PushOptions{SegmentSize: small, Major: 15}
			if round%2 == 1 {
				opts.Codec.Recipients = k.recipients
			}
			done.Go(func() {
				hold.Wait()
				results[i], errs[i] = Push(ctx, h.repo, path, opts)
			})
		}
		hold.Done()
		done.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil && winner >= 0 {
				t.Fatalf("hosts %d and %d both won", winner, i)
			}
			if err == nil {
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("nobody won: %v", errs)
		}
		stored := results[winner].Fingerprint
		for i, err := range errs {
			if i == winner {
				continue
			}
			mustBe(t, err, catalog.ErrConflict)
			ours := sha256.Sum256(segmentOf(t, name, small, uint64(i)))
			mustSay(t, err, hex.EncodeToString(ours[:]), hex.EncodeToString(stored.SHA256[:]))
		}
		dst := filepath.Join(h.pgWAL, "dst")
		if err := Fetch(ctx, h.repo, fileName(t, name), dst, FetchOptions{SegmentSize: small, Spool: h.spool, Identities: k.identities}); err != nil {
			t.Fatal(err)
		}
		mustHold(t, dst, segmentOf(t, name, small, uint64(winner)))
	}
}

// TestRacingPushesOfTheSame all succeed, and one of them stored it.
func TestRacingPushesOfTheSame(t *testing.T) {
	const name = "00000001000000000000000A"
	h := newHost(t)
	path := h.write(t, name, segmentOf(t, name, small, 1))
	var mu sync.Mutex
	var errs []error
	stored := 0
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			res, err := Push(context.Background(), h.repo, path, h.pushOptions())
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
			if !res.Existed {
				stored++
			}
		})
	}
	done.Wait()
	if err := errors.Join(errs...); err != nil || stored != 1 {
		t.Errorf("stored %d times, %v", stored, err)
	}
	h.mustBeClean(t)
}

// TestTwoClustersOneRepository keep apart.
func TestTwoClustersOneRepository(t *testing.T) {
	const name = "000000010000000000000001"
	h := newHost(t)
	h.push(t, name, segmentOf(t, name, small, 1))
	start := fileName(t, name).Segment.Start(small)
	theirs := withHeader(hardData(int(small), 2), 1, start, 42, small)
	opts := PushOptions{SegmentSize: small, Major: 16}
	if res, err := Push(context.Background(), catalog.Open(h.repo.Store, 42), h.write(t, name, theirs), opts); err != nil || res.Existed {
		t.Errorf("%+v, %v", res, err)
	}
}
