package story

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"walden/internal/testkit"
)

// proxy stands in front of an S3 server, counts what is asked of it, and leaves a file for each object
// that the server confirms, before whoever stores it is told.
type proxy struct {
	s3Shelf
	confirmed string // directory of those files

	server *httptest.Server
	mu     sync.Mutex
	asked  map[string]int // method and last part of the name
}

func newProxy(t testing.TB, to s3Shelf) *proxy {
	t.Helper()
	target, err := url.Parse(to.server.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{s3Shelf: to, confirmed: testkit.Dir(t), asked: map[string]int{}}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
			p.mu.Lock()
			defer p.mu.Unlock()
			p.asked[r.In.Method+" "+path.Base(r.In.URL.Path)]++
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.Method != http.MethodPut || r.StatusCode != http.StatusOK {
				return nil
			}
			return os.WriteFile(filepath.Join(p.confirmed, path.Base(r.Request.URL.Path)), nil, 0o644)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // such as a client that is gone
	}
	p.server = httptest.NewServer(forward)
	t.Cleanup(p.server.Close)
	return p
}

// repository is the repository behind the proxy.
func (p *proxy) repository() repository {
	r := p.s3Shelf.repository()
	r.url = strings.Replace(r.url, p.s3Shelf.server.Endpoint, p.server.URL, 1)
	return r
}

// requests returns how many there were, and how many of them created a segment.
func (p *proxy) requests() (all, segments int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for what, n := range p.asked {
		all += n
		if name, isPut := strings.CutPrefix(what, "PUT "); isPut && isSegmentName(name) {
			segments += n
		}
	}
	return all, segments
}

func isSegmentName(name string) bool {
	return len(name) == 24 && strings.Trim(name, "0123456789ABCDEF") == ""
}
