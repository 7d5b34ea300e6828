package pipeline

import (
	"context"
	"time"
)

// tellHold is how long the gate holds a transaction before that is told, and the
// time between two tellings.
const tellHold = time.Second

// telling tells Hooks.Holding, while the gate holds t, for how long it has: the
// gate has no time limit, and a tailer that waits there looks idle otherwise. The
// returned function ends that, and says so where anything was told.
func (r *tailRun) telling(t Txn, since time.Time) (stop func()) {
	if r.Hooks.Holding == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	first := time.AfterFunc(tellHold, func() {
		defer close(ended)
		for {
			r.Hooks.Holding(HeldInfo{Txn: t, Held: time.Since(since)})
			if sleep(ctx, tellHold) != nil {
				return
			}
		}
	})
	return func() {
		cancel()
		if first.Stop() {
			return
		}
		<-ended
		r.Hooks.Holding(HeldInfo{Txn: t})
	}
}
