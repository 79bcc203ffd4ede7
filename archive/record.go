package archive

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"walden/codec"
	"walden/walspool"
)

// record is pushed/<repository>-<cluster>/<name> in the spool: this very file is
// in that repository.
type record struct {
	Format     int       `json:"format"`
	Repository string    `json:"repository"` // storage.Location.ID
	SystemID   uint64    `json:"system_identifier,string"`
	Name       string    `json:"name"`
	SHA256     string    `json:"sha256"`
	File       fileFacts `json:"file"`
	RecordedAt time.Time `json:"recorded_at"`
}

const recordFormat = 1

// recordLife is how long a record stands for a request. PostgreSQL asks for what
// was pushed ahead within seconds; what lies around for longer may have been
// removed from the repository.
const recordLife = time.Hour

// fileFacts tell a file from all others, and its content from what it was before
// or is later: PostgreSQL reuses segments by renaming and overwriting them, and
// copies of a data directory have other inodes.
type fileFacts struct {
	Device   uint64 `json:"device"`
	Inode    uint64 `json:"inode"`
	Size     int64  `json:"size"`
	Modified int64  `json:"modified_ns"` // Unix time of the content's last change
	Changed  int64  `json:"changed_ns"`  // Unix time of the inode's last change, which no program can set
}

func factsOf(path string) (fileFacts, error) {
	var s unix.Stat_t
	if err := unix.Lstat(path, &s); err != nil {
		return fileFacts{}, fmt.Errorf("stat %s: %w", path, err)
	}
	return fileFacts{
		Device: uint64(s.Dev), Inode: s.Ino, Size: s.Size, Modified: s.Mtim.Nano(), Changed: s.Ctim.Nano(),
	}, nil
}

// records are those of one repository and cluster.
type records struct {
	spool      *walspool.Spool
	repository string
	systemID   uint64
}

// localKey names a repository and a cluster in the spool.
func localKey(repository string, systemID uint64) string {
	sum := sha256.Sum256([]byte(repository))
	return hex.EncodeToString(sum[:8]) + "-" + strconv.FormatUint(systemID, 10)
}

func (r records) dir() string { return "pushed/" + localKey(r.repository, r.systemID) }

func (r records) path(name string) string { return r.dir() + "/" + name }

// add records durably that the file with these facts is stored.
func (r records) add(name string, fp codec.Fingerprint, file fileFacts) error {
	content, err := json.Marshal(record{
		Format: recordFormat, Repository: r.repository, SystemID: r.systemID, Name: name,
		SHA256: hex.EncodeToString(fp.SHA256[:]), File: file, RecordedAt: time.Now().UTC(),
	})
	if err != nil {
		return err
	}
	return r.spool.WriteFile(r.path(name), append(content, '\n'))
}

// covers reports whether there is a record that is about this very file.
func (r records) covers(name, path string) bool {
	content, err := r.spool.ReadFile(r.path(name))
	if err != nil {
		return false
	}
	found, err := parseRecord(content)
	if err != nil || found.Name != name || found.Repository != r.repository || found.SystemID != r.systemID {
		return false
	}
	age := time.Since(found.RecordedAt)
	if age >= recordLife || age <= -recordLife { // a clock that was wrong must not make it eternal
		return false
	}
	file, err := factsOf(path)
	return err == nil && file == found.File
}

func parseRecord(content []byte) (record, error) {
	var r record
	if err := json.Unmarshal(content, &r); err != nil {
		return record{}, fmt.Errorf("parse record: %w", err)
	}
	if r.Format != recordFormat {
		return record{}, fmt.Errorf("parse record: format %d", r.Format)
	}
	return r, nil
}

// remove forgets a file. When that fails, another call will.
func (r records) remove(name string) { _ = r.spool.RemoveFile(r.path(name)) }

// sweep removes the records of files that PostgreSQL does not want archived any
// more.
func (r records) sweep(wanted map[string]bool) {
	names, err := r.spool.Files(r.dir())
	if err != nil {
		return
	}
	for _, name := range names {
		if !wanted[name] {
			r.remove(name)
		}
	}
}
