package admin

import (
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// standing knows since when the second pass of each partition has not moved, though
// something waits for it. It is safe for concurrent use.
type standing struct {
	mu    sync.Mutex
	waits map[string]waiting // by partition
}

type waiting struct {
	second int64
	since  time.Time
}

func newStanding() *standing { return &standing{waits: map[string]waiting{}} }

func (s *standing) hooks() pipeline.Hooks {
	return pipeline.Hooks{
		Stored: s.stored,
		Owned: func(partition string, _ bool) {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.waits, partition)
		},
	}
}

func (s *standing) stored(partition string, c pipeline.Cursors) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w, waits := s.waits[partition]
	switch {
	case c.Second >= c.First:
		delete(s.waits, partition)
	case !waits || w.second != c.Second:
		s.waits[partition] = waiting{c.Second, time.Now()}
	}
}

// longest returns the partition whose second pass has stood still for longest; 0
// where none does.
func (s *standing) longest() (partition string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, w := range s.waits {
		if since := time.Since(w.since); since > d {
			partition, d = name, since
		}
	}
	return partition, d
}

// standsStill is when a second pass that has not moved is worth a notice: more than
// max_wait usually is.
const standsStill = 15 * time.Minute

// notice says that second deletes are not made.
func (s *standing) notice() (Notice, bool) {
	partition, d := s.longest()
	return Notice{"second deletes stand still", fmt.Sprintf(
		"those of %s have waited for %v: a node of Redis or a server of second_delete.readers does not answer, or lags", partition, d.Round(time.Second))}, d > standsStill
}
