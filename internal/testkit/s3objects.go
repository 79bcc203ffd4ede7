package testkit

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"testing"
)

// S3Object is an object as a listing shows it. Another ETag or another time tells that it was written
// again.
type S3Object struct {
	Key, ETag, LastModified string
	Size                    int64
}

// Objects lists all objects of a bucket, by requests of testkit's own: nothing of walden's is trusted.
func (s *S3) Objects(t testing.TB, bucket string) []S3Object {
	t.Helper()
	var all []S3Object
	query := url.Values{"list-type": {"2"}}
	for {
		var page struct {
			Contents              []S3Object
			IsTruncated           bool
			NextContinuationToken string
		}
		answer := s.mustDo(t, http.MethodGet, "/"+bucket, query.Encode(), nil)
		if err := xml.Unmarshal(answer, &page); err != nil {
			t.Fatalf("list bucket %s: %v", bucket, err)
		}
		all = append(all, page.Contents...)
		if !page.IsTruncated {
			return all
		}
		query.Set("continuation-token", page.NextContinuationToken)
	}
}

// Object returns what an object holds.
func (s *S3) Object(t testing.TB, bucket, key string) []byte {
	t.Helper()
	return s.mustDo(t, http.MethodGet, "/"+bucket+"/"+key, "", nil)
}

// Remove deletes an object.
func (s *S3) Remove(t testing.TB, bucket, key string) {
	t.Helper()
	s.mustDo(t, http.MethodDelete, "/"+bucket+"/"+key, "", nil)
}
