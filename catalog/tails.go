package catalog

import (
	"context"
	"fmt"
	"strings"

	"walden/postgres/wal"
)

// LongestTail returns the name of the longest tail that the repository holds of a
// segment: of what had been received of it at some moment.
func (c Cluster) LongestTail(ctx context.Context, s wal.Segment) (tail wal.FileName, found bool, err error) {
	for info, err := range c.Store.List(ctx, c.segmentKey(s)+".", "") {
		if err != nil {
			return wal.FileName{}, false, fmt.Errorf("list tails of %s: %w", s, err)
		}
		name, err := wal.ParseFileName(info.Key[strings.LastIndexByte(info.Key, '/')+1:])
		if err == nil && name.Kind == wal.KindTail && info.Key == c.WALKey(name) {
			tail, found = name, true // names sort by LSN
		}
	}
	return tail, found, nil
}
