package catalog

import (
	"context"
	"slices"
	"testing"
)

func TestRunAfter(t *testing.T) {
	store, dir := directory(t)
	c := Open(store, 1)
	putSegments(t, dir, c, "000000010000000000000FFE", "000000010000000000000FFF", "000000010000000100000000",
		"000000010000000100000002", "000000020000000100000001")
	for _, w := range []struct {
		after string
		limit int
		want  []string
	}{
		{"000000010000000000000FFD", 9, []string{"000000010000000000000FFE", "000000010000000000000FFF", "000000010000000100000000"}},
		{"000000010000000000000FFD", 2, []string{"000000010000000000000FFE", "000000010000000000000FFF"}},
		{"000000010000000000000FFF", 9, []string{"000000010000000100000000"}},
		{"000000010000000100000000", 9, nil}, // a hole
		{"000000010000000100000002", 9, nil}, // the end
		{"000000010000000000000001", 9, nil}, // what is there does not follow
		{"000000020000000100000000", 9, []string{"000000020000000100000001"}},
		{"000000030000000100000000", 9, nil},
	} {
		run, err := c.RunAfter(context.Background(), segment(t, w.after), 1<<20, w.limit)
		var got []string
		for _, s := range run {
			got = append(got, s.String())
		}
		if err != nil || !slices.Equal(got, w.want) {
			t.Errorf("after %s, at most %d: %v, %v", w.after, w.limit, got, err)
		}
	}
}
