package wire

import (
	"context"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// liveFirst holds replayed events back while live ones are late.
type liveFirst struct {
	mu    sync.Mutex
	lives map[string]*livePass // by partition
}

// livePass is the first pass of a live partition: how late it is follows from
// where the log ended when.
type livePass struct {
	fetched time.Time     // when the batch at hand was read
	took    time.Duration // how long the batch before was at work, from then on
	ends    []logEnd      // those that the pass has not reached, oldest first
}

// logEnd says that all before an offset was in the log at a time, or may have been.
type logEnd struct {
	offset int64
	at     time.Time
}

const (
	// liveLate is how late the first pass of a live partition may be until replays
	// wait for it.
	liveLate = 250 * time.Millisecond
	lookLive = 20 * time.Millisecond
)

func newLiveFirst() *liveFirst { return &liveFirst{lives: map[string]*livePass{}} }

// hooks are for live changes.
func (l *liveFirst) hooks() pipeline.Hooks {
	return pipeline.Hooks{
		Fetched: func(i pipeline.FetchedInfo) {
			l.mu.Lock()
			defer l.mu.Unlock()
			p := l.lives[i.Partition]
			if p == nil {
				p = &livePass{}
				l.lives[i.Partition] = p
			}
			p.fetch(i.End, time.Now())
		},
		Handled: func(partition string, next int64) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if p := l.lives[partition]; p != nil {
				p.handle(next, time.Now())
			}
		},
		Owned: func(partition string, _ bool) {
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.lives, partition)
		},
	}
}

// fetch notes where the log ended at a read.
func (p *livePass) fetch(end int64, now time.Time) {
	for i := range p.ends { // a log that lost its tail
		p.ends[i].offset = min(p.ends[i].offset, end)
	}
	if n := len(p.ends); n == 0 || p.ends[n-1].offset < end {
		// What is new came while the batch before was at work, or just now: where there
		// is nothing to read, a read waits for it.
		p.ends = append(p.ends, logEnd{end, now.Add(-p.took)})
	}
	for len(p.ends) > 1 && now.Sub(p.ends[1].at) >= liveLate {
		p.ends = p.ends[1:] // of those that make it late, the last one tells until when
	}
	p.fetched, p.took = now, 0
}

// handle notes up to where keys were deleted.
func (p *livePass) handle(next int64, now time.Time) {
	for len(p.ends) > 0 && p.ends[0].offset <= next {
		p.ends = p.ends[1:]
	}
	p.took = now.Sub(p.fetched)
}

func (l *liveFirst) late() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.lives {
		if len(p.ends) > 0 && time.Since(p.ends[0].at) >= liveLate {
			return true
		}
	}
	return false
}

// wait blocks while live changes are late, or until ctx ends.
func (l *liveFirst) wait(ctx context.Context) error {
	for l.late() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookLive):
		}
	}
	return ctx.Err()
}
