package wal_test

import (
	"encoding/json"
	"errors"
	"testing"

	"walden/postgres/wal"
)

func TestParseLSN(t *testing.T) {
	for in, want := range map[string]wal.LSN{
		"0/0":               0,
		"16/B374D848":       0x16B374D848,
		"16/b374d848":       0x16B374D848,
		"0/03000000":        0x3000000,
		"FFFFFFFF/FFFFFFFF": 1<<64 - 1,
	} {
		if got, err := wal.ParseLSN(in); err != nil || got != want {
			t.Errorf("ParseLSN(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "/", "0", "0/", "/0", "0/0/0", "0/123456789", "123456789/0", "0/G", "-1/0", "+1/0", "0x1/0", "0/0x1", "0/1_0",
		" 0/0", "0/0 ", "0/ 0", "0\\0", "٠/٠",
	} {
		if got, err := wal.ParseLSN(in); !errors.Is(err, wal.ErrSyntax) {
			t.Errorf("ParseLSN(%q) = %v, %v; want ErrSyntax", in, got, err)
		}
	}
}

func TestParseTimeline(t *testing.T) {
	for in, want := range map[string]wal.Timeline{"00000001": 1, "0000000A": 10, "FFFFFFFF": 1<<32 - 1} {
		got, err := wal.ParseTimeline(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("ParseTimeline(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "1", "0000000a", "000000001", "0000000G", "+0000001", " 0000001"} {
		if got, err := wal.ParseTimeline(in); !errors.Is(err, wal.ErrSyntax) {
			t.Errorf("ParseTimeline(%q) = %v, %v; want ErrSyntax", in, got, err)
		}
	}
}

func TestJSON(t *testing.T) {
	type record struct {
		LSN      wal.LSN
		Timeline wal.Timeline
		Segment  wal.Segment
	}
	const text = `{"LSN":"16/B374D848","Timeline":"0000000A","Segment":"0000000A00000016000000B3"}`
	var r record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if want := (record{0x16B374D848, 10, wal.Segment{Timeline: 10, Log: 0x16, Seg: 0xB3}}); r != want {
		t.Errorf("read %+v, want %+v", r, want)
	}
	if b, err := json.Marshal(r); err != nil || string(b) != text {
		t.Errorf("wrote %s, %v", b, err)
	}
	for _, bad := range []string{`{"LSN":"1"}`, `{"LSN":1}`, `{"Timeline":"1"}`, `{"Segment":""}`} {
		if err := json.Unmarshal([]byte(bad), &r); err == nil {
			t.Errorf("accepted %s", bad)
		}
	}
}

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "16/b374d848", "FFFFFFFF/FFFFFFFF", "0/", "+1/-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := wal.ParseLSN(s)
		if err != nil {
			if !errors.Is(err, wal.ErrSyntax) {
				t.Fatalf("ParseLSN(%q): %v is not ErrSyntax", s, err)
			}
			return
		}
		if again, err := wal.ParseLSN(l.String()); err != nil || again != l {
			t.Fatalf("%q reads as %v, which reads as %v, %v", s, l, again, err)
		}
	})
}
