package backup

import (
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"walden/postgres/pgdata"
)

// item is what one entry of the tar stream is made from: a file of the data
// directory, or content in memory.
type item struct {
	pgdata.Entry
	data []byte // of a file that is not read from Source; nil otherwise
}

// job is a run of the tar stream that one worker builds: either items that
// together have SliceSize bytes at most, or a single larger file.
type job struct {
	first int // number of its first slice; later ones follow
	items []item
}

const (
	tarBlock = 512

	// maxItems bounds what is remembered of a job until it is collected.
	maxItems = 2048
)

// padded returns the length of n bytes of content in a tar stream.
func padded(n int64) int64 { return (n + tarBlock - 1) / tarBlock * tarBlock }

// need bounds the room of an item in the stream: its header; an extended one,
// with records of names that are long or not ASCII and of a large size; and its
// content.
func (i item) need() int64 {
	return 4*tarBlock + padded(int64(len(i.Path)+len(i.Link))) + padded(i.Size)
}

// planner groups entries into jobs and numbers their slices. Numbers may be
// left out: how many slices a job takes depends on what the files hold when they
// are read, so as many are set aside as it may take at most.
type planner struct {
	next int // number of the next slice
	job  job
	size int64
}

// jobs yields the jobs for a walk, in the order of the stream.
func (p *planner) jobs(walk iter.Seq2[pgdata.Entry, error]) iter.Seq2[job, error] {
	return func(yield func(job, error) bool) {
		for e, err := range walk {
			if err != nil {
				yield(job{}, err)
				return
			}
			if full, ok := p.add(item{Entry: e}); ok && !yield(full, nil) {
				return
			}
		}
		if rest, ok := p.flush(); ok {
			yield(rest, nil)
		}
	}
}

// add takes the next item and returns the job that is full because of it. A file
// that is larger than a slice stands alone.
func (p *planner) add(i item) (full job, ok bool) {
	need := i.need()
	if p.size > 0 && (p.size+need > SliceSize || len(p.job.items) == maxItems) {
		full, ok = p.flush()
	}
	p.job.items = append(p.job.items, i)
	p.size += need
	return full, ok
}

func (p *planner) flush() (job, bool) {
	if len(p.job.items) == 0 {
		return job{}, false
	}
	full := p.job
	full.first = p.next
	// All slices but the last have maxStored bytes of plaintext at least: what a
	// frame is stored as is never smaller than its plaintext by being incompressible.
	p.next += int((p.size + maxStored - 1) / maxStored)
	p.job, p.size = job{}, 0
	return full, true
}

// withoutNew leaves out of a walk the tablespaces that are not in old. Those that
// are made while a backup runs are not in its tablespace_map; replay makes their
// links, which fails where the backup holds a directory of that name, and all
// that is in them.
func withoutNew(old []pgdata.Tablespace, walk iter.Seq2[pgdata.Entry, error]) iter.Seq2[pgdata.Entry, error] {
	return func(yield func(pgdata.Entry, error) bool) {
		skip := "" // path of a tablespace
		for e, err := range walk {
			if err == nil && path.Dir(e.Path) == "pg_tblspc" && isNew(e, old) {
				skip = e.Path
			}
			if skip != "" && (e.Path == skip || strings.HasPrefix(e.Path, skip+"/")) {
				continue
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// isNew tells whether an entry directly below pg_tblspc is a tablespace that is
// not in old. Where it is not a link, it lies in the data directory and has no
// place in a tablespace_map.
func isNew(e pgdata.Entry, old []pgdata.Tablespace) bool {
	if slices.ContainsFunc(old, func(t pgdata.Tablespace) bool { return strconv.FormatUint(uint64(t.OID), 10) == path.Base(e.Path) }) {
		return false
	}
	info, err := os.Lstat(e.Source)
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}
