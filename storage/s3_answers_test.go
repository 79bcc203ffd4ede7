package storage_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/storage"
)

// A canned answer stands for servers and proxies that can't be had here.
type answer struct {
	status int
	header map[string]string
	body   string
}

func (a answer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body)
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

func s3Error(status int, code, message string) answer {
	return answer{
		status: status,
		header: map[string]string{"Content-Type": "application/xml"},
		body:   fmt.Sprintf("<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, message),
	}
}

const listing = `<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>%s</ListBucketResult>`

func cannedCredentials(t *testing.T) {
	t.Helper()
	setEnv(t, testkit.S3Credentials{AccessKey: "AKIAEXAMPLEKEY", SecretKey: "very-secret-key"}.Env())
}

// openCanned opens a store whose server is handler, and counts the requests.
func openCanned(t *testing.T, handler http.Handler, opts storage.Options) (storage.Store, *atomic.Int64) {
	t.Helper()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		requests.Add(1)
		handler.ServeHTTP(w, req)
	}))
	t.Cleanup(server.Close)
	if opts.Timeout == 0 {
		opts.Timeout = 500 * time.Millisecond
	}
	return mustOpen(t, "s3://bucket?endpoint="+server.URL, opts), &requests
}

func TestS3AnswersOfErrors(t *testing.T) {
	cannedCredentials(t)
	html := answer{status: 404, header: map[string]string{"Content-Type": "text/html"}, body: "<html><body>404 page not found</body></html>"}
	tests := []struct {
		name    string
		answer  answer
		want    error
		words   []string
		retried bool
	}{
		{"slow down", s3Error(503, "SlowDown", "Please reduce your request rate."), storage.ErrUnavailable, []string{"SlowDown"}, true},
		{"too many requests", answer{status: 429}, storage.ErrUnavailable, []string{"429"}, true},
		{"internal error", s3Error(500, "InternalError", "We encountered an internal error."), storage.ErrUnavailable, nil, true},
		{"bad gateway", answer{status: 502, body: "<html>bad\n\ngateway</html>"}, storage.ErrUnavailable, []string{"502"}, true},
		{"request timeout", s3Error(400, "RequestTimeout", "Idle connections will be closed."), storage.ErrUnavailable, nil, true},
		{"conflict", s3Error(409, "ConditionalRequestConflict", "Try again."), storage.ErrUnavailable, nil, true},
		{"unknown", s3Error(418, "Teapot", "I am one."), storage.ErrUnavailable, []string{"Teapot"}, true},
		{"page of a proxy", html, storage.ErrUnavailable, nil, true},
		{"access denied", s3Error(403, "AccessDenied", "Access Denied."), storage.ErrDenied, nil, false},
		{"page of a firewall", answer{status: 403, body: "<html>go away</html>"}, storage.ErrDenied, nil, false},
		{"expired", s3Error(400, "ExpiredToken", "The provided token has expired."), storage.ErrDenied, []string{"expired"}, false},
		{"unknown key as 404", s3Error(404, "InvalidAccessKeyId", "Not in our records."), storage.ErrDenied, nil, false},
		{"clock", s3Error(403, "RequestTimeTooSkewed", "The difference is too large."), storage.ErrDenied, []string{"clock"}, false},
		{"no bucket", s3Error(404, "NoSuchBucket", "The specified bucket does not exist"), storage.ErrConfig, []string{"bucket does not exist"}, false},
		{"region", s3Error(400, "AuthorizationHeaderMalformed", "expecting 'eu-1'"), storage.ErrConfig, []string{"region", "eu-1"}, false},
		{"redirect", s3Error(301, "PermanentRedirect", "Use the other endpoint."), storage.ErrConfig, []string{"region"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, requests := openCanned(t, test.answer, storage.Options{})
			for op, err := range allOperations(t.Context(), s) {
				if op == "stat" {
					continue // a HEAD has no body: see TestS3AnswersToHead
				}
				mustAllBe(t, map[string]error{op: err}, test.want, append(test.words, "/bucket/")...)
			}
			if retried := requests.Load() > 8; retried != test.retried {
				t.Errorf("sent %d requests, retried %t", requests.Load(), test.retried)
			}
		})
	}
}

func TestS3AnswersToHead(t *testing.T) {
	cannedCredentials(t)
	tests := []struct {
		name string
		head answer
		list answer
		want error
	}{
		{"absent", answer{status: 404}, answer{status: 200, body: fmt.Sprintf(listing, "")}, storage.ErrNotExist},
		{"no bucket", answer{status: 404}, s3Error(404, "NoSuchBucket", "none"), storage.ErrConfig},
		{"no right to list", answer{status: 404}, s3Error(403, "AccessDenied", "no"), storage.ErrDenied},
		{"down", answer{status: 404}, answer{status: 503}, storage.ErrUnavailable},
		{"web server", answer{status: 404}, answer{status: 200, body: "<html/>"}, storage.ErrUnavailable},
		{"denied", answer{status: 403}, answer{status: 500}, storage.ErrDenied},
		{"expired token", answer{status: 400}, s3Error(400, "ExpiredToken", "expired"), storage.ErrDenied},
		{"region", answer{status: 400, header: map[string]string{"X-Amz-Bucket-Region": "eu-1"}}, answer{status: 500}, storage.ErrConfig},
		{"captive portal", answer{status: 200, body: "<html/>"}, answer{status: 200, body: "<html/>"}, storage.ErrUnavailable},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, _ := openCanned(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if req.Method == http.MethodHead {
					test.head.ServeHTTP(w, req)
					return
				}
				test.list.ServeHTTP(w, req)
			}), storage.Options{})
			_, err := s.Stat(t.Context(), "key")
			mustAllBe(t, map[string]error{"stat": err}, test.want)
		})
	}
}

