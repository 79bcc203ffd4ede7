package storage

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

var _ Store = (*s3Store)(nil)

// An s3Store keeps objects in a bucket. Each method sends one request, or one
// for each thousand objects, and tries it once; exceptions say so.
type s3Store struct {
	core          *minio.Core
	transport     *http.Transport
	creds         *s3Credentials
	bucket        string
	prefix        string // "" or ends at a slash
	region        string
	unconditional bool
}

func newS3Store(loc Location, opts Options) (*s3Store, error) {
	endpoint, err := url.Parse(loc.endpointURL())
	if err != nil {
		return nil, fmt.Errorf("%w: endpoint: %w", ErrConfig, withoutURL(err))
	}
	base, err := newTransport(opts.Timeout, loc.caFile, opts.CAFile)
	if err != nil {
		return nil, err
	}
	var sender http.RoundTripper = base
	if opts.Transport != nil {
		sender = opts.Transport(sender)
	}
	creds := newS3Credentials(base)
	core, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds:        creds.cached,
		Secure:       endpoint.Scheme == "https",
		Transport:    answerGuard{sender},
		Region:       loc.effectiveRegion(), // set, so that minio-go never asks for it
		BucketLookup: bucketLookup(loc.pathStyle),
		MaxRetries:   1, // the retry decorator knows the caller's deadline
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if name, version, ok := strings.Cut(opts.UserAgent, "/"); ok {
		core.SetAppInfo(name, version)
	}
	store := &s3Store{
		core:          core,
		transport:     base,
		creds:         creds,
		bucket:        loc.bucket,
		region:        loc.effectiveRegion(),
		unconditional: loc.unconditional,
	}
	if loc.prefix != "" {
		store.prefix = loc.prefix + "/"
	}
	return store, nil
}

// Close drops idle connections.
func (s *s3Store) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

func bucketLookup(pathStyle string) minio.BucketLookupType {
	switch pathStyle {
	case "true":
		return minio.BucketLookupPath
	case "false":
		return minio.BucketLookupDNS
	default:
		return minio.BucketLookupAuto
	}
}

// endpointURL is where requests go to, for people as well.
func (l Location) endpointURL() string {
	if l.endpoint == "" {
		return "https://" + amazonHost
	}
	return l.endpoint
}

func (l Location) effectiveRegion() string {
	if l.region != "" {
		return l.region
	}
	if u, err := url.Parse(l.endpoint); err == nil {
		if region := s3utils.GetRegionFromURL(*u); region != "" {
			return region
		}
	}
	return defaultRegion
}

func (s *s3Store) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := checkRange(key, off); err != nil {
		return nil, err
	}
	if err := s.creds.ready(ctx); err != nil {
		return nil, err
	}
	var opts minio.GetObjectOptions
	ranged := off > 0 || n >= 0
	if ranged {
		opts.Set("Range", rangeHeader(off, n))
	}
	body, info, header, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, opts)
	if err != nil {
		err = s.classify(err)
		if errors.Is(err, errRange) {
			return &s3Body{store: s, body: http.NoBody}, nil
		}
		return nil, err
	}
	if err := checkAnswer(header, info.Size, ranged, off); err != nil {
		body.Close()
		return nil, err
	}
	size := info.Size
	if n >= 0 {
		size = min(size, n)
	}
	return &s3Body{store: s, body: body, left: size}, nil
}

// rangeHeader asks for at least one byte, because HTTP has no empty range.
func rangeHeader(off, n int64) string {
	if n < 0 {
		return fmt.Sprintf("bytes=%d-", off)
	}
	return fmt.Sprintf("bytes=%d-%d", off, off+max(n, 1)-1)
}

// checkAnswer makes sure that the body is the range asked for and that its
// end can be told from a cut.
func checkAnswer(header http.Header, size int64, ranged bool, off int64) error {
	if size < 0 {
		return fmt.Errorf("%w: the answer does not tell the length of its body", ErrUnavailable)
	}
	if ranged && !strings.HasPrefix(header.Get("Content-Range"), fmt.Sprintf("bytes %d-", off)) {
		return fmt.Errorf("%w: asked for a range from byte %d, the answer has Content-Range %q",
			ErrUnavailable, off, oneLine(header.Get("Content-Range")))
	}
	return nil
}

// An s3Body delivers exactly the bytes promised by the response's header, or
// an error.
type s3Body struct {
	store *s3Store
	body  io.ReadCloser
	left  int64
}

func (b *s3Body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.body.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	switch {
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, fmt.Errorf("%w: the connection ended %d bytes before the body did", ErrUnavailable, b.left)
	case err != nil:
		return n, b.store.classify(err)
	}
	return n, nil
}

func (b *s3Body) Close() error { return b.body.Close() }

func (b *s3Body) promised() int64 { return b.left }

// Stat sends a second request when the first gets a 404 or a 400: the answer
// to a HEAD has no body that could tell a missing object from a missing
// bucket, or an expired token from anything else.
func (s *s3Store) Stat(ctx context.Context, key string) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	if err := s.creds.ready(ctx); err != nil {
		return Info{}, err
	}
	info, err := s.head(ctx, key)
	if errors.Is(err, errAmbiguous) || errors.Is(err, errNoReason) {
		return s.statByListing(ctx, key)
	}
	return info, err
}

