package story

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"walden/internal/testkit"
)

// repository is where backups and WAL go, and what it takes to reach it.
type repository struct {
	url string
	env []string // credentials and certificates
	dir string   // "" unless the repository is a directory
}

// host is a machine that uses the repository. More may be added to its environment.
func (r repository) host(env ...string) host {
	return host{env: append(append([]string{"WALDEN_REPO=" + r.url}, r.env...), env...)}
}

// aDirectory is a repository in a directory.
func aDirectory(t testing.TB) repository {
	dir := testkit.Dir(t)
	return repository{url: "file://" + dir, dir: dir}
}

// s3OverHTTP is a repository on an S3 server without encryption on the wire.
func s3OverHTTP(t testing.TB) repository {
	return onServer(t, testkit.NewS3(t, testkit.S3Options{}))
}

// s3OverHTTPS is a repository on an S3 server whose certificate a private CA has issued. The URL names
// the CA's certificate.
func s3OverHTTPS(t testing.TB) repository {
	return onServer(t, testkit.NewS3(t, testkit.S3Options{TLS: true}))
}

// s3OverHTTPSWithBundle is s3OverHTTPS, but AWS_CA_BUNDLE names the CA's certificate.
func s3OverHTTPSWithBundle(t testing.TB) repository {
	server := testkit.NewS3(t, testkit.S3Options{TLS: true})
	r := onServer(t, server)
	r.url, _, _ = strings.Cut(r.url, "&ca-file=")
	r.env = append(r.env, "AWS_CA_BUNDLE="+server.CAFile)
	return r
}

func onServer(t testing.TB, server *testkit.S3) repository {
	return repository{url: server.URL(server.Bucket(t), "postgres/fleet"), env: server.Env()}
}

// report is what the stories read in the JSON of info.
type report struct {
	Clusters []struct {
		Backups []backup
	}
}

type backup struct {
	ID          string
	Status      string
	Encrypted   bool
	Tablespaces []struct {
		OID      uint32
		Location string
	}
}

// onlyBackup is the one that info shows. It is complete.
func (h host) onlyBackup(t testing.TB) backup {
	t.Helper()
	var r report
	if err := json.Unmarshal([]byte(h.must(t, "info", "--json")), &r); err != nil {
		t.Fatalf("the JSON of info: %v", err)
	}
	if len(r.Clusters) != 1 || len(r.Clusters[0].Backups) != 1 || r.Clusters[0].Backups[0].Status != "complete" {
		t.Fatalf("info shows %+v, want one complete backup of one cluster", r)
	}
	return r.Clusters[0].Backups[0]
}

// clusterDir is the part of a directory repository that belongs to its only cluster.
func (r repository) clusterDir(t testing.TB) string {
	t.Helper()
	identities, err := filepath.Glob(filepath.Join(r.dir, "*", "cluster.json"))
	if err != nil || len(identities) != 1 {
		t.Fatalf("%s holds %d clusters (error: %v), want 1", r.dir, len(identities), err)
	}
	return filepath.Dir(identities[0])
}

// files lists everything in a directory repository: names, sizes and times.
func (r repository) files(t testing.TB) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(r.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&list, path, info.Size(), info.ModTime())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}