// Whatever answers 200 to everything is no S3 server, and nothing that it
// says may pass for a yes or a no.
func TestS3AnswersOfOthers(t *testing.T) {
	cannedCredentials(t)
	for name, body := range map[string]string{
		"HTML":         "<html><head><title>Log in</title></head></html>",
		"XML":          "<?xml version='1.0'?><login/>",
		"JSON":         "{}",
		"nothing":      "",
		"long":         strings.Repeat("<p>", 10_000),
		"wrong prefix": fmt.Sprintf(listing, "<Contents><Key>other/key</Key></Contents>"),
		"out of order": fmt.Sprintf(listing, "<Contents><Key>dir/b</Key></Contents><Contents><Key>dir/a</Key></Contents>"),
		"deletion":     "<DeleteResult><Deleted><Key>dir/key</Key></Deleted></DeleteResult>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := openCanned(t, answer{status: 200, body: body}, storage.Options{})
			for op, err := range allOperations(t.Context(), s) {
				if err == nil {
					t.Errorf("%s: no error", op)
				}
				if strings.Contains(fmt.Sprint(err), "\n") {
					t.Errorf("%s: more than one line: %q", op, err)
				}
			}
		})
	}
}

func TestS3ConditionNotImplemented(t *testing.T) {
	cannedCredentials(t)
	for _, a := range []answer{
		s3Error(501, "NotImplemented", "A header you provided implies functionality that is not implemented"),
		s3Error(400, "NotImplemented", "If-None-Match"),
		{status: 501},
	} {
		s, requests := openCanned(t, a, storage.Options{})
		_, err := s.Create(t.Context(), "key", strings.NewReader("x"), 1)
		mustAllBe(t, map[string]error{"create": err}, storage.ErrConfig, "conditional=off")
		if requests.Load() != 1 {
			t.Errorf("sent %d requests, want 1", requests.Load())
		}
	}
}

func TestS3ConflictIsTriedAgain(t *testing.T) {
	cannedCredentials(t)
	var puts atomic.Int64
	s, _ := openCanned(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if puts.Add(1) < 3 {
			s3Error(409, "ConditionalRequestConflict", "another one is under way").ServeHTTP(w, req)
			return
		}
		answer{status: 200, header: map[string]string{"ETag": `"1"`}}.ServeHTTP(w, req)
	}), storage.Options{Timeout: 10 * time.Second})
	if _, err := s.Create(t.Context(), "key", strings.NewReader("x"), 1); err != nil {
		t.Fatal(err)
	}
}

func TestS3WrongChecksumInAnswer(t *testing.T) {
	cannedCredentials(t)
	s, _ := openCanned(t, answer{status: 200, header: map[string]string{"ETag": `"1"`, "X-Amz-Checksum-Sha256": "AAAA"}}, storage.Options{})
	_, err := s.Create(t.Context(), "key", strings.NewReader("x"), 1)
	mustAllBe(t, map[string]error{"create": err}, storage.ErrCorrupt)
}

func TestS3IgnoredRange(t *testing.T) {
	cannedCredentials(t)
	object := answer{status: 200, body: "the whole object", header: map[string]string{
		"ETag": `"1"`, "Last-Modified": "Sat, 21 Nov 2026 08:15:30 GMT",
	}}
	s, _ := openCanned(t, object, storage.Options{})
	if err := readAll(t, s, "key", 0, -1); err != nil {
		t.Fatal(err)
	}
	mustAllBe(t, map[string]error{"get": readAll(t, s, "key", 4, 5)}, storage.ErrUnavailable, "range")
}

// Some servers and proxies repeat the request in what they answer.
func TestS3ErrorsHoldNoSecrets(t *testing.T) {
	cannedCredentials(t)
	t.Setenv("AWS_SESSION_TOKEN", "very-secret-token")
	s, _ := openCanned(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		echo := fmt.Sprintf("refused: %s %s very-secret-key X-Amz-Signature=0123abcd&amp;X-Amz-Credential=AKIAEXAMPLEKEY/2026 token=%s",
			req.URL, req.Header.Get("Authorization"), req.Header.Get("X-Amz-Security-Token"))
		s3Error(403, "SignatureDoesNotMatch", echo).ServeHTTP(w, req)
	}), storage.Options{})
	for op, err := range allOperations(t.Context(), s) {
		if err == nil {
			t.Errorf("%s: no error", op)
		}
		for _, secret := range []string{"very-secret", "AKIAEXAMPLEKEY", "0123abcd"} {
			if strings.Contains(fmt.Sprint(err), secret) {
				t.Errorf("%s: the message holds %q: %v", op, secret, err)
			}
		}
	}
}

// A server that stops in the middle of a body is cut off, and asked for the
// rest.
func TestS3StalledBodyResumes(t *testing.T) {
	cannedCredentials(t)
	const whole = "0123456789"
	var gets atomic.Int64
	s, _ := openCanned(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("ETag", `"1"`)
		w.Header().Set("Last-Modified", "Sat, 21 Nov 2026 08:15:30 GMT")
		if gets.Add(1) == 1 {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, whole[:4])
			_ = http.NewResponseController(w).Flush()
			<-req.Context().Done() // the client has had enough
			return
		}
		http.ServeContent(w, req, "", time.Time{}, strings.NewReader(whole))
	}), storage.Options{Timeout: time.Second})
	body, err := s.Get(t.Context(), "key", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err != nil || string(got) != whole {
		t.Fatalf("got %q and %v, want %q", got, err, whole)
	}
}
