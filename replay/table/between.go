package table

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/replay"
)

// between is a walk, and then the binlog of its time. It takes what the source
// shows before the first chunk (low), and what it has written after the last
// (high); what is in high and not in low was committed while the walk went on.
//
// Netflix's DBLog takes such marks around each chunk, to tell rows that it must
// leave out of the chunk, since a newer change of them is in the log: its output
// is rows in their order. Deletes commute and repeat without harm. So nothing has
// to be left out, and the union of all windows does what each of them would
// (docs/decisions/replay-table.md).
type between struct {
	deps  Deps
	first replay.Source
}

// betweenCursor is what its replay.Cursor holds. High is empty during the walk.
type betweenCursor struct {
	Low    string        `json:"low"`
	Walk   replay.Cursor `json:"walk,omitempty"`
	High   string        `json:"high,omitempty"`
	Binlog replay.Cursor `json:"binlog,omitempty"`
}

// walked is the share of the first phase, as far as anybody can know.
const walked = 0.95

// Plan implements replay.Source.
func (b *between) Plan(ctx context.Context) (replay.Plan, error) { return b.first.Plan(ctx) }

// Read implements replay.Source.
func (b *between) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	var at betweenCursor
	if from != "" {
		if err := json.Unmarshal([]byte(from), &at); err != nil {
			return fmt.Errorf("go on with a walk from %q: %w", from, err)
		}
	} else {
		view, err := b.deps.view(ctx)
		if err != nil {
			return err
		}
		at.Low = view.Shown.String()
	}
	if at.High == "" {
		err := b.first.Read(ctx, at.Walk, func(ctx context.Context, c replay.Chunk) error {
			at.Walk = c.Next
			if c.Done > 0 {
				c.Done *= walked
			}
			return pass(ctx, at, c, fn)
		})
		if err != nil {
			return err
		}
		high, err := b.deps.written(ctx)
		if err != nil {
			return err
		}
		at.High = high.String()
	}
	if some, err := more(at.Low, at.High); err != nil || !some {
		return err
	}
	src, err := b.deps.Binlog(at.Low, at.High)
	if err == nil {
		_, err = src.Plan(ctx)
	}
	if err != nil {
		return fmt.Errorf("read the binlog of the time of the walk, %s to %s: %w", at.Low, at.High, err)
	}
	return src.Read(ctx, at.Binlog, func(ctx context.Context, c replay.Chunk) error {
		at.Binlog = c.Next
		if c.Done >= 0 {
			c.Done = walked + c.Done*(1-walked)
		}
		return pass(ctx, at, c, fn)
	})
}

func pass(ctx context.Context, at betweenCursor, c replay.Chunk, fn func(context.Context, replay.Chunk) error) error {
	next, err := json.Marshal(at)
	if err != nil {
		return err
	}
	c.Next = replay.Cursor(next)
	return fn(ctx, c)
}

// more says whether high has a transaction that low has not.
func more(low, high string) (bool, error) {
	l, err := gtid.Parse(low)
	if err != nil {
		return false, err
	}
	h, err := gtid.Parse(high)
	return !l.HasAll(h), err
}
