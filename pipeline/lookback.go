package pipeline

import (
	"context"
	"errors"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// What follows reads the log backwards, for what a reader lacks.

// lookBack is how many records of the log are compared with what a reader shows
// when a partition first sees it. What was restored lacks the newest of them.
const lookBack = 512

// lacksOld says that a reader, when it was first seen, lacked something that it
// must have shown before, or else the second pass would not be where it was: it
// was restored while nobody looked. It says no until the source has answered.
func (w *worker) lacksOld(ctx context.Context, st *standing) (lacks bool, err error) {
	source, _, ok := w.Readers.sourceAfter(st.firstAt)
	if !ok && w.Readers.Source != nil {
		return false, nil
	}
	msgs, err := w.readBack(ctx, st.oldEnd)
	if err != nil {
		return false, err
	}
	first := *st.first
	st.first = nil
	lacksOf := func(need gtid.Set) bool {
		if w.Readers.Source != nil {
			need = need.Intersect(source) // the rest is lost, and was not waited for
		}
		return !first.HasAll(need)
	}
	pl := newPlanner(w.Schema, w.lanes, nil)
	oldest, events := gtid.Set{}, 0
	for i := range msgs {
		p := pl.plan(w.p.Name(), msgs[i:i+1])
		switch {
		case p.progress != nil:
			if oldest.Empty() {
				oldest, _ = gtid.Parse(p.progress.gtids)
			}
		case len(p.keys)+len(p.patterns) == 0: // was not waited for
		case lacksOf(p.need):
			return true, nil
		default:
			events++
		}
	}
	// Nothing was changed for long. The progress of that time is not waited for,
	// but who lacks the oldest of it may lack all that was changed before.
	return events == 0 && len(msgs) > 0 && msgs[0].Offset > 0 && lacksOf(oldest), nil
}

// readBack returns the records before an offset, lookBack at most, as far as the
// log has them.
func (w *worker) readBack(ctx context.Context, end int64) (msgs []Message, err error) {
	for at := max(end-lookBack, 0); at < end; {
		f, err := w.read(ctx, at)
		if lost, ok := errors.AsType[*LogGapError](err); ok && lost.Start > at {
			at = lost.Start
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, m := range f.Messages {
			if m.Offset < end {
				msgs = append(msgs, m)
			}
		}
		if f.Next <= at {
			break
		}
		at = f.Next
	}
	return msgs, nil
}

// owedTo returns from where second deletes are owed to a reader, or that the log
// no longer holds all of them.
func (w *worker) owedTo(ctx context.Context, st *standing) (from int64, everything bool, err error) {
	switch {
	case st.from != owesAll:
		return st.from, false, nil
	case st.has == nil:
		return 0, true, nil
	case w.Readers.Source != nil && st.has.HasAll(*st.goal), w.showsPast(*st.has):
		return st.below, false, nil // it had all that was below
	}
	for back := int64(512); ; back *= 8 {
		at := max(st.below-back, 0)
		f, err := w.read(ctx, at)
		lost, oldest := errors.AsType[*LogGapError](err)
		switch {
		case oldest && lost.Start >= st.below:
			return 0, true, nil // nothing of it is left, and a read would wait for more
		case oldest:
			if f, err = w.read(ctx, lost.Start); err != nil {
				return 0, false, err
			}
		case err != nil:
			return 0, false, err
		}
		from, ok := knownFrom(f.Messages, *st.has)
		switch {
		case ok:
			return from, false, nil
		case oldest:
			return 0, true, nil
		case at == 0:
			return 0, false, nil
		}
	}
}

// knownFrom returns an offset before which the log has nothing that a reader
// lacks which has a set, or that comes again behind the offset.
//
// The set of a progress record is a beginning of the source's history. Of an
// event in it, everything that comes before it in the history is in it too. What
// stands before the event in the log, and comes after it in the history, was
// published by a tailer that stopped: the one that published the event went on
// from there, and publishes all of it again. The progress record by itself proves
// nothing: events that it does not cover may stand before it.
func knownFrom(msgs []Message, has gtid.Set) (from int64, ok bool) {
	var known gtid.Set
	events := make([]*Event, len(msgs))
	for i, m := range msgs {
		e, err := DecodeEvent(m.Data)
		if err != nil {
			continue
		}
		events[i] = e
		if e.Kind != KindProgress {
			continue
		}
		if set, err := gtid.Parse(e.GTID); err == nil && has.HasAll(set) {
			known.Union(set)
		}
	}
	for i, e := range events {
		if e != nil && e.Kind != KindProgress && known.Has(e.GTID) {
			return msgs[i].Offset, true
		}
	}
	return 0, false
}
