package history

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// logCount is what Plan finds in the ranges.
type logCount struct {
	before, total         int64 // offsets: of the ranges that were looked at, and of all
	records, events, rows int64
	undecodable           int64
	whole                 int64 // invalidations of tables
	everything            int64 // among them, of all
	untimed               map[pipeline.Scope]bool
	lacks                 *lackFinder
}

// look reads one range, and a little before and behind it.
func (s *LogSource) look(ctx context.Context, r LogRange, b pipeline.Bounds, c *logCount) error {
	c.lacks.begin(s.spec.Since.IsZero())
	err := s.Log.Read(ctx, r.Partition, max(b.Start, r.From-beside), r.From, func(messages []pipeline.Message) error {
		for _, m := range messages {
			if e, err := pipeline.DecodeEvent(m.Data); err == nil {
				c.lacks.before(e)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = s.Log.Read(ctx, r.Partition, r.From, r.Until, func(messages []pipeline.Message) error {
		cost := int64(0)
		for _, m := range messages {
			cost += max(s.lookAt(m, c), int64(len(m.Data)/lookBytes))
		}
		if s.Look == nil || len(messages) == 0 {
			return nil
		}
		return s.Look(ctx, cost, float64(c.before+messages[len(messages)-1].Offset+1-r.From)/float64(c.total))
	})
	c.before += r.Until - r.From
	if err != nil || !c.lacks.open() {
		return err
	}
	err = s.Log.Read(ctx, r.Partition, r.Until, min(b.End, r.Until+beside), func(messages []pipeline.Message) error {
		for _, m := range messages {
			if e, err := pipeline.DecodeEvent(m.Data); err == nil && c.lacks.behind(e) {
				return errSeen
			}
		}
		return nil
	})
	if errors.Is(err, errSeen) {
		err = nil
	}
	return err
}

// lookBytes are as much to read as a row: more than what most have in the log.
const lookBytes = 32

// lookAt takes one record of a range, and returns how many rows it holds.
func (s *LogSource) lookAt(m pipeline.Message, c *logCount) int64 {
	c.records++
	e, err := pipeline.DecodeEvent(m.Data)
	if err != nil {
		c.undecodable++
		c.rows++
		return 1
	}
	n := changes(e)
	switch {
	case e.Kind == pipeline.KindProgress:
		c.lacks.progress(e)
	case !s.inTime(e):
		if e.CommittedAt.Before(s.spec.Since) {
			c.lacks.before(e)
		} else if e.CommittedAt.After(s.spec.Until.Add(clockSlack)) {
			c.lacks.after()
		}
	default:
		c.events++
		c.rows += n
		for _, scope := range e.Scopes {
			c.whole++
			if scope == pipeline.Everything {
				c.everything++
			}
		}
		if e.CommittedAt.IsZero() {
			c.noTime(e)
		}
		c.lacks.event(e)
	}
	return n
}

// maxUntimed bounds the tables that are kept one by one.
const maxUntimed = 1000

// noTime takes an event that was committed at no time: the tailer made it, for a
// gap or at its first start, and the binlog has nothing of it.
func (c *logCount) noTime(e *pipeline.Event) {
	if c.untimed == nil {
		c.untimed = map[pipeline.Scope]bool{}
	}
	if len(e.Scopes) == 0 || len(e.Tables)+len(e.Keys)+len(e.Patterns) > 0 || len(c.untimed) > maxUntimed {
		c.untimed[pipeline.Everything] = true
	}
	for _, s := range e.Scopes {
		c.untimed[s] = true
	}
}

// onlyHere returns what a replay of the binlog would leave out.
func (c *logCount) onlyHere() []pipeline.Scope {
	if c.undecodable > 0 || c.untimed[pipeline.Everything] || len(c.untimed) > maxUntimed {
		return []pipeline.Scope{pipeline.Everything}
	}
	return slices.SortedFunc(maps.Keys(c.untimed), func(a, b pipeline.Scope) int {
		return cmp.Or(strings.Compare(a.DB, b.DB), strings.Compare(a.Table, b.Table))
	})
}
