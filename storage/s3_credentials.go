package storage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// A metadata address that answers does so in milliseconds; on a machine
	// that is no cloud instance nothing answers at all.
	metadataTimeout = time.Second
	roleTimeout     = 10 * time.Second
)

// credentialText finds credentials in text: parameters of presigned URLs and
// of Authorization headers.
var credentialText = regexp.MustCompile(`(?i)(X-Amz-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|WebIdentityToken|SessionToken|SecretAccessKey|Signature|Credential)\s*[=:]\s*[^&\s,;<>"]+`)

// errNoCredentials says where they are looked for.
var errNoCredentials = errors.New("no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in the shared credentials file (AWS_PROFILE), or run on a machine with a role")

// s3Credentials are those of the standard AWS chain: environment, web
// identity, shared files, container role, instance role. It is the one place
// of the package that looks at the environment, because the AWS_* variables
// are a convention of all S3 clients rather than an option of this one.
type s3Credentials struct {
	cached *credentials.Credentials
	chain  *chainProvider
}

func newS3Credentials(base *http.Transport) *s3Credentials {
	chain := &chainProvider{services: &http.Client{Transport: failureGuard{base}, Timeout: roleTimeout}}
	return &s3Credentials{cached: credentials.New(chain), chain: chain}
}

// ready makes sure that credentials are there and current. minio-go would
// look them up itself, but without the caller's deadline, and would send an
// anonymous request when it finds none.
func (c *s3Credentials) ready(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := c.cached.GetWithContext(&credentials.CredContext{Client: c.chain.services, Context: ctx})
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil {
		return ctxErr
	}
	return err
}

// redact removes the credentials in use from text that a server sent.
func (c *s3Credentials) redact(text string) string {
	for _, secret := range c.chain.secrets() {
		text = strings.ReplaceAll(text, secret, "[hidden]")
	}
	return text
}

// A chainProvider asks one source after the other and stays with the first
// that is set up. Unlike minio-go's chain it doesn't pass over a source that
// is set up but fails: that would sign with somebody else's credentials.
type chainProvider struct {
	services *http.Client // for STS and container endpoints

	mu      sync.Mutex
	current credentials.Provider
	value   credentials.Value
}

var _ credentials.Provider = (*chainProvider)(nil)

// Retrieve is the interface's older form.
func (c *chainProvider) Retrieve() (credentials.Value, error) {
	return c.RetrieveWithCredContext(&credentials.CredContext{Context: context.Background()})
}

// IsExpired reports whether the source says that its credentials end soon.
func (c *chainProvider) IsExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current == nil || c.current.IsExpired()
}

// RetrieveWithCredContext returns ErrDenied when there are no credentials, and
// ErrUnavailable when a service that should give them doesn't answer.
func (c *chainProvider) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	ctx := cc.Context
	if ctx == nil {
		ctx = context.Background()
	}
	provider, value, err := c.find(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil && c.current != nil && errors.Is(err, errNoCredentials):
		return credentials.Value{}, fmt.Errorf("%w: the role that gave credentials before gives none now", ErrUnavailable)
	case err != nil:
		return credentials.Value{}, err
	}
	c.current, c.value = provider, value
	return value, nil
}

func (c *chainProvider) secrets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []string
	for _, s := range []string{c.value.SecretAccessKey, c.value.SessionToken, c.value.AccessKeyID} {
		if len(s) >= 8 { // a shorter one would turn every message into holes
			found = append(found, s)
		}
	}
	return found
}

func (c *chainProvider) find(ctx context.Context) (credentials.Provider, credentials.Value, error) {
	switch {
	case anySet("AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY"):
		return fromEnvironment()
	case anySet("AWS_WEB_IDENTITY_TOKEN_FILE"):
		return c.fromRole(ctx, "web identity", &credentials.IAM{Endpoint: os.Getenv("AWS_ENDPOINT_URL_STS")})
	}
	if provider, value, err := fromFile(ctx, c.services); provider != nil || err != nil {
		return provider, value, err
	}
	if anySet("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI") {
		role := &credentials.IAM{}
		role.Container.AuthorizationToken = os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") // minio-go reads the file's name from here
		return c.fromRole(ctx, "container role", role)
	}
	return fromInstance(ctx)
}

func anySet(names ...string) bool {
	for _, name := range names {
		if os.Getenv(name) != "" {
			return true
		}
	}
	return false
}

func fromEnvironment() (credentials.Provider, credentials.Value, error) {
	provider := &credentials.EnvAWS{}
	value, err := provider.Retrieve()
	if err == nil && (value.AccessKeyID == "" || value.SecretAccessKey == "") {
		err = errors.New("of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set")
	}
	if err != nil {
		return nil, value, fmt.Errorf("%w: credentials of the environment: %w", ErrDenied, err)
	}
	return provider, value, nil
}

// fromFile returns no provider and no error when the shared files hold
// nothing for us and no profile was asked for.
func fromFile(ctx context.Context, client *http.Client) (credentials.Provider, credentials.Value, error) {
	provider := &credentials.FileAWSCredentials{}
	value, err := provider.RetrieveWithCredContext(&credentials.CredContext{Client: client, Context: ctx})
	switch {
	case err == nil && value.AccessKeyID != "" && value.SecretAccessKey != "":
		return provider, value, nil
	case anySet("AWS_PROFILE"):
		if err == nil {
			err = errors.New("it holds no keys")
		}
		return nil, value, fmt.Errorf("%w: credentials of profile %q: %s", ErrDenied, os.Getenv("AWS_PROFILE"), oneLine(err.Error()))
	case err != nil && anySet("AWS_SHARED_CREDENTIALS_FILE"):
		return nil, value, fmt.Errorf("%w: shared credentials file: %s", ErrDenied, oneLine(err.Error()))
	default:
		return nil, credentials.Value{}, nil
	}
}

// fromRole is for sources that are set up, so that a failure of theirs may
// pass: a service that does not answer says nothing about the credentials.
func (c *chainProvider) fromRole(ctx context.Context, name string, role *credentials.IAM) (credentials.Provider, credentials.Value, error) {
	role.Client = c.services
	value, err := role.RetrieveWithCredContext(&credentials.CredContext{Client: c.services, Context: ctx})
	if err == nil {
		return role, value, nil
	}
	kind := ErrDenied
	var netErr net.Error
	if errors.As(err, &netErr) {
		kind = ErrUnavailable
	}
	return nil, value, fmt.Errorf("%w: credentials of the %s: %s", kind, name, oneLine(withoutRequest(err).Error()))
}

// fromInstance asks the metadata address of cloud instances, the last resort.
func fromInstance(ctx context.Context) (credentials.Provider, credentials.Value, error) {
	if strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		return nil, credentials.Value{}, fmt.Errorf("%w: %w", ErrDenied, errNoCredentials)
	}
	dialer := &net.Dialer{Timeout: metadataTimeout}
	client := &http.Client{
		Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}, // no proxy: it would ask its own role
		Timeout:   2 * metadataTimeout,
	}
	role := &credentials.IAM{Client: client, Endpoint: strings.TrimSuffix(os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), "/")}
	value, err := role.RetrieveWithCredContext(&credentials.CredContext{Client: client, Context: ctx})
	if err != nil {
		return nil, value, fmt.Errorf("%w: %w", ErrDenied, errNoCredentials)
	}
	return role, value, nil
}

// A failureGuard turns a service's own failure into an error of the transport,
// where minio-go would take it for a refusal.
type failureGuard struct{ next http.RoundTripper }

func (g failureGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err == nil && resp.StatusCode >= http.StatusInternalServerError {
		resp.Body.Close()
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return resp, err
}
