package storage

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
)

// An answerGuard refuses successful answers that no S3 server gives. minio-go
// takes any XML for an empty listing, such as the page of a proxy or of a
// captive portal, and an empty listing means "no backups"; and any success
// for that of a deletion.
type answerGuard struct{ next http.RoundTripper }

func (g answerGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	switch {
	case req.Method == http.MethodDelete: // S3 answers 204
		resp.Body.Close()
		return nil, errNotS3
	case req.Method == http.MethodGet && req.URL.Query().Has("list-type"):
		return checkListing(resp)
	default:
		return resp, nil
	}
}

// checkListing looks for the root element at the beginning of the body.
func checkListing(resp *http.Response) (*http.Response, error) {
	const enough = 512 // bytes; the root element comes right after the XML declaration
	body := bufio.NewReaderSize(resp.Body, enough)
	head, err := body.Peek(enough)
	if err == nil || err == io.EOF {
		err = errNotS3
		if bytes.Contains(head, []byte("<ListBucketResult")) {
			err = nil
		}
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, resp.Body}
	return resp, nil
}
