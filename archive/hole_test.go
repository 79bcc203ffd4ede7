package archive

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/storage"
)

// Names in these stories: the archive has the first, wants the third, and the
// fifth may be there.
const (
	wanted = "000000010000000000000003"
	later  = "000000010000000000000005"
)

// archived returns a host that has archived segments.
func archived(t *testing.T, names ...string) *host {
	h := newHost(t)
	h.push(t, "000000010000000000000001", segmentOf(t, "000000010000000000000001", small, 0))
	for _, name := range names {
		h.push(t, name, segmentOf(t, strings.TrimSuffix(name, ".partial"), small, 0))
	}
	return h
}

// fetchWanted fetches in a bubble of its own time, and returns how long it took.
func fetchWanted(t *testing.T, h *host, repo catalog.Cluster, ctx context.Context) (took time.Duration, err error) {
	dst := h.victim(t)
	began := time.Now()
	err = Fetch(ctx, repo, fileName(t, wanted), dst, h.fetchOptions())
	took = time.Since(began)
	if err != nil {
		h.mustLeaveAlone(t, dst, err)
	} else {
		mustHold(t, dst, segmentOf(t, wanted, small, 0))
	}
	return took, err
}

func TestEndOfArchive(t *testing.T) {
	for what, names := range map[string][]string{
		"nothing later":             nil,
		"its own partial":           {wanted + ".partial"},
		"later on another timeline": {"000000020000000000000005"},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := archived(t, names...)
			took, err := fetchWanted(t, h, h.repo, context.Background())
			if !errors.Is(err, ErrNotArchived) || errors.Is(err, ErrHole) || took != 0 {
				t.Errorf("%s: %v after %s", what, err, took)
			}
		})
	}
}

// TestHole: a hole is concluded when it still stands after some seconds.
func TestHole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := archived(t, later)
		took, err := fetchWanted(t, h, h.repo, context.Background())
		mustBe(t, err, ErrHole)
		mustNotBe(t, err, ErrNotArchived, storage.ErrNotExist)
		mustSay(t, err, "2 segments from 000000010000000000000003 to 000000010000000000000004", later)
		if took < DefaultPatience || took > DefaultPatience+2*lookAgain {
			t.Errorf("concluded after %s", took)
		}
	})
}

// TestHoleBeforeAnyLaterWAL: a later segment need not be whole to show that those
// before it were.
func TestHoleBeforeAnyLaterWAL(t *testing.T) {
	for _, evidence := range []string{later + ".partial", later + ".0000000000502328.tail", later + ".00000028.backup"} {
		synctest.Test(t, func(t *testing.T) {
			h := archived(t)
			h.put(t, evidence, []byte("its name says enough"))
			_, err := fetchWanted(t, h, h.repo, context.Background())
			mustBe(t, err, ErrHole)
			mustSay(t, err, "from 000000010000000000000003 to 000000010000000000000004", later)
		})
	}
}

// TestHoleBeforeSwitch: a primary was lost before it had archived all that its
// successor has replayed. Nothing later of the timeline is there, but the
// successor's history tells.
func TestHoleBeforeSwitch(t *testing.T) {
	for at, isHole := range map[string]bool{
		"0/380000": false, // in the wanted segment: the successor's copy of it has what was replayed
		"0/3FFFFF": false,
		"0/400000": true, // the wanted segment was finished
		"0/580000": true,
		"0/280000": false, // left before it
	} {
		synctest.Test(t, func(t *testing.T) {
			h := archived(t, "000000020000000000000005")
			h.push(t, "00000002.history", []byte("1\t"+at+"\tno recovery target specified\n"))
			_, err := fetchWanted(t, h, h.repo, context.Background())
			want := ErrNotArchived
			if isHole {
				want = ErrHole
				mustSay(t, err, wanted, "timeline 00000002", at)
			}
			mustBe(t, err, want)
		})
	}
}

// TestUnreadableHistoryIsNoEnd: it may say that there is a hole.
func TestUnreadableHistoryIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := archived(t)
		h.put(t, "00000002.history", []byte("damaged"))
		_, err := fetchWanted(t, h, h.repo, context.Background())
		mustBe(t, err, codec.ErrCorrupt)
		mustNotBe(t, err, ErrNotArchived)
	})
}

// TestHoleAcrossLogs: names don't just count up.
func TestHoleAcrossLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := archived(t, "000000010000000100000001")
		opts := h.fetchOptions()
		opts.Patience = time.Nanosecond
		err := Fetch(context.Background(), h.repo, fileName(t, "000000010000000000000FFE"), h.victim(t), opts)
		mustBe(t, err, ErrHole)
		mustSay(t, err, "3 segments from 000000010000000000000FFE to 000000010000000100000000")
	})
}

// TestHoleCloses: the segment arrives at each moment at which it can: parallel
// pushes land out of order.
func TestHoleCloses(t *testing.T) {
	for at := 2; at <= 16; at++ { // it is missing when first asked for
		synctest.Test(t, func(t *testing.T) {
			h := archived(t, later)
			n := 0
			repo := h.through(func(op, key string) error {
				if n++; n == at {
					h.push(t, wanted, segmentOf(t, wanted, small, 0))
				}
				return nil
			})
			if took, err := fetchWanted(t, h, repo, context.Background()); err != nil || took > DefaultPatience {
				t.Errorf("it arrives at request %d: %v after %s", at, err, took)
			}
		})
	}
}

// TestStoreFailsAtHole: then nothing is known any more.
func TestStoreFailsAtHole(t *testing.T) {
	for _, fault := range faults {
		for at := 1; at <= 8; at++ {
			synctest.Test(t, func(t *testing.T) {
				h := archived(t, later)
				n := 0
				_, err := fetchWanted(t, h, h.through(func(string, string) error {
					if n++; n >= at {
						return fault
					}
					return nil
				}), context.Background())
				mustBe(t, err, fault)
				mustNotBe(t, err, ErrNotArchived, ErrHole)
			})
		}
	}
}

// TestLaterSegmentGoesAway: retention removes what made a hole of the end.
func TestLaterSegmentGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := archived(t, later)
		n := 0
		_, err := fetchWanted(t, h, h.through(func(op, _ string) error {
			if n++; n == 5 {
				return h.repo.Store.Delete(context.Background(), h.repo.WALKey(fileName(t, later)))
			}
			return nil
		}), context.Background())
		mustBe(t, err, ErrNotArchived)
	})
}

// TestHoleCancelled: neither a cancelled nor an expired context waits for the
// patience to end, nor concludes anything.
func TestHoleCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := archived(t, later)
		ctx, cancel := context.WithCancel(context.Background())
		defer time.AfterFunc(700*time.Millisecond, cancel).Stop()
		took, err := fetchWanted(t, h, h.repo, ctx)
		mustBe(t, err, context.Canceled)
		mustNotBe(t, err, ErrNotArchived, ErrHole)
		if took != 700*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h := archived(t, later)
		ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
		defer cancel()
		took, err := fetchWanted(t, h, h.repo, ctx)
		mustBe(t, err, context.DeadlineExceeded)
		mustNotBe(t, err, ErrNotArchived, ErrHole)
		if took != 700*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

// TestDamagedWhenItArrives: what closes the hole must be sound, too.
func TestDamagedWhenItArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := archived(t, later)
		n := 0
		_, err := fetchWanted(t, h, h.through(func(string, string) error {
			if n++; n == 4 {
				h.put(t, wanted, []byte("half of a segm"))
			}
			return nil
		}), context.Background())
		mustNotBe(t, err, ErrNotArchived, ErrHole)
		if !conclusive(err) {
			t.Error(err)
		}
	})
}
