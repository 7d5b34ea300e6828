package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"
)

// A live event may be published with another key schema than the invalidator's:
// what the tailer named is judged by its columns. A replayed one is another matter:
// somebody wants the keys deleted that one schema makes, Event.KeysBy, and is told
// when they are. An invalidator with another schema cannot do that with certainty.
// It holds such records back at first, since a roll-out may be under way, after
// which another process owns the partition. Then it takes them like any record that
// cannot be turned into keys (I8): its own keys of the tables are deleted, and the
// record is kept, to be replayed again.

// holdOthers is Invalidator.HoldOthers where that is 0.
const holdOthers = time.Minute

// OtherSchemaInfo tells of replayed records that are for another key schema.
type OtherSchemaInfo struct {
	Partition string
	Schema    string        // the hash of the one by which their keys are to be made
	Held      bool          // they are held back now; else no longer
	For       time.Duration // at most
}

// doubt says why an event cannot be turned into keys by the schema with a hash, ""
// where it can. Keys that come as such need no schema.
func (e *Event) doubt(hash string) string {
	if e.KeysBy == "" || e.KeysBy == hash || len(e.Tables)+len(e.Scopes) == 0 {
		return ""
	}
	return fmt.Sprintf("made for another key schema: its keys are those of %s, and this invalidator has %s", e.KeysBy, hash)
}

// others remembers until when records for other schemas are held back, for all
// partitions together: one that comes and goes is not held back longer than another.
type others struct {
	mu  sync.Mutex
	met map[string]met // by hash
}

type met struct{ last, until time.Time }

// maxMet bounds the schemas that are remembered.
const maxMet = 64

// until says until when records for a schema are held back. The time begins anew
// once none came for as long.
func (o *others) until(hash string, hold time.Duration) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.met) >= maxMet {
		clear(o.met)
	}
	if o.met == nil {
		o.met = map[string]met{}
	}
	now := time.Now()
	m, ok := o.met[hash]
	if !ok || now.Sub(m.last) > hold && now.Sub(m.until) > hold {
		m.until = now.Add(hold)
	}
	m.last = now
	o.met[hash] = m
	return m.until
}

// ours cuts a fetch before the first record that is for another schema and is held
// back still, so that what comes before it is handled; where it is the first record,
// ours waits. Where the second pass reads what another process has handled by that
// schema, nobody has told of it yet, so that is done here.
func (w *worker) ours(ctx context.Context, from int64, f Fetch) (Fetch, error) {
	if !w.Replays {
		return f, nil
	}
	second := from < w.backlog.first()
	for i, m := range f.Messages {
		e, doubt := w.other(m.Data)
		if doubt == "" || second && (m.Offset >= w.taken || w.again.skips(m.Offset, e.GTID)) {
			continue
		}
		if until := w.heldUntil(e); time.Now().Before(until) {
			if i > 0 {
				f.Messages, f.Next = f.Messages[:i], m.Offset
				return f, nil
			}
			if err := w.holdBack(ctx, e.KeysBy, until); err != nil {
				return f, err
			}
		}
		if second {
			pl, p := newPlanner(w.Schema, w.lanes, nil), &plan{}
			pl.tables(p, e, doubt)
			pl.letter(p, w.p.Name(), m, doubt)
			if err := w.report(ctx, p); err != nil {
				return f, err
			}
		}
	}
	return f, nil
}

// other returns a record's event, and why it may be for another schema; "" where it
// is not. One that cannot be decoded is of a newer release, and comes as an empty
// event. A record of a replay has the hash near its beginning, so that most are not
// decoded for it.
func (w *worker) other(data []byte) (e *Event, doubt string) {
	if bytes.Contains(data, w.keysBy) {
		return nil, ""
	}
	e, err := DecodeEvent(data)
	if err != nil {
		return &Event{}, err.Error()
	}
	return e, e.doubt(w.Schema.Hash())
}

// keysByField is how a record says by which schema its keys are to be made. A text
// in the record cannot look like it: its quotes are escaped there.
func keysByField(hash string) []byte { return fmt.Appendf(nil, `"keys_by":%q`, hash) }

func (w *worker) holdBack(ctx context.Context, hash string, until time.Time) error {
	info := OtherSchemaInfo{Partition: w.p.Name(), Schema: hash, Held: true, For: time.Until(until)}
	if w.Hooks.OtherSchema != nil {
		w.Hooks.OtherSchema(info)
		info.Held, info.For = false, 0
		defer w.Hooks.OtherSchema(info)
	}
	return sleep(ctx, time.Until(until))
}

// heldUntil says until when an event for another schema is held back. One that
// cannot be decoded is not: who would understand it is not known.
func (inv *Invalidator) heldUntil(e *Event) (t time.Time) {
	if e.KeysBy == "" {
		return t
	}
	return inv.others.until(e.KeysBy, cmp.Or(inv.HoldOthers, holdOthers))
}
