package codec

import (
	"bytes"
	"fmt"
	"io"
	"testing"
)

// benchmarkData are 16 MiB of data that compresses well, and of such that does
// not.
func benchmarkData() map[string][]byte {
	return map[string][]byte{"pgbench": pgbenchData(16 << 20), "hard": hardData(16 << 20)}
}

// countWriter counts what it drops.
type countWriter int64

func (c *countWriter) Write(p []byte) (int, error) {
	*c += countWriter(len(p))
	return len(p), nil
}

// BenchmarkSumReader is the first pass over a segment.
func BenchmarkSumReader(b *testing.B) {
	content := hardData(16 << 20)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		sumOf(b, content)
	}
}

// BenchmarkEncodeObject is the second pass.
func BenchmarkEncodeObject(b *testing.B) {
	k := newKey(b)
	for name, content := range benchmarkData() {
		sum := sumOf(b, content)
		for _, level := range levels() {
			b.Run(fmt.Sprintf("%s/%v", name, level), func(b *testing.B) {
				benchmarkEncode(b, content, sum, ObjectOptions{Level: level})
			})
		}
		b.Run(name+"/fastest-encrypted", func(b *testing.B) {
			benchmarkEncode(b, content, sum, ObjectOptions{Recipients: []Recipient{k.recipient}})
		})
	}
}

func benchmarkEncode(b *testing.B, content []byte, sum Sum, opts ObjectOptions) {
	b.SetBytes(sum.Size)
	b.ReportAllocs()
	var stored countWriter
	for b.Loop() {
		stored = 0
		if _, err := EncodeObject(&stored, testName, testSystemID, sum, bytes.NewReader(content), opts); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(sum.Size)/float64(stored), "ratio")
}

// BenchmarkObjectReader includes the check of the SHA-256.
func BenchmarkObjectReader(b *testing.B) {
	k := newKey(b)
	for name, content := range benchmarkData() {
		for _, level := range levels() {
			object := encode(b, content, ObjectOptions{Level: level})
			b.Run(fmt.Sprintf("%s/%v", name, level), func(b *testing.B) { benchmarkDecode(b, object, len(content)) })
		}
		object := encode(b, content, ObjectOptions{Recipients: []Recipient{k.recipient}})
		b.Run(name+"/fastest-encrypted", func(b *testing.B) { benchmarkDecode(b, object, len(content), k.identity) })
	}
}

func benchmarkDecode(b *testing.B, object []byte, size int, ids ...Identity) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		r, err := NewObjectReader(bytes.NewReader(object), ids)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFrame is a frame of backup data there and back.
func BenchmarkFrame(b *testing.B) {
	for name, content := range benchmarkData() {
		plain := content[:FrameSize]
		for _, level := range levels() {
			enc, dec := frameCodec(b, level)
			frame := enc.Append(nil, plain)
			b.Run(fmt.Sprintf("encode/%s/%v", name, level), func(b *testing.B) {
				b.SetBytes(FrameSize)
				b.ReportAllocs()
				for b.Loop() {
					frame = enc.Append(frame[:0], plain)
				}
				b.ReportMetric(float64(FrameSize)/float64(len(frame)), "ratio")
			})
			b.Run(fmt.Sprintf("decode/%s/%v", name, level), func(b *testing.B) {
				b.SetBytes(FrameSize)
				b.ReportAllocs()
				var got []byte
				for b.Loop() {
					var err error
					if got, err = dec.Decode(got[:0], frame); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
