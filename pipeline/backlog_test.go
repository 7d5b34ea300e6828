package pipeline

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func planOf(size int) *plan {
	p := &plan{}
	for p.size() < size {
		p.keys = append(p.keys, fmt.Sprintf("key:%032d", len(p.keys)))
	}
	return p
}

// model keeps, naively, when each record was seen, and whether its first delete
// was late.
type backlogModel struct {
	*backlog
	seen   map[int64]time.Time
	late   map[int64]bool
	second int64 // the next record that must come
}

// take checks one step: it continues where the last one ended, and no record of
// it was seen after the step's time (I6).
func (m *backlogModel) take(t *rapid.T, s step, reach int64) {
	if s.start != m.second || s.end <= s.start || s.end > m.firstAt {
		t.Fatalf("step [%d, %d), want one from %d, below %d", s.start, s.end, m.second, m.firstAt)
	}
	for o := s.start; o < s.end; o++ {
		if m.seen[o].After(s.seen) {
			t.Fatalf("record %d was seen at %v, its step says %v", o, m.seen[o], s.seen)
		}
		if s.late && !m.late[o] {
			t.Fatalf("record %d was not late", o)
		}
	}
	if s.plan == nil {
		m.reached(min(reach, s.end))
		m.second = min(reach, s.end)
	} else {
		m.second = s.end
	}
}

// Whatever comes in whatever order, each record comes out once, in order, not
// before its time, and memory stays bounded.
func TestBacklogModel(t *testing.T) {
	now := time.Now()
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Int64Range(0, 20).Draw(t, "second")
		c := Cursors{First: second + rapid.Int64Range(0, 20).Draw(t, "inherited"), Second: second}
		limit := rapid.IntRange(0, 4000).Draw(t, "limit")
		m := &backlogModel{backlog: newBacklog(c, &memory{limit: int64(limit)}), seen: map[int64]time.Time{}, late: map[int64]bool{}, second: second}
		clock := now
		for range rapid.IntRange(0, 200).Draw(t, "actions") {
			if rapid.Bool().Draw(t, "push") {
				clock = clock.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "wait")) * time.Second)
				s := step{
					start: m.first(), seen: clock, late: rapid.Bool().Draw(t, "late"),
					plan: planOf(rapid.IntRange(0, 1000).Draw(t, "size")),
				}
				s.end = s.start + rapid.Int64Range(0, 9).Draw(t, "records")
				for o := s.start; o < s.end; o++ {
					m.seen[o], m.late[o] = clock, s.late
				}
				m.push(s)
			} else if s, ok := m.pop(); ok {
				m.take(t, s, s.start+rapid.Int64Range(1, 9).Draw(t, "reach"))
			} else if m.second != m.first() {
				t.Fatalf("nothing comes, but %d to %d are owed", m.second, m.first())
			}
			m.bounds(t)
		}
		for s, ok := m.pop(); ok; s, ok = m.pop() {
			m.take(t, s, s.end)
		}
		if m.second != m.first() || len(m.queue) > 0 || m.memory.held.Load() != 0 {
			t.Fatalf("ended at %d of %d with %d steps and %d bytes", m.second, m.first(), len(m.queue), m.memory.held.Load())
		}
	})
}

func (m *backlogModel) bounds(t *rapid.T) {
	size := 0
	for _, s := range m.queue {
		size += s.plan.size()
	}
	if int64(size) != m.memory.held.Load() || int64(size) > m.memory.limit || len(m.marks) > maxMarks {
		t.Fatalf("%d bytes, counted as %d, limit %d, %d marks", size, m.memory.held.Load(), m.memory.limit, len(m.marks))
	}
}

// Many marks are merged, and the later time holds; a mark that spans what is
// queued does not lead past it.
func TestBacklogMergesMarks(t *testing.T) {
	b := newBacklog(Cursors{}, &memory{limit: int64(1000)})
	begin := time.Now()
	at := func(i int64) time.Time { return begin.Add(time.Duration(i) * time.Second) }
	push := func(from, to int64, size int) {
		for i := from; i < to; i++ {
			b.push(step{start: i, end: i + 1, seen: at(i), plan: planOf(size)})
		}
	}
	const n = 3 * maxMarks
	push(0, 10, 5000)
	push(10, 11, 0) // queued, and the second pass has not come so far
	push(11, n, 5000)
	if len(b.queue) != 1 || len(b.marks) > maxMarks {
		t.Fatalf("%d steps, %d marks", len(b.queue), len(b.marks))
	}
	next, steps := int64(0), 0
	for s, ok := b.pop(); ok; s, ok = b.pop() {
		if s.start != next || (s.plan != nil) != (s.start == 10) || s.seen.Before(at(s.end-1)) {
			t.Fatalf("step %+v after %d", s, next)
		}
		if s.plan == nil {
			b.reached(s.end)
		}
		next = s.end
		steps++
	}
	if next != n || steps > maxMarks+2 || len(b.queue) > 0 || b.memory.held.Load() != 0 {
		t.Errorf("came to %d of %d in %d steps, %d queued", next, n, steps, len(b.queue))
	}
}

func TestBacklogInherited(t *testing.T) {
	before := time.Now()
	b := newBacklog(Cursors{First: 7, Second: 3}, &memory{limit: int64(1000)})
	s, ok := b.pop()
	if !ok || s.start != 3 || s.end != 7 || s.plan != nil || s.late || s.seen.Before(before) {
		t.Errorf("step %+v, %v", s, ok)
	}
	if _, ok := newBacklog(Cursors{First: 7, Second: 7}, &memory{limit: int64(1000)}).pop(); ok {
		t.Error("a step where nothing is owed")
	}
}

// After it has overflowed, the backlog keeps plans in memory again as soon as
// there is room, even where the second pass never catches up.
func TestBacklogComesBackToMemory(t *testing.T) {
	b := newBacklog(Cursors{}, &memory{limit: int64(3000)})
	inMemory := 0
	next := int64(0)
	for i := range int64(1000) {
		b.push(step{start: i, end: i + 1, plan: planOf(900)})
		if i >= 10 { // it stays ten records behind
			s, _ := b.pop()
			if s.plan == nil {
				s.end = s.start + 1
				b.reached(s.end)
			} else {
				inMemory++
			}
			if s.start != next {
				t.Fatalf("step %+v, want %d", s, next)
			}
			next = s.end
		}
	}
	if inMemory < 200 {
		t.Errorf("%d of 1000 from memory", inMemory)
	}
}
