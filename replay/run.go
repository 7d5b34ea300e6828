package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Run is one process's work on a replay, from where State is to its end.
type Run struct {
	Source Source // opened from the State's Job.Fixed; not used where the State's phase is not Reading
	Target Target
	State  *State
	Schema *keys.Schema // the invalidators'
	// Old, if not nil, is the schema before: keys that it makes and Schema does not
	// are deleted as well.
	Old *keys.Schema
	// SweepOld names the tables of a Source that has only today's values of rows (a
	// table, a list of primary keys; not the log or the binlog). Old keys of values
	// that are gone cannot be told from them, so at the end everything that rules of
	// Old about these tables made is swept, but for rules that Schema has too.
	SweepOld []pipeline.Scope
	Pace     *Pace // nil: as fast as it goes
	// Progress, if not nil, is called about twice a second and at the end, by one
	// goroutine at a time.
	Progress func(Progress)
	// ChunkDone, if not nil, is called when a chunk was published and stored.
	ChunkDone func(Chunk)
	// ReadDone, if not nil, is called once when everything was published and stored,
	// before the passes are waited for: nothing is read from Source any more.
	ReadDone func()
	// Drained, if not nil, is called once when both passes have handled everything,
	// before DeadLetters is asked for the last time.
	Drained func(context.Context)
	// DeadLetters, if not nil, returns how many dead letters this replay has made
	// in this process.
	DeadLetters func() int64
	// Hooks tells of retries (Retry, Recovered).
	Hooks pipeline.Hooks

	today *keyer
	old   *oldKeys
	had   Counts // when this process began
	began time.Time
	meter meter
}

// ErrStopped says that a replay stopped at a safe point because its context
// ended. It goes on from there when it is resumed.
var ErrStopped = errors.New("the replay was stopped; it can be resumed")

// Do replays until everything was published and handled by both passes. Where
// ctx ends first, it finishes the chunk that is being published, and returns an
// error that wraps ErrStopped; a chunk that takes longer than 10 s is then left,
// to be done again. It is called once. The Summary is of all processes that had
// a part in the replay, and there also with an error.
func (r *Run) Do(ctx context.Context) (Summary, error) {
	if r.State.Phase() == Done {
		return r.summary(nil), nil
	}
	r.began, r.had = time.Now(), r.State.Counts()
	r.today = newKeyer(r.Schema)
	if r.Old != nil {
		r.old = newOldKeys(r.Old, r.Schema, len(r.SweepOld) > 0)
	}
	err := r.begin()
	if err == nil {
		err = r.observed(ctx)
	}
	r.report()
	return r.summary(err), err
}

// begin notes that a process is at work. One that was noted before has not said
// that it ended.
func (r *Run) begin() error {
	s := r.State
	if s.Open && s.stored.Phase == Reading {
		s.stored.Counts.Redone++
		r.had.Redone++
	}
	s.Open = true
	return s.store()
}

// observed runs the phases with all that goes on beside them.
func (r *Run) observed(ctx context.Context) error {
	beside, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	r.meter.start(r.State)
	if r.Pace != nil {
		wg.Go(func() { r.Pace.run(beside, r.behind) })
	}
	if r.Progress != nil {
		wg.Go(func() {
			for sleep(beside, reportEvery) == nil {
				r.report()
			}
		})
	}
	return r.phases(ctx)
}

func (r *Run) phases(ctx context.Context) error {
	s := r.State
	if s.stored.Phase == Reading {
		if err := r.read(ctx); err != nil {
			return err
		}
		s.stored.Phase = Draining
		if err := r.store(); err != nil {
			return err
		}
		r.meter.enter(Draining)
		if r.ReadDone != nil {
			r.ReadDone()
		}
	}
	if err := r.drain(ctx); err != nil {
		return errors.Join(err, r.leave())
	}
	if r.Drained != nil {
		r.Drained(ctx)
	}
	s.stored.Phase, s.Open = Done, false
	r.meter.enter(Done)
	return r.store()
}

// leave notes that the process ends with nothing in hand.
func (r *Run) leave() error {
	r.State.Open = false
	return r.store()
}

func (r *Run) store() error {
	r.count()
	return r.State.store()
}

// count brings what is measured in this process into the stored counts.
func (r *Run) count() {
	c := &r.State.stored.Counts
	c.Seconds = r.had.Seconds + time.Since(r.began).Seconds()
	if t, ok := r.Target.(interface{ Sent() (records, bytes int64) }); ok {
		records, bytes := t.Sent()
		c.Records, c.Bytes = r.had.Records+records, r.had.Bytes+bytes
	}
	if r.Pace != nil {
		c.Paced = maps.Clone(r.had.Paced)
		for by, d := range r.Pace.Waited() {
			if c.Paced == nil {
				c.Paced = make(map[string]float64)
			}
			c.Paced[by] += d.Seconds()
		}
	}
	if r.DeadLetters != nil {
		c.DeadLetters = r.had.DeadLetters + r.DeadLetters()
	}
}

// drainEvery is the time between two questions for the backlog.
const drainEvery = 250 * time.Millisecond

// drain waits until both passes have handled everything.
func (r *Run) drain(ctx context.Context) error {
	for {
		b, err := r.askBacklog(ctx)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("wait for the passes: %w", ErrStopped)
		case err != nil:
			return fmt.Errorf("wait for the passes: %w", err)
		case b.First <= 0 && b.Second <= 0:
			return nil
		}
		_ = sleep(ctx, drainEvery) // the next question finds out
	}
}

func (r *Run) askBacklog(ctx context.Context) (b Backlog, err error) {
	err = pipeline.Retry(ctx, &r.Hooks, "ask how far the passes are", func(ctx context.Context) (err error) {
		b, err = r.Target.Backlog(ctx)
		return err
	})
	r.meter.backlog(b)
	return b, err
}

// behind estimates how many keys the passes have before them, from how many there
// were in a record so far.
func (r *Run) behind(ctx context.Context) (Backlog, error) {
	b, err := r.Target.Backlog(ctx)
	if err != nil {
		return b, err
	}
	r.meter.backlog(b)
	per := 1.0
	if t, ok := r.Target.(interface{ Sent() (records, bytes int64) }); ok {
		if records, _ := t.Sent(); records > 0 {
			per = max(per, float64(r.meter.published())/float64(records))
		}
	}
	return Backlog{First: int64(float64(b.First) * per), Second: int64(float64(b.Second) * per)}, nil
}
