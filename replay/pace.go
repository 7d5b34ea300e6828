package replay

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// Pace says how fast a replay may go, in keys per second. The rate grows by
// steps while all is well and is halved when something suffers (AIMD), so it
// settles below what Redis and the invalidators have to spare. While live
// deletes are late nothing goes at all. What is read and makes few keys waits too,
// since the source feels it: ten rows count as a key. It is used by one Run
// or Count, or between Start and its end.
type Pace struct {
	Load Load // nil: nobody is asked
	// Max bounds the rate, in keys per second; 0 is UsualMax, below 0 is no bound. What
	// is looked at says when somebody suffers, and a machine that is only busy with
	// two passes over 50,000 keys/s makes live deletes slower before that.
	Max float64
	// Min is the rate that is kept while Redis is slow, in keys per second; 0 is 200.
	Min float64
	// MaxLag is how late live deletes may be; 0 is 1 s.
	MaxLag time.Duration
	// MaxSlower is how much longer Redis may take for an answer than its floor, the
	// shortest time seen since the start; 0 is 5 ms.
	MaxSlower time.Duration
	// MaxBehind is how many keys the replay's own first pass may have before it; 0
	// is 200,000.
	MaxBehind int64
	// Every is the time between two looks; 0 is 250 ms.
	Every time.Duration

	mu      sync.Mutex
	ready   bool
	rate    float64
	tokens  float64 // keys that may go now; below 0 after a chunk
	filled  time.Time
	stopped bool
	verdict verdict
	cut     time.Time // when the rate was last halved
	limited bool      // somebody waited since the last look
	wake    chan struct{}
	waited  map[string]time.Duration

	redis latency // of the looking goroutine
}

// UsualMax is the greatest rate where nobody asks for another, in keys per second.
const UsualMax = 20_000

// The reasons for holding chunks back, as they appear in the summary.
const (
	ByLive     = "live"     // live deletes are late, or it is not known
	ByRedis    = "redis"    // Redis is slow or does not answer
	ByBacklog  = "backlog"  // the replay's own passes are behind
	ByRate     = "rate"     // Max
	ByAdapting = "adapting" // the rate grows from its start, or again after a halving
)

// rowsPerKey is how many rows are read in the time of one key: a walk of a table
// that skips nearly all of its rows goes at 200,000 rows/s with UsualMax.
const rowsPerKey = 10

const (
	firstRate = 5000 // keys/s
	rateStep  = 1000 // keys/s at each look
	cutEvery  = time.Second
	burst     = 0.25 // seconds of the rate that may be saved up
)

func (p *Pace) maxLag() time.Duration    { return cmp.Or(p.MaxLag, time.Second) }
func (p *Pace) maxSlower() time.Duration { return cmp.Or(p.MaxSlower, 5*time.Millisecond) }
func (p *Pace) maxBehind() int64         { return cmp.Or(p.MaxBehind, 200_000) }
func (p *Pace) every() time.Duration     { return cmp.Or(p.Every, 250*time.Millisecond) }

func (p *Pace) ceiling(rate float64) float64 {
	if most := cmp.Or(p.Max, UsualMax); most > 0 {
		return min(rate, most)
	}
	return rate
}

func (p *Pace) floor() float64 { return p.ceiling(cmp.Or(p.Min, 200)) }

// Wait returns when n more keys may go. The error is ctx's cause. It waits until
// the keys before were paid for, so a chunk of any size goes at once.
func (p *Pace) Wait(ctx context.Context, n int) error {
	for {
		d, by, changed, ok := p.take(n)
		if ok && ctx.Err() == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		began := time.Now()
		t := time.NewTimer(d)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-t.C:
		}
		t.Stop()
		p.mu.Lock()
		p.waited[by] += time.Since(began)
		p.mu.Unlock()
	}
}

// Start begins to look at what live traffic feels, for what reads and deletes
// nothing. It ends with ctx, or with stop, which waits for it.
func (p *Pace) Start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { p.run(ctx, func(context.Context) (Backlog, error) { return Backlog{-1, -1}, nil }) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// Rows returns when what comes behind so many rows may be read. The error is
// ctx's cause.
func (p *Pace) Rows(ctx context.Context, n int64) error { return p.read(ctx, n, 0) }

// read returns when the chunk after one of so many rows, which made so many keys,
// may be read. The error is ctx's cause.
func (p *Pace) read(ctx context.Context, rows int64, keys int) error {
	n := rows/rowsPerKey - int64(keys)
	if p == nil || n <= 0 {
		return nil
	}
	return p.Wait(ctx, int(n))
}

// take takes n keys; where it cannot, it says for how long to wait and why.
func (p *Pace) take(n int) (d time.Duration, by string, changed <-chan struct{}, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.init()
	p.refill()
	if p.ready && !p.stopped && p.tokens >= 0 {
		p.tokens -= float64(n)
		return 0, "", nil, true
	}
	if !p.ready || p.stopped {
		return time.Hour, cmp.Or(p.verdict.by, ByAdapting), p.wake, false
	}
	p.limited = true
	by = p.verdict.by
	switch {
	case by != "":
	case p.rate >= p.ceiling(p.rate+1):
		by = ByRate
	default:
		by = ByAdapting
	}
	return time.Duration(-p.tokens/p.rate*float64(time.Second)) + time.Microsecond, by, p.wake, false
}

func (p *Pace) init() {
	if p.wake != nil {
		return
	}
	p.wake = make(chan struct{})
	p.waited = make(map[string]time.Duration)
	p.rate, p.filled = p.ceiling(firstRate), time.Now()
	p.ready = p.Load == nil
}

func (p *Pace) refill() {
	now := time.Now()
	p.tokens = min(p.tokens+now.Sub(p.filled).Seconds()*p.rate, burst*p.rate)
	p.filled = now
}

// adapt changes the rate by what was found.
func (p *Pace) adapt(v verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.init()
	p.refill()
	now := time.Now()
	switch {
	case v.stop && p.stopped: // it was halved when it stopped
	case v.stop, v.slow && now.Sub(p.cut) >= cutEvery:
		p.rate, p.cut = max(p.rate/2, p.floor()), now
	case v.slow:
	case p.limited:
		p.rate = p.ceiling(p.rate + rateStep)
	}
	p.ready, p.stopped, p.verdict, p.limited = true, v.stop, v, false
	close(p.wake)
	p.wake = make(chan struct{})
}

// PaceView is a Pace at one moment.
type PaceView struct {
	Rate    float64 // allowed, in keys per second
	Stopped bool    // nothing goes
	Reason  string  // why it is stopped or slowed down, for people; or ""
}

// View returns what holds chunks back now. It may be called at any time from any
// goroutine.
func (p *Pace) View() PaceView {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.init()
	v := PaceView{Rate: p.rate, Stopped: p.stopped || !p.ready, Reason: p.verdict.reason}
	if !p.ready {
		v.Reason = "measuring how fast Redis answers"
	}
	return v
}

// Waited returns for how long Wait has waited, by reason.
func (p *Pace) Waited() map[string]time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[string]time.Duration, len(p.waited))
	for by, d := range p.waited {
		all[by] = d
	}
	return all
}
