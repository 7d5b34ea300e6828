package pipeline

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// step is a run of records that the first pass has handled and the second has
// not: [start, end).
type step struct {
	start, end int64
	seen       time.Time // when the first pass read it, or later
	sent       time.Time // when the first delete was sent; zero: by an earlier reading
	replied    time.Time // and acknowledged
	plan       *plan     // nil: not kept in memory, read it again
	size       int

	// Of the second pass:
	shown   time.Time // since when every reader shows it; zero: not known
	release Release
	left    int  // lanes whose deletes are not done, or do not count yet
	unsent  int  // those of them that wait for their time
	counted bool // its events were told as deleted again
	dropped bool // it will be read again, and what happens to it is of no use
}

// backlog is what lies between the two cursors of a partition. It keeps plans
// in memory while they fit, and beyond that only when each record was seen: a
// second pass that waits long costs no memory and holds up no first delete.
type backlog struct {
	mu       sync.Mutex
	firstAt  int64   // the first pass's cursor
	secondAt int64   // the second pass's: everything below is done, and counts
	queue    []*step // in memory, in order; there may be holes between
	front    int     // how many of them follow on secondAt without a hole
	frontEnd int64   // where they end
	memory   *memory
	marks    []mark
	changed  chan struct{} // closed and replaced when a step comes or counts

	unshown []*step   // of the queue, those of which shown is not known, in order
	lanes   [][]*step // the others, by lane, that wait for their time
	replies []reply   // deletes that do not count yet
	stalls  Stalls    // those that were seen
}

// reply is an acknowledged delete of one lane of some steps.
type reply struct {
	lane       int
	steps      []*step
	sent, came time.Time
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

func newBacklog(c Cursors, m *memory, lanes int) *backlog {
	b := &backlog{firstAt: c.First, memory: m, lanes: make([][]*step, lanes), changed: make(chan struct{})}
	b.restart(c.Second)
	return b
}

// restart lets the second pass begin anew at an offset: what was in memory is
// dropped. When the records behind it were seen, by whom ever, is no longer
// known: now is late enough (I9).
func (b *backlog) restart(from int64) {
	for _, s := range b.queue {
		s.dropped = true
		b.memory.give(s.size)
	}
	b.queue, b.front, b.marks, b.unshown, b.replies = nil, 0, nil, nil, nil
	clear(b.lanes)
	b.secondAt, b.frontEnd = from, from
	if from < b.firstAt {
		b.marks = []mark{{end: b.firstAt, seen: time.Now()}}
	}
}

func (b *backlog) first() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.firstAt
}

// push hands over a step that the first pass has finished.
func (b *backlog) push(s *step) {
	if s.start == s.end {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.firstAt = s.end
	if s.size = s.plan.size(); b.memory.take(s.size) {
		b.queue, b.unshown = append(b.queue, s), append(b.unshown, s)
		b.extend()
	} else {
		b.mark(mark{end: s.end, seen: s.seen})
	}
	b.wake()
}

// extend counts what follows on the front.
func (b *backlog) extend() {
	for b.front < len(b.queue) && b.queue[b.front].start == b.frontEnd {
		b.frontEnd = b.queue[b.front].end
		b.front++
	}
}

func (b *backlog) wake() {
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

// hole returns what follows on the front and is not in memory, as a step without
// a plan. It is to be read while nothing of the front waits for its time, so
// that what waits stays bounded; what was read and waits to be counted only is
// bounded by the memory.
func (b *backlog) hole() (s step, ok bool) {
	if b.frontEnd >= b.firstAt {
		return s, false
	}
	if b.front > 0 && (b.queue[b.front-1].unsent > 0 || b.queue[b.front-1].shown.IsZero() || b.memory.held.Load() > b.memory.limit) {
		return s, false
	}
	for b.marks[0].end <= b.frontEnd { // what is not queued has a mark
		b.marks = b.marks[1:]
	}
	s = step{start: b.frontEnd, end: b.marks[0].end, seen: b.marks[0].seen}
	if b.front < len(b.queue) { // a merged mark may reach beyond its start
		s.end = min(s.end, b.queue[b.front].start)
	}
	return s, true
}

// fill puts a step that was read again where the hole was, or in its beginning.
func (b *backlog) fill(s *step) {
	if s.start == s.end {
		return
	}
	s.size = s.plan.size()
	b.memory.held.Add(int64(s.size)) // one read more than the limit, at most
	b.queue = slices.Insert(b.queue, b.front, s)
	b.unshown = slices.Insert(b.unshown, 0, s)
	b.extend()
}

// lane lets a step wait for its time: before those of later records, which were
// in memory while it was read again.
func (b *backlog) lane(i int, s *step) {
	at, _ := slices.BinarySearchFunc(b.lanes[i], s.start, func(o *step, start int64) int { return cmp.Compare(o.start, start) })
	b.lanes[i] = slices.Insert(b.lanes[i], at, s)
}

// retire moves the second cursor over what is done and counts, calling each.
func (b *backlog) retire(each func(*step)) {
	n := 0
	for n < b.front && b.queue[n].left == 0 && !b.queue[n].shown.IsZero() {
		s := b.queue[n]
		b.queue[n] = nil
		b.secondAt = s.end
		b.memory.give(s.size)
		each(s)
		n++
	}
	b.queue = b.queue[n:]
	b.front -= n
}

// drop gives back the memory of what was not handled.
func (b *backlog) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.queue {
		b.memory.give(s.size)
	}
	b.queue, b.front = nil, 0
}
