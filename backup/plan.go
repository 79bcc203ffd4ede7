package backup

import (
	"iter"

	"walden/postgres/pgdata"
)

// item is what one entry of the tar stream is made from: a file of the data
// directory, or content in memory.
type item struct {
	pgdata.Entry
	data []byte // of a file that is not read from Source; nil otherwise
}

// job is a run of the tar stream that one worker builds: either items that fit
// into one slice, or a single file that takes several.
type job struct {
	first int // number of its first slice; later ones follow
	items []item
}

const (
	tarBlock = 512
	// tarHeaders is room for the headers of one entry, with an extended one.
	tarHeaders = 4 * tarBlock
)

// padded returns the length of n bytes of content in a tar stream.
func padded(n int64) int64 { return (n + tarBlock - 1) / tarBlock * tarBlock }

// planner groups entries into jobs and numbers their slices. Numbers may be
// left out: a file that is gone or shorter when it is read needs fewer.
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
	need := tarHeaders + padded(i.Size)
	if p.size > 0 && p.size+need > SliceSize {
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
	p.next += int((p.size + SliceSize - 1) / SliceSize)
	p.job, p.size = job{}, 0
	return full, true
}
