package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Progress records are told at most every progressEvery, and each progressIdle
// while nothing happens; less often where a source's sets are so large that more
// than progressRate bytes a second would go into the log.
const (
	progressEvery = 100 * time.Millisecond
	progressIdle  = time.Second
	progressRate  = 128 << 10
)

// progress tells every partition of the log how far the stored position is, so
// that whoever reads a partition knows which transactions are all before that
// place. A position is stored only when its transactions' events have been
// acknowledged (I2), and a log keeps the order of what it gets: so they stand
// before the record that is published now. It works beside the stream, which
// never waits for it.
type progress struct {
	newest chan Position // holds the stream's newest stored position until it is told
	busy   chan struct{} // holds a token while a round is on its way
	failed int           // rounds in a row
	large  bool          // the set is too large, which was told
}

func newProgress() *progress { return &progress{busy: make(chan struct{}, 1)} }

// begin forgets what an earlier stream has left untold: there may have been a
// gap between, and another history.
func (p *progress) begin() { p.newest = make(chan Position, 1) }

// moved hands over a position that was stored, in place of one that has not been
// told yet. It never blocks; it is called by one goroutine at a time.
func (p *progress) moved(to Position) {
	select {
	case <-p.newest:
	default:
	}
	p.newest <- to
}

// tellProgress tells how far the position is until ctx ends. Nothing may be
// pending at its start. A Source that cannot say a position as a GTID set has
// no progress.
func (r *tailRun) tellProgress(ctx context.Context, at Position) {
	source, ok := r.Source.(interface{ GTIDSet(Position) string })
	if !ok {
		return
	}
	p := r.progress
	for {
		select { // a round that another stream has left under way
		case p.busy <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case at = <-p.newest:
		default:
		}
		wait := r.tellRound(ctx, source.GTIDSet(at))
		if sleep(ctx, wait) != nil {
			return
		}
		idle := time.NewTimer(progressIdle - wait)
		select {
		case at = <-p.newest:
		case <-idle.C:
		case <-ctx.Done():
		}
		idle.Stop()
	}
}

// tellRound publishes one record to each partition and waits until they are
// durable. The caller has put the token into busy. It returns how long to wait
// until the next round.
func (r *tailRun) tellRound(ctx context.Context, set string) time.Duration {
	p := r.progress
	records, size, err := r.progressRecords(set)
	if err != nil {
		<-p.busy
		if !p.large && r.Hooks.Retry != nil {
			r.Hooks.Retry("publish progress", 1, err, progressIdle)
		}
		p.large = true
		return progressIdle
	}
	done := make(chan error, 1)
	var once sync.Once
	settle := func(err error) {
		once.Do(func() {
			<-p.busy
			done <- err
		})
	}
	if err := r.Publisher.Publish(ctx, records, settle); err != nil {
		settle(err)
	}
	select {
	case err := <-done:
		if r.toldRound(ctx, err) {
			return max(progressEvery, time.Duration(size)*time.Second/progressRate)
		}
	case <-ctx.Done():
	}
	return progressIdle
}

// toldRound reports how a round went. One that failed is not repeated: the next
// one says more.
func (r *tailRun) toldRound(ctx context.Context, err error) (ok bool) {
	p := r.progress
	if ctx.Err() != nil {
		return false
	}
	if err != nil {
		if p.failed++; r.Hooks.Retry != nil {
			r.Hooks.Retry("publish progress", p.failed, err, progressIdle)
		}
		return false
	}
	if p.large {
		p.large, p.failed = false, p.failed+1
	}
	if p.failed > 0 && r.Hooks.Recovered != nil {
		r.Hooks.Recovered("publish progress", p.failed)
	}
	p.failed = 0
	return true
}

func (r *tailRun) progressRecords(set string) (_ []Record, size int, _ error) {
	e := r.event(Txn{GTID: set}, KindProgress)
	e.Partitions = r.Publisher.Partitions()
	records := make([]Record, e.Partitions)
	for i := range records {
		e.Partition = i
		records[i] = Record{Partition: i, Data: encodeProgress(&e)}
		if n := len(records[i].Data); n > maxRecord {
			return nil, 0, fmt.Errorf("the source's GTID set has %d bytes, more than a record may have: applications cannot wait for their writes, and do not trust the cache, until it has fewer holes", n)
		}
		size += len(records[i].Data)
	}
	return records, size, nil
}
