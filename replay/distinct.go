package replay

import (
	"bufio"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
	"slices"
)

// distinct counts distinct keys, all together and by rule, in memory that does
// not grow with them. It keeps a 64-bit hash of each key with the number of its
// rule: what fills the memory is sorted and spilled to a file as a run, and at the
// end the runs are merged.
//
// Two keys with the same hash count as one. Among n keys that is to be expected
// n²/2⁶⁵ times: 0.000003 times among ten million keys, 0.03 times among a thousand
// million. So the count is exact but for odds that no operator will meet.
type distinct struct {
	seed  maphash.Seed
	limit int
	seen  []mark
	spill *os.File // unlinked; nil until it is needed
	runs  []run
	size  int64 // of spill
	dir   string
	few   sampler
}

// mark is one key, as one rule made it.
type mark struct {
	hash uint64
	rule uint16
}

const (
	markSize  = 10      // in a file, in bytes
	maxMarks  = 1 << 20 // in memory: 16 MiB
	runBuffer = 32 << 10
)

// run is where a sorted run lies in the file.
type run struct{ from, size int64 }

func newDistinct(dir string, limit, sample int) *distinct {
	return &distinct{seed: maphash.MakeSeed(), limit: cmp.Or(limit, maxMarks), dir: dir, few: sampler{size: sample}}
}

// add counts a key of a rule. It fails where the disk does.
func (d *distinct) add(key string, rule uint16) error {
	h := maphash.String(d.seed, key)
	d.seen = append(d.seen, mark{h, rule})
	d.few.add(h, key)
	if len(d.seen) < d.limit {
		return nil
	}
	// Most of a walk's keys are distinct, but a list's key comes again and again:
	// what is seen twice is dropped before it goes to disk.
	d.sort()
	if len(d.seen) <= d.limit/2 {
		return nil
	}
	return d.spillRun()
}

func (d *distinct) sort() {
	slices.SortFunc(d.seen, compareMarks)
	d.seen = slices.Compact(d.seen)
}

func compareMarks(a, b mark) int {
	if c := cmp.Compare(a.hash, b.hash); c != 0 {
		return c
	}
	return cmp.Compare(a.rule, b.rule)
}

func (d *distinct) spillRun() error {
	if d.spill == nil {
		f, err := os.CreateTemp(d.dir, "replay-count-*")
		if err != nil {
			return fmt.Errorf("count keys: %w", err)
		}
		d.spill = f
		// Without a name it is gone with the process, whatever ends that.
		if err := os.Remove(f.Name()); err != nil {
			return fmt.Errorf("count keys: %w", err)
		}
	}
	w := bufio.NewWriterSize(d.spill, 256<<10)
	var b [markSize]byte
	for _, m := range d.seen {
		binary.BigEndian.PutUint64(b[:], m.hash)
		binary.BigEndian.PutUint16(b[8:], m.rule)
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("count keys in %s: %w", d.spill.Name(), err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("count keys in %s: %w", d.spill.Name(), err)
	}
	size := int64(len(d.seen)) * markSize
	d.runs = append(d.runs, run{d.size, size})
	d.size += size
	d.seen = d.seen[:0]
	return nil
}

// count returns the number of distinct keys, and of those of each rule: a key that
// two rules make counts for both.
func (d *distinct) count() (total int64, byRule map[uint16]int64, err error) {
	d.sort()
	byRule = make(map[uint16]int64)
	var last mark
	first := true
	err = d.merge(func(m mark) {
		if first || m.hash != last.hash {
			total++
		}
		if first || m != last {
			byRule[m.rule]++
		}
		last, first = m, false
	})
	return total, byRule, err
}

// merge calls fn with all marks in order.
func (d *distinct) merge(fn func(mark)) error {
	h := mergeHeap{{marks: d.seen}}
	for _, r := range d.runs {
		h = append(h, &cursor{in: bufio.NewReaderSize(io.NewSectionReader(d.spill, r.from, r.size), runBuffer)})
	}
	alive := h[:0]
	for _, c := range h {
		ok, err := c.next()
		if err != nil {
			return fmt.Errorf("count keys: %w", err)
		}
		if ok {
			alive = append(alive, c)
		}
	}
	h = alive
	heap.Init(&h)
	for len(h) > 0 {
		fn(h[0].at)
		ok, err := h[0].next()
		switch {
		case err != nil:
			return fmt.Errorf("count keys: %w", err)
		case ok:
			heap.Fix(&h, 0)
		default:
			heap.Pop(&h)
		}
	}
	return nil
}

func (d *distinct) close() error {
	if d.spill == nil {
		return nil
	}
	return d.spill.Close()
}

// cursor reads a run, or the marks in memory.
type cursor struct {
	at    mark
	in    *bufio.Reader
	marks []mark
}

func (c *cursor) next() (bool, error) {
	if c.in == nil {
		if len(c.marks) == 0 {
			return false, nil
		}
		c.at, c.marks = c.marks[0], c.marks[1:]
		return true, nil
	}
	var b [markSize]byte
	_, err := io.ReadFull(c.in, b[:])
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	c.at = mark{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint16(b[8:])}
	return err == nil, err
}

type mergeHeap []*cursor

func (h mergeHeap) Len() int           { return len(h) }
func (h mergeHeap) Less(i, j int) bool { return compareMarks(h[i].at, h[j].at) < 0 }
func (h mergeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *mergeHeap) Push(x any)        { *h = append(*h, x.(*cursor)) }
func (h *mergeHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	return c
}

// sampler keeps the keys with the smallest hashes: a sample in which each distinct
// key is as likely as any other, however often it came.
type sampler struct {
	size int
	keys []sampled // a heap, the greatest hash first
	has  map[uint64]bool
}

type sampled struct {
	hash uint64
	key  string
}

func (s *sampler) Len() int           { return len(s.keys) }
func (s *sampler) Less(i, j int) bool { return s.keys[i].hash > s.keys[j].hash }
func (s *sampler) Swap(i, j int)      { s.keys[i], s.keys[j] = s.keys[j], s.keys[i] }
func (s *sampler) Push(x any)         { s.keys = append(s.keys, x.(sampled)) }
func (s *sampler) Pop() any {
	last := s.keys[len(s.keys)-1]
	s.keys = s.keys[:len(s.keys)-1]
	return last
}

func (s *sampler) add(hash uint64, key string) {
	full := len(s.keys) >= s.size
	if s.size == 0 || full && hash >= s.keys[0].hash || s.has[hash] {
		return
	}
	if s.has == nil {
		s.has = make(map[uint64]bool, s.size)
	}
	s.has[hash] = true
	heap.Push(s, sampled{hash, key})
	if full {
		delete(s.has, heap.Pop(s).(sampled).hash)
	}
}

// list returns the sampled keys.
func (s *sampler) list() []string {
	var all []string
	for _, k := range s.keys {
		all = append(all, k.key)
	}
	return all
}
