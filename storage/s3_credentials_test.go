package storage_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"walden/internal/testkit"
	"walden/storage"
	"walden/storage/storagetest"
)

// noCredentials hides what the developer's own machine may have.
func noCredentials(t *testing.T) {
	t.Helper()
	empty := filepath.Join(t.TempDir(), "absent")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_ACCESS_KEY": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SECRET_KEY": "", "AWS_SESSION_TOKEN": "",
		"AWS_PROFILE": "", "AWS_SHARED_CREDENTIALS_FILE": empty, "AWS_CONFIG_FILE": empty, "HOME": filepath.Dir(empty),
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "", "AWS_ENDPOINT_URL_STS": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN": "", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "",
	} {
		t.Setenv(name, value)
	}
}

func TestS3NoCredentials(t *testing.T) {
	noCredentials(t)
	os.Unsetenv("AWS_SHARED_CREDENTIALS_FILE") // noCredentials brings it back
	var rec recorder
	s := mustOpen(t, "s3://bucket?endpoint=http://127.0.0.1:1", storage.Options{Transport: rec.wrap})
	mustAllBe(t, allOperations(t.Context(), s), storage.ErrDenied, "AWS_ACCESS_KEY_ID", "no credentials")
	if sent := rec.take(); len(sent) > 0 {
		t.Errorf("sent %d anonymous requests", len(sent))
	}
}

// Nothing answers at the metadata address of a machine that is no cloud
// instance, and nobody wants to wait for that.
func TestS3SilentMetadataAddress(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	noCredentials(t)
	os.Unsetenv("AWS_SHARED_CREDENTIALS_FILE")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://"+silent.Addr().String())
	s := mustOpen(t, "s3://bucket?endpoint=http://127.0.0.1:1", storage.Options{})

	began := time.Now()
	_, err = s.Stat(t.Context(), "key")
	mustAllBe(t, map[string]error{"stat": err}, storage.ErrDenied, "no credentials")
	if spent := time.Since(began); spent > 6*time.Second {
		t.Errorf("it took %s", spent)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err = s.Stat(ctx, "key")
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > time.Second {
		t.Errorf("with a deadline: got %v after %s", err, time.Since(began))
	}
}

func TestS3CredentialsOfEnvironmentIncomplete(t *testing.T) {
	noCredentials(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "only-the-key")
	s := mustOpen(t, "s3://bucket?endpoint=http://127.0.0.1:1", storage.Options{})
	mustAllBe(t, allOperations(t.Context(), s), storage.ErrDenied, "only one is set")
}

func TestS3CredentialsOfProfile(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	raw := server.URL(server.Bucket(t), "")
	noCredentials(t)
	file := filepath.Join(t.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = a\naws_secret_access_key = b\n[backup]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		server.Owner.AccessKey, server.Owner.SecretKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_PROFILE", "backup")
	storagetest.MustBeAbsent(t, mustOpen(t, raw, storage.Options{}), "key")

	t.Setenv("AWS_PROFILE", "default")
	_, err := mustOpen(t, raw, storage.Options{}).Stat(t.Context(), "key")
	mustAllBe(t, map[string]error{"stat": err}, storage.ErrDenied)

	t.Setenv("AWS_PROFILE", "misspelt")
	_, err = mustOpen(t, raw, storage.Options{}).Stat(t.Context(), "key")
	mustAllBe(t, map[string]error{"stat": err}, storage.ErrDenied, "misspelt")
}

func TestS3CredentialsOfWebIdentity(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	raw := server.URL(server.Bucket(t), "")
	noCredentials(t)
	status := http.StatusOK
	sts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := req.ParseForm(); err != nil || req.Form.Get("WebIdentityToken") != "the-token" || req.Form.Get("RoleArn") != "arn:aws:iam::1:role/r" {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>`+
			`<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration></Credentials>`+
			`</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			server.Owner.AccessKey, server.Owner.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(sts.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", file)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL)
	storagetest.MustBeAbsent(t, mustOpen(t, raw, storage.Options{}), "key")

	for code, want := range map[int]error{http.StatusForbidden: storage.ErrDenied, http.StatusServiceUnavailable: storage.ErrUnavailable} {
		status = code
		_, err := mustOpen(t, raw, storage.Options{Timeout: 300 * time.Millisecond}).Stat(t.Context(), "key")
		mustAllBe(t, map[string]error{"stat": err}, want, "web identity")
		if strings.Contains(err.Error(), "the-token") {
			t.Errorf("the message holds the token: %v", err)
		}
	}
}

func TestS3CredentialsOfInstance(t *testing.T) {
	server := testkit.NewS3(t, testkit.S3Options{})
	raw := server.URL(server.Bucket(t), "")
	noCredentials(t)
	os.Unsetenv("AWS_SHARED_CREDENTIALS_FILE")
	role := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the-role") }
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /latest/api/token", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "imds-token") })
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/{$}", role)
	mux.HandleFunc("GET /latest/meta-data/iam/security-credentials/the-role", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Expiration":%q}`,
			server.Owner.AccessKey, server.Owner.SecretKey, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	})
	metadata := httptest.NewServer(mux)
	t.Cleanup(metadata.Close)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	storagetest.MustBeAbsent(t, mustOpen(t, raw, storage.Options{}), "key")
}
