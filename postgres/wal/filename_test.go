package wal_test

import (
	"errors"
	"testing"

	"walden/postgres/wal"
)

func TestParseFileName(t *testing.T) {
	seg := wal.Segment{Timeline: 2, Log: 0x1F, Seg: 0xAB}
	for in, want := range map[string]wal.FileName{
		"000000020000001F000000AB":                       {Kind: wal.KindSegment, Timeline: 2, Segment: seg},
		"000000020000001F000000AB.partial":               {Kind: wal.KindPartial, Timeline: 2, Segment: seg},
		"000000020000001F000000AB.00000028.backup":       {Kind: wal.KindBackupHistory, Timeline: 2, Segment: seg, Offset: 0x28},
		"0000000B.history":                               {Kind: wal.KindHistory, Timeline: 11},
		"000000020000001F000000AB.0000001FAB012345.tail": {Kind: wal.KindTail, Timeline: 2, Segment: seg, End: 0x1FAB012345},
		"000000020000001F000000AB.FFFFFFFFFFFFFFFF.tail": {Kind: wal.KindTail, Timeline: 2, Segment: seg, End: 1<<64 - 1},
	} {
		got, err := wal.ParseFileName(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("ParseFileName(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	if s := (wal.FileName{}).String(); s != "" {
		t.Errorf("the name of nothing is %q", s)
	}
}

func TestParseFileNameRefuses(t *testing.T) {
	for _, in := range []string{
		"", ".", "..", "archive_status", "RECOVERYXLOG", "RECOVERYHISTORY", "xlogtemp.123",
		"000000020000001f000000AB",                  // lower case
		"000000020000001F000000A",                   // too short
		"000000020000001F000000AB0",                 // too long
		"000000020000001F000000AB ",                 //
		" 000000020000001F000000AB",                 //
		"000000020000001F000000AB\n",                //
		"000000020000001F000000AB\x00",              //
		"pg_wal/000000020000001F000000AB",           //
		"000000020000001F000000AB.gz",               //
		"000000020000001F000000AB.partial.gz",       //
		"000000020000001F000000AB.PARTIAL",          //
		"000000020000001F000000AB.partial.partial",  //
		"000000020000001F000000A.partial",           //
		"000000020000001F000000AB.backup",           // no offset
		"000000020000001F000000AB.0000028.backup",   // a short one
		"000000020000001F000000AB.0000002g.backup",  //
		"000000020000001F000000AB.0000002a.backup",  //
		"000000020000001F000000AB/00000028.backup",  //
		"000000020000001F000000AB.00000028.history", //
		"000000020000001F000000AB.tail", "000000020000001F000000AB.00000028.tail", "000000020000001F000000AB.0000001FAB012345.backup",
		"000000020000001F000000AB.0000001FAB01234.tail", "000000020000001F000000AB.0000001FAB0123456.tail", "000000020000001F000000AB.0000001fab012345.tail",
		"000000020000001F000000AB.0000001FAB012345", "0000001FAB012345.tail", "000000020000001F000000AB.partial.tail",
		"0000000b.history", "000000B.history", "00000000B.history", ".history", "0000000B.histor", "0000000B.history.tmp",
		"000000020000001F000000AB.history",
		"００000002000000000000000F",
	} {
		if got, err := wal.ParseFileName(in); !errors.Is(err, wal.ErrSyntax) {
			t.Errorf("ParseFileName(%q) = %+v, %v; want ErrSyntax", in, got, err)
		}
	}
}

func TestParseSegmentRefusesOtherKinds(t *testing.T) {
	for _, in := range []string{"000000020000001F000000AB.partial", "000000020000001F000000AB.0000001FAB012345.tail", "00000002.history", "000000020000001F000000ab", ""} {
		if got, err := wal.ParseSegment(in); !errors.Is(err, wal.ErrSyntax) {
			t.Errorf("ParseSegment(%q) = %v, %v; want ErrSyntax", in, got, err)
		}
	}
}

func FuzzParseFileName(f *testing.F) {
	for _, s := range []string{"000000020000001F000000AB", "000000020000001F000000AB.partial", "000000020000001F000000AB.00000028.backup",
		"000000020000001F000000AB.0000001FAB012345.tail", "0000000B.history", "RECOVERYXLOG", "000000020000001f000000AB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := wal.ParseFileName(s)
		switch {
		case err != nil && !errors.Is(err, wal.ErrSyntax):
			t.Fatalf("ParseFileName(%q): %v is not ErrSyntax", s, err)
		case err == nil && name.String() != s:
			t.Fatalf("%q reads as %q", s, name)
		}
	})
}
