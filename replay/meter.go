package replay

import (
	"sync"
	"time"
)

// Progress is how far a replay is, at one moment.
type Progress struct {
	Phase  Phase
	Rows   int64
	Keys   int64
	Chunks int64
	// Total is how many rows there are, about, and Done the share of the source that
	// is published, from 0 to 1; both are negative if unknown.
	Total int64
	Done  float64
	// Rate is what went lately, in keys per second.
	Rate float64
	// Left is an estimate of the time until all is published; negative if unknown.
	Left    time.Duration
	Pace    PaceView
	Backlog Backlog // as last asked for
	// Still is for how long the Backlog's First has been the same, and not 0: live
	// changes go first, or nobody makes the passes.
	Still time.Duration
}

// Planning is the phase of a Progress while a Plan is made, before there is a State.
const Planning Phase = "planning"

const (
	reportEvery = 500 * time.Millisecond
	// window is what "lately" means, in reports.
	window = 30
)

// meter is what other goroutines may know of a Run.
type meter struct {
	mu      sync.Mutex
	now     Progress
	moved   time.Time // when the backlog's First was last another one, or 0
	sent    int64     // keys, by this process
	saved   time.Time
	samples []sample // one a report, oldest first
}

type sample struct {
	at   time.Time
	keys int64
	done float64
}

func (m *meter) start(s *State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Phase, m.now.Total = s.Phase(), s.Job().Rows
	m.saved = time.Now()
	m.take(s.Counts())
	m.samples = append(m.samples, sample{time.Now(), m.now.Keys, m.now.Done})
}

func (m *meter) take(c Counts) {
	m.now.Rows, m.now.Keys, m.now.Chunks, m.now.Done = c.Rows, c.Keys, c.Chunks, c.Done
}

func (m *meter) chunk(c Counts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.take(c)
}

func (m *meter) enter(p Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now.Phase, m.now.Done = p, 1
}

func (m *meter) backlog(b Backlog) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b.First != m.now.Backlog.First || b.First <= 0 {
		m.moved = time.Now()
	}
	m.now.Backlog = b
}

func (m *meter) add(n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sent += n
}

// published returns how many keys this process has published.
func (m *meter) published() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// stored notes that the state was stored.
func (m *meter) stored() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = time.Now()
}

func (m *meter) sinceStored() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.saved)
}

// report returns the progress, and takes a sample for the next.
func (m *meter) report() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.now
	p.Left = -1
	now := time.Now()
	if p.Backlog.First > 0 {
		p.Still = now.Sub(m.moved)
	}
	if len(m.samples) > 0 {
		first := m.samples[0]
		seconds := now.Sub(first.at).Seconds()
		if seconds > 0 {
			p.Rate = float64(p.Keys-first.keys) / seconds
		}
		if gone := p.Done - first.done; p.Phase == Reading && p.Done >= 0 && first.done >= 0 && gone > 0 {
			p.Left = time.Duration((1 - p.Done) / gone * seconds * float64(time.Second))
		}
	}
	m.samples = append(m.samples, sample{now, p.Keys, p.Done})
	if len(m.samples) > window {
		m.samples = m.samples[1:]
	}
	return p
}

// report tells the progress to who asked for it.
func (r *Run) report() {
	if r.Progress == nil {
		return
	}
	p := r.meter.report()
	if r.Pace != nil {
		p.Pace = r.Pace.View()
	}
	r.Progress(p)
}