func (s *s3Store) head(ctx context.Context, key string) (Info, error) {
	info, err := s.core.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return Info{}, s.classify(err)
	}
	if info.Size < 0 || info.ETag == "" {
		return Info{}, fmt.Errorf("%w: the answer to HEAD lacks Content-Length or ETag", ErrUnavailable)
	}
	return Info{Key: key, Size: info.Size, ModTime: info.LastModified}, nil
}

// statByListing is conclusive where a HEAD isn't: only an existing bucket
// gives a listing.
func (s *s3Store) statByListing(ctx context.Context, key string) (Info, error) {
	for info, err := range s.list(ctx, key, "", 1) {
		if err != nil {
			return Info{}, err
		}
		if info.Key == key {
			return info, nil
		}
		break // the key itself would be first
	}
	return Info{}, ErrNotExist
}

// Create sends a second request, ahead of the other, when the location says
// conditional=off.
func (s *s3Store) Create(ctx context.Context, key string, body io.ReadSeeker, size int64) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	if err := s.creds.ready(ctx); err != nil {
		return Info{}, err
	}
	if s.unconditional {
		if err := s.mustBeFree(ctx, key); err != nil {
			return Info{}, err
		}
	}
	sum, err := hashBody(body, size)
	if err != nil {
		return Info{}, err
	}
	// http.Transport may go on reading a body after it has returned.
	lent := &lentBody{body: body}
	answer, err := s.put(ctx, key, lent, size, sum)
	if bodyErr := lent.takeBack(); bodyErr != nil {
		return Info{}, fmt.Errorf("read body: %w", bodyErr)
	}
	if err != nil {
		return Info{}, err
	}
	if answer.ETag == "" {
		return Info{}, fmt.Errorf("%w: the answer to PUT has no ETag, so nothing confirms that it was stored", ErrUnavailable)
	}
	if got := answer.ChecksumSHA256; got != "" && got != base64.StdEncoding.EncodeToString(sum) {
		return Info{}, fmt.Errorf("%w: the store's SHA-256 of the object is %s, not that of what was sent", ErrCorrupt, oneLine(got))
	}
	return Info{Key: key, Size: size}, nil
}

// mustBeFree needn't find out what exactly a 404 means: into a bucket that is
// missing the PUT that follows fails.
func (s *s3Store) mustBeFree(ctx context.Context, key string) error {
	switch _, err := s.head(ctx, key); {
	case err == nil:
		return ErrExist
	case errors.Is(err, ErrNotExist) || errors.Is(err, errAmbiguous):
		return nil
	default:
		return err
	}
}

// put sends the one conditional request. The SHA-256 goes with it twice, both
// times in the header: as the signed hash of the payload, which the server
// has to verify over plain HTTP and TLS alike, and as a checksum that it also
// keeps with the object, without which a bucket with Object Lock refuses.
func (s *s3Store) put(ctx context.Context, key string, body io.ReadSeeker, size int64, sum []byte) (minio.UploadInfo, error) {
	opts := minio.PutObjectOptions{
		DisableMultipart:     true,
		DisableContentSha256: true, // the hash is given: no streaming signature
		UserMetadata:         map[string]string{"x-amz-checksum-sha256": base64.StdEncoding.EncodeToString(sum)},
	}
	if !s.unconditional {
		opts.SetMatchETagExcept("*")
	}
	answer, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, body, size, "", hex.EncodeToString(sum), opts)
	if err == nil {
		return answer, nil
	}
	err = s.classify(err)
	if errors.Is(err, errNotImplemented) && !s.unconditional {
		return answer, fmt.Errorf("%w; if it is the condition If-None-Match, add conditional=off to the URL: walden then looks before it writes, but can't tell two racing hosts apart", err)
	}
	return answer, err
}

// hashBody makes sure that the body has the size promised, since a PUT with
// another length would fail in ways that look like the network's fault.
func hashBody(body io.ReadSeeker, size int64) ([]byte, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("rewind body: %w", err)
	}
	h := sha256.New()
	if err := copyExactly(h, body, size); err != nil {
		return nil, err
	}
	return h.Sum(nil), nil
}

// Delete removes one object with one request, and more with one request for
// each thousand.
func (s *s3Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if err := s.creds.ready(ctx); err != nil {
		return err
	}
	if len(keys) > 1 {
		return s.deleteMany(ctx, keys)
	}
	err := s.classify(s.core.RemoveObject(ctx, s.bucket, s.prefix+keys[0], minio.RemoveObjectOptions{}))
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	return err
}

func (s *s3Store) deleteMany(ctx context.Context, keys []string) error {
	names := func(yield func(minio.ObjectInfo) bool) {
		for _, key := range keys {
			if !yield(minio.ObjectInfo{Key: s.prefix + key}) {
				return
			}
		}
	}
	results, err := s.core.RemoveObjectsWithIter(ctx, s.bucket, names, minio.RemoveObjectsOptions{})
	if err != nil {
		return s.classify(err)
	}
	unconfirmed := make(map[string]bool, len(keys))
	for _, key := range keys {
		unconfirmed[s.prefix+key] = true
	}
	for result := range results {
		if err := s.classify(result.Err); err != nil && !errors.Is(err, ErrNotExist) {
			return fmt.Errorf("%q: %w", strings.TrimPrefix(result.ObjectName, s.prefix), err)
		}
		delete(unconfirmed, result.ObjectName)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(unconfirmed) > 0 {
		return fmt.Errorf("%w: the answer confirms only %d of %d deletions", ErrUnavailable, len(keys)-len(unconfirmed), len(keys))
	}
	return nil
}
