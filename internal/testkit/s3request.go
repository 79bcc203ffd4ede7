package testkit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"
)

// mustDo sends one signed request of the owner and returns the answer's body.
// The path and the query have to be in the canonical form that AWS Signature
// Version 4 wants.
func (s *S3) mustDo(t testing.TB, method, path, query string, body []byte) []byte {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.Endpoint+path+"?"+query, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	signS3(req, path, query, body, s.Owner, time.Now().UTC())
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	return answer
}

// signS3 adds the headers of AWS Signature Version 4. It is written out here
// so that tests don't trust the client library that they test.
func signS3(req *http.Request, path, query string, body []byte, who S3Credentials, now time.Time) {
	day, stamp := now.Format("20060102"), now.Format("20060102T150405Z")
	payload := sha256Hex(body)
	req.Header.Set("X-Amz-Content-Sha256", payload)
	req.Header.Set("X-Amz-Date", stamp)
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := fmt.Sprintf("%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
		req.Method, path, query, req.URL.Host, payload, stamp, signed, payload)
	scope := day + "/" + s3Region + "/s3/aws4_request"
	toSign := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + sha256Hex([]byte(canonical))
	key := []byte("AWS4" + who.SecretKey)
	for _, part := range []string{day, s3Region, "s3", "aws4_request"} {
		key = hmacSHA256(key, part)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		who.AccessKey, scope, signed, hex.EncodeToString(hmacSHA256(key, toSign))))
}

func sha256Hex(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func hmacSHA256(key []byte, data string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(data))
	return h.Sum(nil)
}
