package codec

import (
	"io"
	"testing"
)

func TestLevelNames(t *testing.T) {
	for _, level := range levels() {
		got, err := ParseLevel(level.String())
		if err != nil || got != level {
			t.Errorf("ParseLevel(%q) = %v, %v", level.String(), got, err)
		}
	}
	for _, s := range []string{"", "Fastest", "best", "3", "Level(4)"} {
		if level, err := ParseLevel(s); err == nil {
			t.Errorf("ParseLevel(%q) = %v, want an error", s, level)
		}
	}
	if (ObjectOptions{}).Level != LevelFastest {
		t.Error("the zero value is not LevelFastest")
	}
}

func TestUnknownLevelIsRefused(t *testing.T) {
	for _, level := range []Level{-1, 4} {
		if _, err := NewFrameEncoder(level); err == nil {
			t.Errorf("NewFrameEncoder(%v) succeeded", level)
		}
		if _, err := NewZstdWriter(io.Discard, level); err == nil {
			t.Errorf("NewZstdWriter(%v) succeeded", level)
		}
	}
}
