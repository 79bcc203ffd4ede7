package storage

import (
	"context"
	"fmt"
	"iter"
	"strings"

	"github.com/minio/minio-go/v7"
)

// List sends one request for each thousand objects.
func (s *s3Store) List(ctx context.Context, prefix, after string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := checkPrefix(prefix); err != nil {
			yield(Info{}, err)
			return
		}
		if err := s.creds.ready(ctx); err != nil {
			yield(Info{}, err)
			return
		}
		s.list(ctx, prefix, after, 0)(yield)
	}
}

// list leaves out what can't be an object of ours, such as the "directories"
// that consoles create. A store that lists out of order is refused, because
// resuming after the last key would lose objects silently.
func (s *s3Store) list(ctx context.Context, prefix, after string, pageSize int) iter.Seq2[Info, error] {
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, MaxKeys: pageSize, FetchOwner: new(bool)}
	if after != "" {
		opts.StartAfter = s.prefix + after
	}
	return func(yield func(Info, error) bool) {
		last := opts.StartAfter
		for object := range s.core.ListObjectsIter(ctx, s.bucket, opts) {
			if object.Err != nil {
				yield(Info{}, s.classify(object.Err))
				return
			}
			if object.Key <= last && last != "" || !strings.HasPrefix(object.Key, opts.Prefix) {
				yield(Info{}, fmt.Errorf("%w: the endpoint lists %q after %q for prefix %q: not an S3 listing",
					ErrConfig, object.Key, last, opts.Prefix))
				return
			}
			last = object.Key
			key := strings.TrimPrefix(object.Key, s.prefix)
			if checkKey(key) != nil {
				continue
			}
			if !yield(Info{Key: key, Size: object.Size, ModTime: object.LastModified}, nil) {
				return
			}
		}
		// minio-go ends a cancelled listing as if it were complete.
		if err := ctx.Err(); err != nil {
			yield(Info{}, err)
		}
	}
}
