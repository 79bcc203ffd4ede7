package storage

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"

	"github.com/minio/minio-go/v7"
)

// Internal reasons that a caller inside this package acts on.
var (
	errRange          = errors.New("the range begins beyond the end")
	errAmbiguous      = errors.New("404 without a reason")
	errNoReason       = errors.New("400 without a reason")
	errNotImplemented = errors.New("the endpoint does not implement the request")
	errNotS3          = errors.New("the answer is not an S3 server's: is the endpoint right, and no proxy between?")
)

// classify turns what minio-go returns into an error with one of the
// package's sentinels. What it doesn't know is ErrUnavailable: can't tell.
func (s *s3Store) classify(err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []error{ErrNotExist, ErrExist, ErrDenied, ErrUnavailable, ErrCorrupt, ErrConfig} {
		if errors.Is(err, known) {
			return err
		}
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return withoutRequest(err)
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) {
		return s.classifyAnswer(answer)
	}
	return s.classifyTransport(withoutRequest(err))
}

// withoutRequest strips the method and URL that net/http puts into errors:
// the retry decorator says which object it is about.
func withoutRequest(err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		return urlErr.Err
	}
	return err
}

func (s *s3Store) classifyTransport(err error) error {
	text := oneLine(s.creds.redact(err.Error()))
	var badCert *tls.CertificateVerificationError
	switch {
	case errors.As(err, &badCert):
		return fmt.Errorf("%w: %s: if the server's CA is a private one, name its file with ca-file= in the URL", ErrConfig, text)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: the server speaks HTTP, not HTTPS: write endpoint=http://", ErrConfig)
	default:
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
}

// classifyAnswer judges by the S3 error code where the server gave one, and
// by the status where it gave none, as to a HEAD.
func (s *s3Store) classifyAnswer(answer minio.ErrorResponse) error {
	text := oneLine(s.creds.redact(answer.Code + ": " + answer.Message))
	if err := s.classifyCode(answer, text); err != nil {
		return err
	}
	switch status := answer.StatusCode; {
	case status == http.StatusNotFound:
		return s.classifyNotFound(answer, text)
	case status == http.StatusPreconditionFailed:
		return ErrExist
	case status == http.StatusRequestedRangeNotSatisfiable:
		return errRange
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrDenied, text)
	case status == http.StatusNotImplemented || status == http.StatusMethodNotAllowed:
		return fmt.Errorf("%w: %w: %s", ErrConfig, errNotImplemented, text)
	case status/100 == 3 || status == http.StatusBadRequest && answer.Region != "" && answer.Region != s.region:
		return fmt.Errorf("%w: the bucket %s is in another region%s: set region= and endpoint= in the URL: %s",
			ErrConfig, s.bucket, hint(answer.Region), text)
	case status == http.StatusBadRequest && answer.XMLName.Local == "":
		return fmt.Errorf("%w: %w: %s", ErrUnavailable, errNoReason, text)
	default:
		return fmt.Errorf("%w: status %d: %s", ErrUnavailable, status, text)
	}
}

func hint(region string) string {
	if region == "" {
		return ""
	}
	return ", " + oneLine(region)
}

// classifyCode knows the codes whose meaning differs from that of the status
// they come with. It returns nil for the others.
func (s *s3Store) classifyCode(answer minio.ErrorResponse, text string) error {
	switch answer.Code {
	case "NoSuchBucket":
		if answer.XMLName.Local == "" {
			return nil // minio-go's guess from a 404
		}
		return fmt.Errorf("%w: bucket %s does not exist", ErrConfig, s.bucket)
	case "InvalidBucketName":
		return fmt.Errorf("%w: bucket %s: %s", ErrConfig, s.bucket, text)
	case "AuthorizationHeaderMalformed":
		return fmt.Errorf("%w: is region= in the URL right? %s", ErrConfig, text)
	case "RequestTimeTooSkewed":
		return fmt.Errorf("%w: the clock of this machine differs too much from the server's: set it, with NTP: %s", ErrDenied, text)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
		"InvalidClientTokenId", "UnrecognizedClientException", "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return fmt.Errorf("%w: %s", ErrDenied, text)
	case "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch":
		return fmt.Errorf("%w: the server received other bytes than were sent: %s", ErrCorrupt, text)
	case "NotImplemented":
		return fmt.Errorf("%w: %w: %s", ErrConfig, errNotImplemented, text)
	case "RequestTimeout", "IncompleteBody", "SlowDown", "ConditionalRequestConflict", "OperationAborted":
		return fmt.Errorf("%w: %s", ErrUnavailable, text)
	}
	return nil
}

// classifyNotFound takes a 404 for an absent object only when the server says
// so in S3's words. A proxy's 404 is none, nor is that of a wrong endpoint.
func (s *s3Store) classifyNotFound(answer minio.ErrorResponse, text string) error {
	switch fromServer := answer.XMLName.Local == "Error"; {
	case fromServer && answer.Code == "NoSuchKey":
		return ErrNotExist
	case fromServer:
		return fmt.Errorf("%w: status 404: %s", ErrUnavailable, text)
	default:
		return fmt.Errorf("%w: %w: is the endpoint an S3 server's?", ErrUnavailable, errAmbiguous)
	}
}

// oneLine makes text from outside fit for a message: short, printable, and
// without what looks like a credential.
func oneLine(s string) string {
	const longest = 300 // bytes
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return credentialText.ReplaceAllString(s, "$1=[hidden]")
}
