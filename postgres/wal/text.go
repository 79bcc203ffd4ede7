package wal

import "encoding"

// The text forms below are those of String and the Parse functions, so that JSON
// shows LSNs, timelines and segments as PostgreSQL writes them.
var (
	_ encoding.TextMarshaler   = LSN(0)
	_ encoding.TextUnmarshaler = (*LSN)(nil)
	_ encoding.TextMarshaler   = Timeline(0)
	_ encoding.TextUnmarshaler = (*Timeline)(nil)
	_ encoding.TextMarshaler   = Segment{}
	_ encoding.TextUnmarshaler = (*Segment)(nil)
)

// MarshalText returns the form of String.
func (l LSN) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText parses as ParseLSN does.
func (l *LSN) UnmarshalText(b []byte) (err error) {
	*l, err = ParseLSN(string(b))
	return err
}

// MarshalText returns the form of String.
func (t Timeline) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText parses as ParseTimeline does.
func (t *Timeline) UnmarshalText(b []byte) (err error) {
	*t, err = ParseTimeline(string(b))
	return err
}

// MarshalText returns the form of String.
func (s Segment) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText parses as ParseSegment does.
func (s *Segment) UnmarshalText(b []byte) (err error) {
	*s, err = ParseSegment(string(b))
	return err
}
