package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"walden/catalog"
	"walden/codec"
	"walden/internal/spill"
	"walden/postgres/wal"
	"walden/storage"
	"walden/walspool"
)

// PushOptions say how a file is stored. Major and SegmentSize are required.
type PushOptions struct {
	SegmentSize wal.SegmentSize
	Major       int // PostgreSQL's major version, for a repository that is new
	Codec       codec.ObjectOptions

	// Spool remembers for a while that the repository knows the cluster, which
	// saves two requests; nil remembers nothing.
	Spool *walspool.Spool
	// Repository tells the repository from others that Spool remembers
	// (storage.Location.ID). Required with Spool.
	Repository string

	// Memory is how many bytes of an object are kept in memory before it is sent;
	// more go to a file in TempDir. 0 and "" mean what they mean to spill.Buffer.
	Memory  int
	TempDir string
}

// PushResult says what Push did.
type PushResult struct {
	Fingerprint codec.Fingerprint
	StoredSize  int64
	Existed     bool // the repository had the same file already
}

// Push stores the WAL file at path. It returns nil only when every byte is in the
// repository and the store has confirmed its checksum.
//
// ErrRefused means that the file is not what its name and the cluster say.
// catalog.ErrConflict means that the repository holds other content under the
// name. Both are conclusive. Other errors are the store's or the file system's.
func Push(ctx context.Context, repo catalog.Cluster, path string, opts PushOptions) (PushResult, error) {
	name, err := base(path)
	if err != nil {
		return PushResult{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return PushResult{}, fmt.Errorf("push %s: %w", name, err)
	}
	defer f.Close() // it was only read
	sum, err := inspect(ctx, f, name, repo.SystemID, opts.SegmentSize)
	if err == nil {
		err = mustBeFinished(name, path, repo.SystemID, opts.SegmentSize)
	}
	if err != nil {
		return PushResult{}, fmt.Errorf("push %s: %w", path, err)
	}
	if err := introduce(ctx, repo, name, filepath.Dir(path), opts); err != nil {
		return PushResult{}, fmt.Errorf("push %s: %w", name, err)
	}
	res, err := store(ctx, repo, name, f, sum, opts)
	if err != nil {
		return PushResult{}, fmt.Errorf("push %s: %w", name, err)
	}
	return res, nil
}

// inspect sums up a file, and refuses one that is not what its name says. The
// look at the content comes after the sum, which binds what is stored later:
// a segment that PostgreSQL reuses in between is not stored under its old name.
func inspect(ctx context.Context, f *os.File, name wal.FileName, systemID uint64, size wal.SegmentSize) (codec.Sum, error) {
	info, err := f.Stat()
	if err != nil {
		return codec.Sum{}, err
	}
	if !info.Mode().IsRegular() {
		return codec.Sum{}, fmt.Errorf("not a regular file: %w", ErrRefused)
	}
	sum, err := codec.SumReader(interruptible{ctx, f})
	if err != nil {
		return codec.Sum{}, err
	}
	content := io.NewSectionReader(f, 0, sum.Size)
	if isSegment(name) {
		head := make([]byte, min(wal.LongHeaderSize, sum.Size))
		if _, err := io.ReadFull(content, head); err != nil {
			return codec.Sum{}, err
		}
		err = checkSegment(head, sum.Size, name.Segment, systemID, size)
	} else {
		err = checkText(content, name)
	}
	return sum, refuse(err)
}

// refuse makes errors about the content of a file refusals.
func refuse(err error) error {
	if errors.Is(err, wal.ErrSyntax) || errors.Is(err, wal.ErrMismatch) || errors.Is(err, wal.ErrPageHeader) {
		return fmt.Errorf("%w: %w; nothing was stored", ErrRefused, err)
	}
	return err
}

// markLife is how long a mark in the spool stands for a look at the repository,
// which an operator may have emptied and begun anew.
const markLife = time.Hour

// introduce makes sure that the repository has the identity of the cluster, and
// knows where the timeline of the file comes from. The latter must not be left to
// archive_command alone: a cluster that was promoted while its archiving was off
// never gets its history file archived, and then nothing would tell its timeline
// from that of another copy of the same source. dir is where the history file
// would lie, "" when somebody else stores it.
func introduce(ctx context.Context, repo catalog.Cluster, name wal.FileName, dir string, opts PushOptions) error {
	if introduced(repo, name, dir, opts) {
		return nil
	}
	child := childTimeline(name, dir)
	err := repo.EnsureIdentity(ctx, catalog.Identity{SegmentSize: opts.SegmentSize, PostgresVersion: opts.Major})
	if err == nil && child != 0 {
		err = storeHistory(ctx, repo, child, dir, opts)
	}
	if err != nil {
		return err
	}
	if opts.Spool != nil {
		_ = opts.Spool.Mark(introductionMark(repo, child, opts)) // a full disk costs a request the next time, not the archiving
	}
	return nil
}

// childTimeline is the timeline of which introduce stores the history: 0 for none.
func childTimeline(name wal.FileName, dir string) wal.Timeline {
	if name.Kind != wal.KindHistory && name.Timeline > 1 && dir != "" {
		return name.Timeline
	}
	return 0
}

// introductionMark names what introduce has made sure of.
func introductionMark(repo catalog.Cluster, child wal.Timeline, opts PushOptions) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%d\n%d", opts.Repository, repo.SystemID, opts.SegmentSize, child))
	return "cluster-" + hex.EncodeToString(sum[:8])
}

