package backup

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"walden/codec"
	"walden/internal/spill"
)

// pages is content as tables have it: three quarters compress well, and of the
// rest a quarter.
func pages(size int) []byte {
	b := make([]byte, 0, size)
	for i := 0; len(b) < size*3/4; i++ {
		b = fmt.Appendf(b, "%8d%4d%12d%84s", i, i%100, i*i%5000, "")
	}
	for noise := hard(size); len(b) < size; noise = noise[96:] {
		b = append(append(b, noise[:96]...), "0123456789abcdef0123456789abcdef"...)
	}
	return b[:size]
}

// benchTree is 192 MiB: a large file and many small ones.
func benchTree(b *testing.B) (dir string, size int64) {
	b.Helper()
	dir = b.TempDir()
	must(b, os.Mkdir(filepath.Join(dir, "global"), 0o700))
	add := func(name string, bytes int) {
		write(b, filepath.Join(dir, name), pages(bytes))
		size += int64(bytes)
	}
	add("large", 128<<20)
	for i := range 1024 {
		add(fmt.Sprint(i), 64<<10)
	}
	return dir, size
}

// BenchmarkCopy reads, hashes, compresses and stores.
func BenchmarkCopy(b *testing.B) {
	dir, size := benchTree(b)
	list := entriesOf(b, dir)
	for _, level := range []codec.Level{codec.LevelFastest, codec.LevelDefault, codec.LevelNone} {
		b.Run(level.String(), func(b *testing.B) {
			repo := newRepository(b)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pushTree(b, repo.Cluster, asWalk(list), keys{}, level, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRestore fetches, decompresses, hashes and writes, all but the sync.
func BenchmarkRestore(b *testing.B) {
	dir, size := benchTree(b)
	repo := newRepository(b)
	stored := mustPush(b, repo.Cluster, dir, keys{})
	var manifest spill.Buffer
	defer manifest.Close()
	must(b, repo.ReadManifest(b.Context(), *stored.Commit, &manifest))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		f := &fetcher{repo: repo.Cluster, commit: *stored.Commit, report: silent{}, opts: FetchOptions{Dir: b.TempDir()}}
		b.StartTimer()
		if _, err := f.unpack(b.Context(), &manifest); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		must(b, os.RemoveAll(f.opts.Dir))
		b.StartTimer()
	}
}
