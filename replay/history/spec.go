package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// AllPartitions in a LogRange stands for each partition that the log has.
const AllPartitions = -1

// LogRange is a range of offsets of one partition, [From, Until).
type LogRange struct {
	Partition int   `json:"partition"`
	From      int64 `json:"from"`  // negative: the oldest there is
	Until     int64 `json:"until"` // negative: the end as it is when Plan is called
}

// LogSpec says which records of the log are replayed. The zero LogSpec stands for
// all that the log still has. It is also what a Plan fixes.
type LogSpec struct {
	// Ranges are the offsets, one range for a partition at most; none stands for
	// all, or all that Since and Until leave.
	Ranges []LogRange `json:"ranges,omitempty"`
	// Since and Until are the first and the last commit time, by the source's clock;
	// zero is no bound. An event without a commit time is replayed in any case.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// noLetters is the Count of a DeadSpec of none.
const noLetters = -1

// DeadSpec says which dead letters are replayed. The zero DeadSpec stands for all
// that there are when Plan is called. It is also what a Plan fixes.
type DeadSpec struct {
	Skip  int64 `json:"skip,omitempty"`  // so many of the oldest are left out
	Count int64 `json:"count,omitempty"` // so many are replayed; 0: all there are behind Skip; -1: none
	// Tables are invalidated where a letter still cannot be decoded; none stands for
	// everything.
	Tables []pipeline.Scope `json:"tables,omitempty"`
}

// LogDeps are what a replay of the log, or of its dead letters, stands on.
type LogDeps struct {
	Log    replay.Log
	Schema *keys.Schema // today's
	// Old is the schema before, where its keys are deleted as well: events of its
	// tables are kept, and it is known what was published under it. May be nil.
	Old  *keys.Schema
	Name string // the source's name in events that are made here
	// GTIDs, if not nil, returns the transactions that the source may show now, and
	// blocks until it says: second deletes for what names no transaction wait until
	// every server that fills read from shows these. Without it they come after the
	// fixed delay.
	GTIDs func(context.Context) (string, error)
	// Look, if not nil, is called while Plan reads a range of the log: so many rows,
	// or what costs as much to read, were looked at since the last call, and done is
	// the share of the range, from 0 to 1. It may wait, to give way to others; its
	// error ends the Plan.
	Look func(ctx context.Context, rows int64, done float64) error
}

func (d LogDeps) check() error {
	if d.Log == nil || d.Schema == nil {
		return errors.New("a replay of the log needs a log and a key schema")
	}
	return nil
}

// invalidation is an event in place of records that cannot be decoded.
func (d LogDeps) invalidation(scopes []pipeline.Scope, reason string) pipeline.Event {
	return pipeline.Event{
		Version: pipeline.Version, Kind: pipeline.KindInvalidate, Source: d.Name, Schema: d.Schema.Hash(), Scopes: scopes, Reason: reason,
	}
}

// shownBy gives events that name no transaction all that the source may show, of
// which theirs are: they were committed before the replay began. The source is
// asked once for all of them.
type shownBy struct{ all string }

func (s *shownBy) name(ctx context.Context, d LogDeps, events []pipeline.Event) (err error) {
	for i := range events {
		if events[i].GTID != "" || d.GTIDs == nil {
			continue
		}
		if s.all == "" {
			if s.all, err = d.GTIDs(ctx); err != nil {
				return fmt.Errorf("ask the source for its transactions: %w", err)
			}
		}
		events[i].GTID = s.all
	}
	return nil
}

// trim leaves out what no rule is about; ok is false where nothing is left.
func (d LogDeps) trim(e *pipeline.Event) (ok bool) {
	tables := e.Tables[:0]
	for _, t := range e.Tables {
		if d.Schema.Table(t.DB, t.Table) != nil || d.Old != nil && d.Old.Table(t.DB, t.Table) != nil {
			tables = append(tables, t)
		}
	}
	scopes := e.Scopes[:0]
	for _, s := range e.Scopes {
		if len(d.Schema.Scope(s.DB, s.Table)) > 0 || d.Old != nil && len(d.Old.Scope(s.DB, s.Table)) > 0 {
			scopes = append(scopes, s)
		}
	}
	e.Tables, e.Scopes = tables, scopes
	if e.Kind == pipeline.KindInvalidate && len(scopes) == 0 && len(tables) > 0 {
		e.Kind = pipeline.KindChanges
	}
	return len(tables)+len(scopes)+len(e.Keys)+len(e.Patterns) > 0
}

// changes counts what an event is about, for progress and summary.
func changes(e *pipeline.Event) (n int64) {
	for _, t := range e.Tables {
		n += int64(len(t.Rows))
	}
	return max(n, 1)
}

// instead says what covers records that the log no longer has.
const instead = "replay the binlog of that time if the source still has it (replay binlog), or invalidate the tables concerned as a whole (replay table -whole)"

// explainGap says what to do about records that are gone.
func explainGap(partition int, err error) error {
	if gap, ok := errors.AsType[*pipeline.LogGapError](err); ok {
		return fmt.Errorf("partition %d of the log no longer holds offset %d, only what begins at %d; for what is gone, %s: %w", partition, gap.From, gap.Start, instead, err)
	}
	return err
}

func toCursor(v any) replay.Cursor {
	b, err := json.Marshal(v)
	if err != nil { // texts and numbers only: cannot fail
		panic(err)
	}
	return replay.Cursor(b)
}

func fromCursor(c replay.Cursor, v any) error {
	if c == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(c), v); err != nil {
		return fmt.Errorf("the cursor %q is not of this source: %w", c, err)
	}
	return nil
}

// count writes a number of things for people.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
