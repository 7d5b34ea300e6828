package pipeline

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func planOf(size int) *plan {
	p := &plan{lanes: []int{0}}
	for p.size() < size {
		p.keys = append(p.keys, fmt.Sprintf("key:%032d", len(p.keys)))
	}
	return p
}

// backlogModel keeps, naively, when each record was seen.
type backlogModel struct {
	*backlog
	seen   map[int64]time.Time
	second int64 // the next record that must come
}

// read reads a hole again, in part.
func (m *backlogModel) read(t *rapid.T, reach int64) {
	s, ok := m.hole()
	if !ok {
		return
	}
	if s.start != m.frontEnd || s.end <= s.start || s.end > m.firstAt {
		t.Fatalf("a hole [%d, %d) behind %d, below %d", s.start, s.end, m.frontEnd, m.firstAt)
	}
	s.end, s.plan = min(s.end, s.start+reach), planOf(300)
	m.fill(&s)
}

// show lets some steps be done, which count at once.
func (m *backlogModel) show(t *rapid.T, n int) {
	for _, s := range m.unshown[:min(n, len(m.unshown))] {
		s.shown = s.seen
	}
	m.unshown = m.unshown[min(n, len(m.unshown)):]
	m.retire(func(s *step) {
		if s.start != m.second {
			t.Fatalf("step [%d, %d), want one from %d", s.start, s.end, m.second)
		}
		for o := s.start; o < s.end; o++ {
			if m.seen[o].After(s.seen) {
				t.Fatalf("record %d was seen at %v, its step says %v", o, m.seen[o], s.seen)
			}
		}
		m.second = s.end
	})
}

// Whatever comes in whatever order, each record comes out once, in order, not
// before its time, and memory stays bounded.
func TestBacklogModel(t *testing.T) {
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Int64Range(0, 20).Draw(t, "second")
		c := Cursors{First: second + rapid.Int64Range(0, 20).Draw(t, "inherited"), Second: second}
		limit := rapid.IntRange(0, 4000).Draw(t, "limit")
		m := &backlogModel{backlog: newBacklog(c, &memory{limit: int64(limit)}, 1), seen: map[int64]time.Time{}, second: second}
		clock := now
		for range rapid.IntRange(0, 200).Draw(t, "actions") {
			switch rapid.IntRange(0, 20).Draw(t, "action") {
			default:
				clock = clock.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "wait")) * time.Second)
				s := &step{start: m.first(), seen: clock, plan: planOf(rapid.IntRange(0, 1000).Draw(t, "size"))}
				s.end = s.start + rapid.Int64Range(0, 9).Draw(t, "records")
				for o := s.start; o < s.end; o++ {
					m.seen[o] = clock
				}
				m.push(s)
			case 0, 1, 2, 3, 4:
				m.read(t, rapid.Int64Range(1, 9).Draw(t, "reach"))
			case 5, 6, 7, 8, 9, 10:
				m.show(t, rapid.IntRange(0, 3).Draw(t, "steps"))
			case 20: // a reader is back
				m.second = rapid.Int64Range(second, m.second).Draw(t, "from")
				m.restart(m.second)
				clear(m.seen) // it is not known any more
			}
			m.bounds(t)
		}
		for m.second < m.first() {
			before := m.second
			m.show(t, len(m.unshown))
			m.read(t, 100)
			m.show(t, len(m.unshown))
			if m.second == before {
				t.Fatalf("nothing comes, but %d to %d are owed", m.second, m.first())
			}
		}
		if m.secondAt != m.first() || len(m.queue) > 0 || m.memory.held.Load() != 0 {
			t.Fatalf("ended at %d of %d with %d steps and %d bytes", m.secondAt, m.first(), len(m.queue), m.memory.held.Load())
		}
	})
}

func (m *backlogModel) bounds(t *rapid.T) {
	size, last := 0, 0
	for _, s := range m.queue {
		size += s.size
		last = max(last, s.size)
	}
	if int64(size) != m.memory.held.Load() || int64(size-last) > m.memory.limit || len(m.marks) > maxMarks {
		t.Fatalf("%d bytes, counted as %d, limit %d, %d marks", size, m.memory.held.Load(), m.memory.limit, len(m.marks))
	}
	if m.secondAt != m.second {
		t.Fatalf("the cursor is %d, want %d", m.secondAt, m.second)
	}
}

// Many marks are merged, and the later time holds; a mark that spans what is
// queued does not lead past it.
func TestBacklogMergesMarks(t *testing.T) {
	b := newBacklog(Cursors{}, &memory{limit: int64(1000)}, 1)
	begin := time.Now()
	at := func(i int64) time.Time { return begin.Add(time.Duration(i) * time.Second) }
	push := func(from, to int64, size int) {
		for i := from; i < to; i++ {
			b.push(&step{start: i, end: i + 1, seen: at(i), plan: planOf(size)})
		}
	}
	const n = 3 * maxMarks
	push(0, 10, 5000)
	push(10, 11, 0) // queued, and the second pass has not come so far
	push(11, n, 5000)
	if len(b.queue) != 1 || len(b.marks) > maxMarks {
		t.Fatalf("%d steps, %d marks", len(b.queue), len(b.marks))
	}
	steps := 0
	for b.secondAt < n {
		if s, ok := b.hole(); ok {
			if s.start != b.frontEnd || s.seen.Before(at(s.end-1)) || s.start < 10 && s.end > 10 {
				t.Fatalf("hole %+v behind %d", s, b.frontEnd)
			}
			s.plan = planOf(0)
			b.fill(&s)
		}
		for _, s := range b.unshown {
			s.shown = at(0)
		}
		b.unshown = nil
		b.retire(func(*step) { steps++ })
	}
	if steps > maxMarks+2 || len(b.queue) > 0 || b.memory.held.Load() != 0 {
		t.Errorf("came to %d of %d in %d steps, %d queued", b.secondAt, n, steps, len(b.queue))
	}
}

func TestBacklogInherited(t *testing.T) {
	before := time.Now()
	b := newBacklog(Cursors{First: 7, Second: 3}, &memory{limit: int64(1000)}, 1)
	s, ok := b.hole()
	if !ok || s.start != 3 || s.end != 7 || s.plan != nil || s.seen.Before(before) {
		t.Errorf("step %+v, %v", s, ok)
	}
	if _, ok := newBacklog(Cursors{First: 7, Second: 7}, &memory{limit: int64(1000)}, 1).hole(); ok {
		t.Error("a hole where nothing is owed")
	}
}

// After it has overflowed, the backlog keeps plans in memory again as soon as
// there is room, even where the second pass never catches up.
func TestBacklogComesBackToMemory(t *testing.T) {
	b := newBacklog(Cursors{}, &memory{limit: int64(3000)}, 1)
	read, all := 0, int64(1000)
	for i := range all {
		b.push(&step{start: i, end: i + 1, plan: planOf(900)})
		for i-b.secondAt >= 10 { // it stays ten records behind
			if s, ok := b.hole(); ok && b.front == 0 {
				s.end, s.plan = s.start+1, planOf(900)
				b.fill(&s)
				read++
			}
			b.queue[0].shown, b.unshown = time.Now(), nil
			b.retire(func(*step) {})
		}
	}
	if read > 800 {
		t.Errorf("%d of %d were read again", read, all)
	}
}
