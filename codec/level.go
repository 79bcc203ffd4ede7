package codec

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// Level says how hard to compress. The zero value is LevelFastest.
type Level int

// The levels. All of them make valid zstd; LevelNone stores the content in
// frames of raw blocks.
const (
	LevelFastest Level = iota
	LevelDefault
	LevelBetter
	LevelNone
)

// ParseLevel reads the name of a level: fastest, default, better or none.
func ParseLevel(s string) (Level, error) {
	for l := LevelFastest; l.valid(); l++ {
		if s == l.String() {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown compression level %q: use fastest, default, better or none", s)
}

// String returns the name that ParseLevel reads.
func (l Level) String() string {
	switch l {
	case LevelFastest:
		return "fastest"
	case LevelDefault:
		return "default"
	case LevelBetter:
		return "better"
	case LevelNone:
		return "none"
	default:
		return fmt.Sprintf("Level(%d)", int(l))
	}
}

func (l Level) valid() bool { return l >= LevelFastest && l <= LevelNone }

// check refuses a value that is none of the constants.
func (l Level) check() error {
	if !l.valid() {
		return fmt.Errorf("unknown compression level %v", l)
	}
	return nil
}

// zstd returns the library's name for a level that compresses.
func (l Level) zstd() zstd.EncoderLevel {
	switch l {
	case LevelDefault:
		return zstd.SpeedDefault
	case LevelBetter:
		return zstd.SpeedBetterCompression
	default:
		return zstd.SpeedFastest
	}
}
