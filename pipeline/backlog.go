package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// step is a run of records that the first pass has handled and the second has
// not: [start, end).
type step struct {
	start, end int64
	seen       time.Time // when the first pass read it, or later
	late       bool      // the first delete was sent late enough to be the second
	plan       *plan     // nil: not kept in memory
}

// backlog is what lies between the two cursors of a partition. It keeps plans
// in memory while they fit, and beyond that only when each record was seen: a
// second pass that waits long costs no memory and holds up no first delete.
type backlog struct {
	mu      sync.Mutex
	firstAt int64 // the first pass's cursor
	nextAt  int64 // where the second pass goes on
	queue   []step
	memory  *memory
	marks   []mark
	changed chan struct{} // closed and replaced when firstAt moves
}

// memory bounds the bytes of the plans that wait in all backlogs of a process.
type memory struct {
	limit int64
	held  atomic.Int64
}

// take reports whether n more bytes fit; then they are held until given back.
func (m *memory) take(n int) bool {
	if m.held.Add(int64(n)) <= m.limit {
		return true
	}
	m.give(n)
	return false
}

func (m *memory) give(n int) { m.held.Add(int64(-n)) }

// mark says that every record below end, and not below an earlier mark's, was
// seen at or before a time.
type mark struct {
	end  int64
	seen time.Time
}

// maxMarks bounds the marks; when there are more, neighbours are merged, and
// the later time holds for both.
const maxMarks = 4096

func newBacklog(c Cursors, m *memory) *backlog {
	b := &backlog{firstAt: c.First, nextAt: c.Second, memory: m, changed: make(chan struct{})}
	if b.nextAt < b.firstAt {
		// An earlier owner saw these; when, this process cannot know (I9).
		b.marks = []mark{{end: b.firstAt, seen: time.Now()}}
	}
	return b
}

func (b *backlog) first() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.firstAt
}

// push hands over a step that the first pass has finished.
func (b *backlog) push(s step) {
	if s.start == s.end {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.firstAt = s.end
	if b.memory.take(s.plan.size()) {
		b.queue = append(b.queue, s)
	} else {
		b.mark(mark{end: s.end, seen: s.seen})
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *backlog) mark(m mark) {
	if len(b.marks) >= maxMarks {
		half := b.marks[:0]
		for i := 1; i < len(b.marks); i += 2 {
			half = append(half, b.marks[i])
		}
		if len(b.marks)%2 == 1 {
			half = append(half, b.marks[len(b.marks)-1])
		}
		b.marks = half
	}
	b.marks = append(b.marks, m)
}

// next waits for a step to handle. Where its plan is nil, the caller reads the
// records again and says with reached how far it came.
func (b *backlog) next(ctx context.Context) (step, error) {
	for {
		b.mu.Lock()
		s, ok := b.pop()
		changed := b.changed
		b.mu.Unlock()
		if ok {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return step{}, context.Cause(ctx)
		case <-changed:
		}
	}
}

func (b *backlog) pop() (step, bool) {
	if b.nextAt >= b.firstAt {
		return step{}, false
	}
	if len(b.queue) > 0 && b.queue[0].start == b.nextAt {
		s := b.queue[0]
		b.queue[0] = step{}
		b.queue = b.queue[1:]
		b.memory.give(s.plan.size())
		b.nextAt = s.end
		return s, true
	}
	for b.marks[0].end <= b.nextAt { // what is not queued has a mark
		b.marks = b.marks[1:]
	}
	s := step{start: b.nextAt, end: b.marks[0].end, seen: b.marks[0].seen}
	if len(b.queue) > 0 { // a merged mark may reach beyond its start
		s.end = min(s.end, b.queue[0].start)
	}
	return s, true
}

// drop gives back the memory of what was not handled.
func (b *backlog) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.queue {
		b.memory.give(s.plan.size())
	}
	b.queue = nil
}

// reached says that the records below end were read again.
func (b *backlog) reached(end int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nextAt = end
}
