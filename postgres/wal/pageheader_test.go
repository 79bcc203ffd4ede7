package wal_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"walden/postgres/wal"
)

func TestPageHeadersOfServers(t *testing.T) {
	eachCaptured(t, func(t *testing.T, c captured) {
		var sysid uint64
		for _, name := range []string{c.first, c.forked} {
			h, err := wal.ParseLongHeader(c.read(t, name))
			if err != nil {
				t.Fatal(err)
			}
			// Timeline 3 forks in the middle of a segment, which starts with the page of timeline 1.
			if h.Major() != c.major || h.Timeline != 1 || h.SegmentSize != c.size || h.BlockSize != 8192 {
				t.Errorf("%s: %+v", name, h)
			}
			if sysid == 0 {
				sysid = h.SystemID
			}
			if err := h.Check(mustSegment(t, name), sysid, c.size); err != nil {
				t.Error(err)
			}
			if err := h.Check(mustSegment(t, name), 0, c.size); err != nil {
				t.Error(err)
			}
		}
	})
}

// page gives the header of a real page.
func page(tb testing.TB) []byte {
	tb.Helper()
	c := allCaptured()[2]
	return c.read(tb, c.first)[:wal.LongHeaderSize]
}

func TestParseLongHeaderRefuses(t *testing.T) {
	le := binary.LittleEndian
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		says   string
	}{
		"nothing":         {func([]byte) []byte { return nil }, "0 bytes"},
		"too short":       {func(b []byte) []byte { return b[:39] }, "39 bytes"},
		"zeros":           {func(b []byte) []byte { clear(b); return b }, "all zeros"},
		"version 12":      {func(b []byte) []byte { le.PutUint16(b, 0xD101); return b }, "magic D101"},
		"version 19":      {func(b []byte) []byte { le.PutUint16(b, 0xD11B); return b }, "magic D11B"},
		"big-endian":      {func(b []byte) []byte { slices.Reverse(b[:2]); return b }, "magic 10D1"},
		"short header":    {func(b []byte) []byte { le.PutUint16(b[2:], 0x0005); return b }, "flags 0005"},
		"unknown flag":    {func(b []byte) []byte { le.PutUint16(b[2:], 0x0012); return b }, "flags 0012"},
		"timeline 0":      {func(b []byte) []byte { le.PutUint32(b[4:], 0); return b }, "timeline 0"},
		"segment size 0":  {func(b []byte) []byte { le.PutUint32(b[32:], 0); return b }, "segment size 0"},
		"segment size 3M": {func(b []byte) []byte { le.PutUint32(b[32:], 3<<20); return b }, "segment size 3145728"},
		"segment size 2G": {func(b []byte) []byte { le.PutUint32(b[32:], 1<<31); return b }, "segment size 2147483648"},
		"block size 0":    {func(b []byte) []byte { le.PutUint32(b[36:], 0); return b }, "block size 0"},
		"block size 8191": {func(b []byte) []byte { le.PutUint32(b[36:], 8191); return b }, "block size 8191"},
		"block size 128k": {func(b []byte) []byte { le.PutUint32(b[36:], 1<<17); return b }, "block size 131072"},
	} {
		h, err := wal.ParseLongHeader(c.change(page(t)))
		if !errors.Is(err, wal.ErrPageHeader) || !strings.Contains(err.Error(), c.says) || h != (wal.PageHeader{}) {
			t.Errorf("%s: %+v, %v; want ErrPageHeader that says %q", name, h, err, c.says)
		}
	}
}

func TestPageHeaderCheck(t *testing.T) {
	h, err := wal.ParseLongHeader(page(t)) // of 0/2000000 on timeline 1, segments of 16 MiB
	if err != nil {
		t.Fatal(err)
	}
	later := h
	later.Timeline = 7
	for _, c := range []struct {
		name    string
		header  wal.PageHeader
		segment string
		sysid   uint64
		size    wal.SegmentSize
		says    []string // nothing: accepted
	}{
		{"itself", h, "000000010000000000000002", h.SystemID, 16 << 20, nil},
		{"copied to a later timeline", h, "000000020000000000000002", h.SystemID, 16 << 20, nil},
		{"any cluster", h, "000000010000000000000002", 0, 16 << 20, nil},
		{"another cluster", h, "000000010000000000000002", 42, 16 << 20, []string{"42", "7710"}},
		{"another segment", h, "000000010000000000000003", h.SystemID, 16 << 20, []string{"0/2000000", "0/3000000"}},
		{"another log", h, "000000010000000100000002", h.SystemID, 16 << 20, []string{"0/2000000", "1/2000000"}},
		{"earlier timeline", later, "000000060000000000000002", h.SystemID, 16 << 20, []string{"7", "6"}},
		{"other size", h, "000000010000000000000002", h.SystemID, 64 << 20, []string{"16MB", "64MB"}},
		{"impossible name", h, "000000010000000000000100", h.SystemID, 16 << 20, []string{"000000010000000000000100", "16MB"}},
	} {
		err := c.header.Check(mustSegment(t, c.segment), c.sysid, c.size)
		if c.says == nil {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if !errors.Is(err, wal.ErrMismatch) {
			t.Errorf("%s: %v, want ErrMismatch", c.name, err)
			continue
		}
		for _, part := range c.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not name %s", c.name, err, part)
			}
		}
	}
}

func FuzzParseLongHeader(f *testing.F) {
	for _, c := range allCaptured() {
		f.Add(c.read(f, c.first)[:wal.LongHeaderSize])
		f.Add(c.read(f, c.forked)[:wal.LongHeaderSize+8])
	}
	f.Add(make([]byte, wal.LongHeaderSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wal.ParseLongHeader(b)
		if err != nil {
			if !errors.Is(err, wal.ErrPageHeader) {
				t.Fatalf("%v is not ErrPageHeader", err)
			}
			return
		}
		name := wal.SegmentAt(h.Timeline, h.PageAddr, h.SegmentSize)
		err = h.Check(name, h.SystemID, h.SegmentSize)
		if aligned := name.Start(h.SegmentSize) == h.PageAddr; aligned != (err == nil) {
			t.Fatalf("%+v as %s: %v", h, name, err)
		}
	})
}