// introduced reports whether introduce needs no request.
func introduced(repo catalog.Cluster, name wal.FileName, dir string, opts PushOptions) bool {
	return opts.Spool != nil && opts.Spool.Marked(introductionMark(repo, childTimeline(name, dir), opts), markLife)
}

// storeHistory stores the history file of a timeline that lies in dir beside the
// timeline's segments. Where there is none, as in a directory of segments that
// were saved from elsewhere, there is nothing to store.
func storeHistory(ctx context.Context, repo catalog.Cluster, t wal.Timeline, dir string, opts PushOptions) error {
	name := wal.FileName{Kind: wal.KindHistory, Timeline: t}
	f, err := os.Open(filepath.Join(dir, name.String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close() // it was only read
	sum, err := inspect(ctx, f, name, repo.SystemID, opts.SegmentSize)
	if err == nil {
		_, err = store(ctx, repo, name, f, sum, opts)
	}
	if err != nil {
		return fmt.Errorf("store %s first: %w", name, err)
	}
	return nil
}

// store encodes the file and creates its object by one request.
func store(ctx context.Context, repo catalog.Cluster, name wal.FileName, f io.ReadSeeker, sum codec.Sum, opts PushOptions) (res PushResult, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return PushResult{}, err
	}
	body := spill.Buffer{Limit: opts.Memory, Dir: opts.TempDir}
	defer func() { err = errors.Join(err, body.Close()) }()
	fp, err := codec.EncodeObject(&body, name.String(), repo.SystemID, sum, interruptible{ctx, f}, opts.Codec)
	if err != nil {
		return PushResult{}, err
	}
	res = PushResult{Fingerprint: fp, StoredSize: body.Size()}
	_, err = repo.Store.Create(ctx, repo.WALKey(name), body.Reader(), body.Size())
	if errors.Is(err, storage.ErrExist) {
		res.Existed = true
		err = compare(ctx, repo, name, fp)
	}
	return res, err
}

// compare judges whether the object that exists holds the same file.
func compare(ctx context.Context, repo catalog.Cluster, name wal.FileName, ours codec.Fingerprint) (err error) {
	r, err := repo.Store.Get(ctx, repo.WALKey(name), 0, codec.FingerprintHead)
	if err != nil {
		return fmt.Errorf("compare with what the repository holds: %w", err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("compare with what the repository holds: %w", err)
	}
	theirs, err := codec.ReadFingerprint(head)
	if errors.Is(err, codec.ErrNewer) {
		return fmt.Errorf("compare with what the repository holds: %w", err)
	}
	if err != nil {
		return fmt.Errorf("the repository holds an object of that name that walden did not write: %w: %w", catalog.ErrConflict, err)
	}
	if !theirs.Same(ours) {
		return fmt.Errorf("%w: this file is %s, the repository holds %s; nothing was overwritten. "+
			"Does another cluster with the same system identifier (a restored copy, an old primary) archive here?",
			catalog.ErrConflict, ours, theirs)
	}
	return nil
}

// interruptible is a reader for whom the context counts between two reads.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}
