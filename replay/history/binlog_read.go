package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// Waits between attempts to read double from the first to the last.
const (
	firstWait = 100 * time.Millisecond
	lastWait  = 5 * time.Second
)

var (
	errBinlogEnd   = errors.New("the range of the binlog has been read")
	errBinlogStuck = errors.New("no transaction of the range came")
)

// binlogRead is one Read. Its methods are called by one goroutine at a time.
type binlogRead struct {
	*binlogSource
	ctx context.Context // of Read: what fn gets, as the stream's own ends with each connection
	fn  func(context.Context, replay.Chunk) error

	want  gtid.Set // what is replayed, if its time fits
	end   gtid.Set // reading ends when all of it was seen
	seen  gtid.Set // what was read, and what was left out at the beginning
	left  int64    // transactions of end that are not in seen; on MariaDB at most so many
	total int64    // the same at the beginning of the replay

	at    pipeline.Position // all of seen but what is in ended
	ended []string

	txn     string // the transaction that is open, or was cut off
	done    int64  // rows of it that are in chunks
	got     int64  // rows of it that came since it began to come
	seq     int    // events of it since then
	late    bool   // it was committed after Until
	whole   bool   // what is late may be before what is not
	reached bool
	xa      []string

	chunk replay.Chunk
	size  int64 // rows in it, of events

	over    error // how it ended: errBinlogEnd, or an error of fn
	moved   time.Time
	waiting *time.Timer // ends the stream once nothing has moved for long
}

// Read implements replay.Source.
func (b *binlogSource) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	r, err := b.reading(ctx, from)
	if err != nil {
		return err
	}
	r.fn = fn
	if r.left == 0 {
		return nil
	}
	if b.InOrder != nil {
		inOrder, err := b.InOrder(ctx)
		if err != nil {
			return fmt.Errorf("read the binlog of %s: %w", b.Name, err)
		}
		r.whole = !inOrder
	}
	wait, last := firstWait, error(nil)
	for {
		if err := r.check(&wait, last); err != nil {
			return err
		}
		before := r.moved
		err := r.stream()
		switch {
		case r.over == errBinlogEnd:
			return nil
		case r.over != nil:
			return r.over
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, pipeline.ErrFatal), errors.Is(err, errBinlogStuck):
			return fmt.Errorf("replay the binlog of %s: %w; %d transactions of the range have not come (%s)",
				b.Name, err, r.seen.Missing(r.end), brief(r.end.Minus(r.seen)))
		}
		if last = err; r.moved != before {
			wait = firstWait
		}
		b.Logger.Warn("reading the binlog again", "source", b.Name, "err", err, "in", wait)
		if err := r.sleep(&wait); err != nil {
			return err
		}
	}
}

// brief shortens a set for an error.
func brief(s gtid.Set) string {
	text := s.String()
	if len(text) > 200 {
		text = text[:200] + "..."
	}
	return text
}

func (b *binlogSource) reading(ctx context.Context, from replay.Cursor) (*binlogRead, error) {
	if b.spec.From == "" {
		return nil, errors.New("the range of the binlog has not been planned")
	}
	c := binlogCursor{At: b.spec.From}
	if from != "" {
		c = binlogCursor{}
		if err := json.Unmarshal([]byte(from), &c); err != nil {
			return nil, fmt.Errorf("%q is no place in a binlog's replay: %w", from, err)
		}
	}
	r := &binlogRead{binlogSource: b, ctx: ctx, at: c.At, reached: c.Reached, xa: c.XA, moved: time.Now()}
	if c.Schema == b.Schema { // to another one, other rows count
		r.txn, r.done = c.GTID, c.Rows
	}
	r.end = parsed(b.spec.Set)
	r.want = r.end.Minus(parsed(b.spec.After))
	first, err := gtid.Parse(b.named.GTIDSet(b.spec.From))
	if err != nil {
		return nil, fmt.Errorf("where the replay of the binlog begins: %w", err)
	}
	if r.seen, err = gtid.Parse(b.named.GTIDSet(c.At)); err != nil {
		return nil, fmt.Errorf("where the replay of the binlog goes on: %w", err)
	}
	r.total, r.left = first.Missing(r.end), r.seen.Missing(r.end)
	return r, nil
}

// check waits for the source to answer, and says whether it still has what comes
// next. last is why the stream ended before, nil the first time.
func (r *binlogRead) check(wait *time.Duration, last error) error {
	for {
		err := r.Source.Check(r.ctx, r.at)
		gap, isGap := errors.AsType[*pipeline.GapError](err)
		switch {
		case err == nil:
			if time.Since(r.moved) < r.Patience {
				return nil
			}
			return fmt.Errorf("replay the binlog of %s: nothing has come for %s, last because of: %w", r.Name, r.Patience, last)
		case r.ctx.Err() != nil:
			return r.ctx.Err()
		case isGap && r.named.GTIDSet(gap.Next) == r.named.GTIDSet(r.at):
			// Another server has the same history. What its predecessor committed last
			// is for the live pipeline to care about.
			r.Logger.Warn("going on with the binlog of another server", "source", r.Name, "err", err)
			r.at = gap.Next
			return nil
		case isGap:
			return fmt.Errorf("replay the binlog of %s: %w: %s", r.Name, err, elsewhere)
		case errors.Is(err, pipeline.ErrFatal):
			return fmt.Errorf("replay the binlog of %s: %w", r.Name, err)
		}
		r.Logger.Warn("the binlog's source does not answer", "source", r.Name, "err", err, "in", *wait)
		if err := r.sleep(wait); err != nil {
			return err
		}
		r.moved = time.Now() // a server that is away is waited for
	}
}

// sleep waits for a time, which it doubles.
func (r *binlogRead) sleep(wait *time.Duration) error {
	t := time.NewTimer(*wait/2 + rand.N(*wait/2))
	defer t.Stop()
	*wait = min(2**wait, lastWait)
	select {
	case <-r.ctx.Done():
		return r.ctx.Err()
	case <-t.C:
		return nil
	}
}

// stream reads from one connection until it ends, or the range does.
func (r *binlogRead) stream() error {
	ctx, cancel := context.WithCancelCause(r.ctx)
	defer cancel(nil)
	r.waiting = time.AfterFunc(r.Patience-time.Since(r.moved), func() { cancel(errBinlogStuck) })
	defer r.waiting.Stop()
	err := r.Source.Run(ctx, r.at, func(_ context.Context, b pipeline.Batch) error { return r.batch(b) })
	if cause := context.Cause(ctx); errors.Is(cause, errBinlogStuck) {
		err = fmt.Errorf("%w for %s", cause, r.Patience)
	}
	if err == nil { // not as pipeline.Source promises
		err = errors.New("the stream ended")
	}
	return r.advance(err)
}

// advance moves at over what has ended.
func (r *binlogRead) advance(err error) error {
	at, bad := r.Source.Advance(r.at, r.ended)
	if bad != nil {
		r.over = bad
		return bad
	}
	r.at, r.ended = at, r.ended[:0]
	return err
}
