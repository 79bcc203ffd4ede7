package testkit

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	s3Region = "us-east-1"

	s3ReadyLimit = 30 * time.Second
	s3StopLimit  = time.Second // it would wait for idle connections
)

// S3Options say how an S3 server is run. The zero value is plain HTTP.
type S3Options struct {
	TLS bool // with a certificate of a private CA, see S3.CAFile
}

// S3Credentials are those of one user of an S3 server.
type S3Credentials struct {
	AccessKey, SecretKey string
}

// Env is the environment that makes S3 clients use c, and nothing else that
// they might find on the machine.
func (c S3Credentials) Env() []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + c.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + c.SecretKey,
		"AWS_EC2_METADATA_DISABLED=true",
	}
}

// S3 is a versitygw of its own, with an empty directory behind it.
type S3 struct {
	Endpoint string        // scheme://host:port
	CAFile   string        // readable by the server user; "" without TLS
	Owner    S3Credentials // may do everything

	tool    string
	args    []string
	dir     string
	client  *http.Client
	server  *process
	buckets atomic.Int64
}

// NewS3 starts an S3 server that is stopped at the end of the test. It skips
// the test where versitygw isn't installed.
func NewS3(t testing.TB, opts S3Options) *S3 {
	t.Helper()
	tool := filepath.Join(Cache(t), "bin", "versitygw")
	if _, err := os.Stat(tool); err != nil {
		SkipOrFail(t, "versitygw is not in "+filepath.Dir(tool)+": run make setup")
	}
	address := "127.0.0.1:" + strconv.Itoa(FreePort(t))
	s := &S3{
		Endpoint: "http://" + address,
		Owner:    S3Credentials{AccessKey: "walden-owner", SecretKey: "owner-secret-key"},
		tool:     tool,
		dir:      Dir(t),
		client:   &http.Client{Timeout: 10 * time.Second},
	}
	iam, data := filepath.Join(s.dir, "iam"), filepath.Join(s.dir, "data")
	for _, dir := range []string{iam, data} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.args = []string{"--access", s.Owner.AccessKey, "--secret", s.Owner.SecretKey, "--region", s3Region,
		"--port", address, "--keep-alive", "--quiet", "--iam-dir", iam}
	if opts.TLS {
		s.Endpoint = "https://" + address
		s.useTLS(t)
	}
	s.args = append(s.args, "posix", data)
	s.Start(t)
	return s
}

func (s *S3) useTLS(t testing.TB) {
	t.Helper()
	files := newCertificate(t, s.dir)
	s.CAFile = files.ca
	s.client.Transport = &http.Transport{TLSClientConfig: files.clientConfig}
	s.args = append(s.args, "--cert", files.cert, "--key", files.key)
}

// Start starts the server, as after Stop, and waits until it answers.
func (s *S3) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(s.tool, s.args...)
	cmd.Env, cmd.Dir = cleanEnv(s.dir), s.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	first := s.server == nil
	if s.server, err = startProcess(cmd); err != nil {
		t.Fatalf("start versitygw: %v", err)
	}
	if first {
		t.Cleanup(func() { s.Stop(t) })
	}
	Eventually(t, s3ReadyLimit, "versitygw answers at "+s.Endpoint+", see "+log.Name(), func() bool {
		resp, err := s.client.Get(s.Endpoint)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return true
	})
}

// Stop stops the server. What is stored stays, for the next Start.
func (s *S3) Stop(t testing.TB) {
	t.Helper()
	if s.server.ended(0) {
		return
	}
	if err := s.server.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("stop versitygw: %v", err)
	}
	if s.server.ended(s3StopLimit) {
		return
	}
	if err := s.server.cmd.Process.Kill(); err != nil {
		t.Errorf("kill versitygw: %v", err)
	}
	_ = s.server.wait() // it was killed: that is no news
}

// Bucket creates an empty bucket and returns its name.
func (s *S3) Bucket(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("bucket-%d", s.buckets.Add(1))
	s.mustDo(t, http.MethodPut, "/"+name, "", nil)
	return name
}

// URL is the repository URL of a prefix, which may be empty, in a bucket.
func (s *S3) URL(bucket, prefix string) string {
	query := "endpoint=" + s.Endpoint + "&region=" + s3Region + "&path-style=true"
	if s.CAFile != "" {
		query += "&ca-file=" + s.CAFile
	}
	u := url.URL{Scheme: "s3", Host: bucket, Path: "/" + prefix, RawQuery: query}
	return u.String()
}

// Env is the environment of the server's owner.
func (s *S3) Env() []string { return s.Owner.Env() }

// ReadOnlyUser creates a user who may list a bucket and read its objects, and
// nothing else.
func (s *S3) ReadOnlyUser(t testing.TB, bucket string) S3Credentials {
	t.Helper()
	user := S3Credentials{AccessKey: "reader-of-" + bucket, SecretKey: "reader-secret-key"}
	account := fmt.Sprintf("<Account><Access>%s</Access><Secret>%s</Secret><Role>user</Role></Account>", user.AccessKey, user.SecretKey)
	s.mustDo(t, http.MethodPatch, "/create-user", "", []byte(account))
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":[%q]},`+
		`"Action":["s3:ListBucket","s3:GetObject"],"Resource":["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]}]}`,
		user.AccessKey, bucket, bucket)
	s.mustDo(t, http.MethodPut, "/"+bucket, "policy=", []byte(policy))
	return user
}
