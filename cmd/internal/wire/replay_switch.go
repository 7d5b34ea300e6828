package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/history"
)

// switched plans a replay of the log anew where its events lack what today's
// schema needs: from the binlog of the same time, which has all columns, or, where
// that is gone, from the log, with the tables as a whole that are not in it. ok is
// false where the log is right as it is.
func (r *replaying) switched(ctx context.Context, log *history.LogSource, p replay.Plan) (plan replay.Plan, kind string, spec any, ok bool, err error) {
	lacks := log.Lacks()
	if len(lacks) == 0 || r.args.NoSwitch {
		return p, "", nil, false, nil
	}
	since, until := r.args.since.Time, r.args.logSpec().Until
	if since.IsZero() {
		if since, until, err = r.times(ctx, p.Fixed); err != nil {
			return p, "", nil, false, err
		}
	}
	why := fmt.Sprintf("The log lacks what the key schema needs today (%s, and %d more).", lacks[0].String(), len(lacks)-1)
	if len(lacks) == 1 {
		why = fmt.Sprintf("The log lacks what the key schema needs today: %s", lacks[0].String())
	}
	if reaches, err := r.binlogReaches(ctx, since); err == nil && reaches {
		b := history.BinlogSpec{Since: since, Until: until}
		plan, _, err = r.planned(ctx, kindBinlog, b)
		if err == nil {
			plan.Warnings = append([]string{why + " So the binlog of the same time is read instead; -no-switch keeps to the log."}, plan.Warnings...)
			if len(log.Only()) == 0 {
				return plan, kindBinlog, b, true, nil
			}
			plan.Warnings = append(plan.Warnings, "The log's range holds records that cannot be decoded, or invalidations that are in no binlog: all keys of "+
				scopesText(log.Only())+" are deleted once at the end.")
			return alsoPlan(plan, alsoSpec{Kind: kindBinlog, Log: plan.Fixed, Scopes: log.Only(), Reason: "the log's range invalidates this, and the binlog does not hold why"})
		}
		if ctx.Err() != nil {
			return p, "", nil, false, err
		}
		why += fmt.Sprintf(" The binlog cannot be read instead (%v).", err)
	} else {
		why += " The source no longer has the binlog of that time."
	}
	s := alsoSpec{Log: p.Fixed, Reason: "the log does not have what happened to these tables"}
	for _, l := range lacks {
		if len(l.Columns) == 0 {
			s.Scopes = append(s.Scopes, pipeline.Scope{DB: l.DB, Table: l.Table})
		}
	}
	why += " So every key of the rules concerned is deleted."
	p.Warnings = append([]string{why}, p.Warnings...)
	return alsoPlan(p, s)
}

// alsoPlan makes the plan of a source one of tables as a whole, too.
func alsoPlan(p replay.Plan, s alsoSpec) (plan replay.Plan, kind string, spec any, ok bool, err error) {
	if p.Fixed, err = json.Marshal(s); err != nil {
		return p, "", nil, false, fmt.Errorf("keep what is to be replayed: %w", err)
	}
	return p, kindAlso, s, true, nil
}

// scopesText names some tables.
func scopesText(scopes []pipeline.Scope) string {
	if slices.Contains(scopes, pipeline.Everything) {
		return "every table"
	}
	const few = 5
	var names []string
	for _, s := range scopes[:min(few, len(scopes))] {
		names = append(names, s.DB+"."+s.Table)
	}
	if more := len(scopes) - few; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// binlogReaches says whether the source has the binlog since a time.
func (r *replaying) binlogReaches(ctx context.Context, since time.Time) (bool, error) {
	cfg, srv, err := r.sources.binlogConfig(ctx)
	if err != nil || since.IsZero() {
		return false, err
	}
	_, begun, err := binlog.Since(ctx, cfg, srv, since)
	return err == nil && !begun.After(since), err
}

// times returns the first and the last commit time in a range of offsets.
func (r *replaying) times(ctx context.Context, fixed json.RawMessage) (first, last time.Time, err error) {
	var spec history.LogSpec
	if err := json.Unmarshal(fixed, &spec); err != nil {
		return first, last, fmt.Errorf("read what is to be replayed: %w", err)
	}
	log, err := r.sources.liveLog(ctx)
	if err != nil {
		return first, last, err
	}
	for _, one := range spec.Ranges {
		err := log.Read(ctx, one.Partition, one.From, one.Until, func(messages []pipeline.Message) error {
			for _, m := range messages {
				e, err := pipeline.DecodeEvent(m.Data)
				if err != nil || e.CommittedAt.IsZero() {
					continue
				}
				if first.IsZero() || e.CommittedAt.Before(first) {
					first = e.CommittedAt
				}
				if e.CommittedAt.After(last) {
					last = e.CommittedAt
				}
			}
			return r.sources.looked(ctx, messages)
		})
		if err != nil {
			return first, last, err
		}
	}
	return first, last, nil
}

// kindAlso is a replay of the log, or of the binlog in its place, and of tables as
// a whole.
const kindAlso = "log and tables"

// alsoSpec says which.
type alsoSpec struct {
	Kind   string           `json:"kind,omitempty"` // of what Log is; "" is kindLog
	Log    json.RawMessage  `json:"log"`
	Scopes []pipeline.Scope `json:"scopes,omitempty"`
	Reason string           `json:"reason,omitempty"`
}

// also is a Source: the log or the binlog, and then tables as a whole.
type also struct {
	replay.Source
	event  pipeline.Event
	scopes []pipeline.Scope
	gtids  func(context.Context) (string, error)
}

// alsoDone is the cursor behind the tables.
const alsoDone = "done"

// Plan implements replay.Source; it was planned by another.
func (a *also) Plan(context.Context) (replay.Plan, error) {
	return replay.Plan{}, errors.New("a replay of the log and of tables is planned as one of the log")
}

// Read implements replay.Source.
func (a *also) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	if from == alsoDone {
		return nil
	}
	if err := a.Source.Read(ctx, from, fn); err != nil || len(a.scopes) == 0 {
		return err
	}
	e := a.event
	e.Scopes = a.scopes
	var err error
	if e.GTID, err = a.gtids(ctx); err != nil {
		return fmt.Errorf("ask the source for its transactions: %w", err)
	}
	return fn(ctx, replay.Chunk{Events: []pipeline.Event{e}, Rows: 1, Next: alsoDone, Done: 1})
}

func (s *sources) openAlso(ctx context.Context, spec alsoSpec) (replay.Source, error) {
	source, err := s.open(ctx, cmp.Or(spec.Kind, kindLog), spec.Log)
	if err != nil {
		return nil, err
	}
	return &also{Source: source, scopes: spec.Scopes, gtids: s.askGTIDs(), event: pipeline.Event{
		Version: pipeline.Version, Kind: pipeline.KindInvalidate, Source: s.app.Config.Source.Name, Schema: s.app.Schema.Hash(),
		Reason: "replay: " + spec.Reason,
	}}, nil
}

// askGTIDs is gtids that asks until the source answers.
func (s *sources) askGTIDs() func(context.Context) (string, error) {
	ask := s.gtids()
	return func(ctx context.Context) (set string, err error) {
		err = pipeline.Retry(ctx, &s.app.Hooks, "ask the source for its transactions", func(ctx context.Context) error {
			set, err = ask(ctx)
			return err
		})
		return set, err
	}
}
