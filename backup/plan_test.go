package backup

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/postgres/pgdata"
)

// someEntries makes entries of all sizes, with names of all lengths.
func someEntries(rng *rand.Rand, n int) []pgdata.Entry {
	list := make([]pgdata.Entry, n)
	for i := range list {
		e := pgdata.Entry{Path: fmt.Sprintf("%s/%d", strings.Repeat("d", 1+rng.IntN(30)), i), Type: pgdata.File}
		switch rng.IntN(20) {
		case 0:
			e.Size = rng.Int64N(5 * SliceSize)
		case 1:
			e.Size = []int64{SliceSize - 4*tarBlock, SliceSize, SliceSize + 1, maxStored, 1 << 40}[rng.IntN(5)]
		case 2:
			e.Type, e.Link = pgdata.Symlink, strings.Repeat("t", rng.IntN(4000))
		case 3:
			e.Path = strings.Repeat("long/", rng.IntN(800)) + e.Path
		case 4:
			e.Type = pgdata.Dir
		default:
			e.Size = rng.Int64N(100_000)
		}
		list[i] = e
	}
	return list
}

// TestPlanHoldsEveryEntryOnce checks what must hold for every plan.
func TestPlanHoldsEveryEntryOnce(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		list := someEntries(rng, rng.IntN(3*maxItems))
		var seen []pgdata.Entry
		next := 0
		p := &planner{}
		for j, err := range p.jobs(asWalk(list)) {
			if err != nil {
				t.Fatal(err)
			}
			if j.first < next {
				t.Fatalf("seed %d: a job begins with slice %d, which belongs to the one before it", seed, j.first)
			}
			var size int64
			for _, i := range j.items {
				seen = append(seen, i.Entry)
				size += i.need()
			}
			if len(j.items) == 0 || len(j.items) > maxItems || (len(j.items) > 1 && size > SliceSize) {
				t.Fatalf("seed %d: a job of %d items and %d bytes", seed, len(j.items), size)
			}
			next = j.first + slicesAtMost(size)
		}
		if !slices.Equal(seen, list) {
			t.Fatalf("seed %d: %d entries came out of %d, or in another order", seed, len(seen), len(list))
		}
		if p.next < next {
			t.Fatalf("seed %d: the next slice is %d, but %d may be in use", seed, p.next, next-1)
		}
	}
}

// slicesAtMost counts the slices of a job whose frames don't compress at all.
func slicesAtMost(plain int64) int {
	frame := frameOverhead + int64(frameSize)
	perSlice := (maxStored + frame - 1) / frame * frameSize
	return int((plain + perSlice - 1) / perSlice)
}

// frameOverhead is what a frame of raw blocks has around its content.
var frameOverhead = func() int64 {
	enc, err := codec.NewFrameEncoder(codec.LevelNone)
	if err != nil {
		panic(err)
	}
	return int64(len(enc.Append(nil, make([]byte, frameSize)))) - frameSize
}()

func TestPlanPassesOnTheErrorOfTheWalk(t *testing.T) {
	cause := errors.New("disk on fire")
	walk := func(yield func(pgdata.Entry, error) bool) {
		_ = yield(pgdata.Entry{Path: "a", Type: pgdata.File}, nil) && yield(pgdata.Entry{}, cause)
	}
	var got error
	for _, err := range (&planner{}).jobs(walk) {
		got = err
	}
	if !errors.Is(got, cause) {
		t.Fatalf("got %v", got)
	}
}

// headerOf returns the header that is written for an entry, and what tar makes of it.
func headerOf(t *testing.T, e catalog.Entry) (size int64, h *tar.Header) {
	t.Helper()
	w := newSliceWriter(&copier{}, 2)
	if err := writeHeader(context.Background(), w, &e); err != nil {
		t.Fatal(err)
	}
	raw := w.filling().plain
	h, err := tar.NewReader(bytes.NewReader(raw)).Next()
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(raw)), h
}

// TestHeaderRoom compares what the planner expects with what is written.
func TestHeaderRoom(t *testing.T) {
	for n := 1; n < 4000; n += 1 + n/7 {
		for _, letter := range []string{"x", "ö", "d/"} {
			i := item{Entry: pgdata.Entry{Path: strings.TrimSuffix(strings.Repeat(letter, n), "/"), Type: pgdata.File}}
			e := catalog.Entry{Path: i.Path, Type: catalog.TypeFile, Mode: 0o600, ModTime: time.Now(), Size: 20 << 30}
			if size, _ := headerOf(t, e); size > i.need() {
				t.Errorf("a path of %d bytes: its header takes %d, %d were expected at most", len(i.Path), size, i.need())
			}
			i.Link = strings.Repeat(letter, n)
			e = catalog.Entry{Path: i.Path, Type: catalog.TypeSymlink, Mode: 0o777, ModTime: time.Now(), Target: i.Link}
			if size, _ := headerOf(t, e); size > i.need() {
				t.Errorf("a path and a link of %d bytes: their header takes %d, %d were expected at most", len(i.Path), size, i.need())
			}
		}
	}
}

// TestHeaderOfLargeFile is for files that the old tar header can't describe.
func TestHeaderOfLargeFile(t *testing.T) {
	for _, size := range []int64{1<<33 - 1, 1 << 33, 1<<33 + 1, 1 << 45} {
		e := catalog.Entry{Path: "base/1/2", Type: catalog.TypeFile, Mode: 0o640, ModTime: time.Unix(1_700_000_000, 5), Size: size}
		if _, h := headerOf(t, e); h.Size != size || h.Name != e.Path || h.Mode != 0o640 || h.ModTime.Unix() != 1_700_000_000 || h.Typeflag != tar.TypeReg {
			t.Errorf("size %d came back as %+v", size, h)
		}
	}
}
