package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

const (
	// clockSlack is how much the log's clock may be behind the source's: records are
	// looked for from so much before a time on.
	clockSlack = time.Minute
	// beside is how many records before and behind a range are looked at for how
	// far the tailer was.
	beside = 2000
)

// Plan implements replay.Source. It fixes the offsets, and reads the range once,
// to count and to find what its events lack.
func (s *LogSource) Plan(ctx context.Context) (replay.Plan, error) {
	bounds, err := s.Log.Bounds(ctx)
	if err != nil {
		return replay.Plan{}, fmt.Errorf("look at the log: %w", err)
	}
	if err := s.fix(ctx, bounds); err != nil {
		return replay.Plan{}, err
	}
	c := logCount{lacks: newLackFinder(s.LogDeps)}
	for _, r := range s.spec.Ranges {
		c.total += r.Until - r.From
	}
	for _, r := range s.spec.Ranges {
		if err := s.look(ctx, r, bounds[r.Partition], &c); err != nil {
			return replay.Plan{}, explainGap(r.Partition, err)
		}
	}
	s.lacks, s.only = c.lacks.found(), c.onlyHere()
	p := replay.Plan{Rows: c.rows, What: s.describe(&c), Warnings: c.warnings()}
	for _, l := range s.lacks {
		p.Warnings = append(p.Warnings, l.String())
	}
	p.Fixed, err = json.Marshal(s.spec)
	return p, err
}

// fix makes the ranges absolute.
func (s *LogSource) fix(ctx context.Context, bounds []pipeline.Bounds) error {
	ranges := s.spec.Ranges
	if len(ranges) == 0 {
		ranges = []LogRange{{Partition: AllPartitions, From: -1, Until: -1}}
	}
	if ranges[0].Partition == AllPartitions {
		all := ranges[0]
		ranges = nil
		for p, b := range bounds { // not all of them reach as far
			one := LogRange{p, min(all.From, b.End), min(all.Until, b.End)}
			ranges = append(ranges, one)
		}
	} else {
		ranges = slices.Clone(ranges)
	}
	for i := range ranges {
		r := &ranges[i]
		if r.Partition >= len(bounds) {
			return fmt.Errorf("the log has %s, so there is no partition %d", count(int64(len(bounds)), "partition", "partitions, counted from 0"), r.Partition)
		}
		if err := s.fixOne(ctx, r, bounds[r.Partition]); err != nil {
			return err
		}
	}
	s.spec.Ranges = ranges
	return nil
}

func (s *LogSource) fixOne(ctx context.Context, r *LogRange, b pipeline.Bounds) error {
	byTime := r.From < 0 && !s.spec.Since.IsZero()
	if r.From < 0 {
		r.From = b.Start
	}
	if r.Until < 0 {
		r.Until = max(b.End, r.From)
	}
	switch {
	case r.From < b.Start:
		return explainGap(r.Partition, &pipeline.LogGapError{From: r.From, Start: b.Start})
	case r.From > b.End:
		return fmt.Errorf("partition %d of the log ends at offset %d, before the range begins, at %d", r.Partition, b.End, r.From)
	case r.Until > b.End:
		return fmt.Errorf("partition %d of the log ends at offset %d, before the end of the range, %d: leave the end out to mean the end of the log", r.Partition, b.End, r.Until)
	case !byTime:
		return nil
	}
	// The end of a time is not looked for: how late the tailer was, nobody knows.
	at, err := s.Log.OffsetAt(ctx, r.Partition, s.spec.Since.Add(-clockSlack))
	if err != nil {
		return fmt.Errorf("look for the time in the log: %w", err)
	}
	r.From = min(max(at, b.Start), r.Until)
	if r.From > b.Start {
		// An event of the time before where the clocks say that it begins: they do not
		// agree, and nothing can be left out.
		err := s.Log.Read(ctx, r.Partition, max(b.Start, r.From-beside), r.From, func(messages []pipeline.Message) error {
			for _, m := range messages {
				if e, err := pipeline.DecodeEvent(m.Data); err == nil && !e.CommittedAt.IsZero() && s.inTime(e) {
					return errSeen
				}
			}
			return nil
		})
		if !errors.Is(err, errSeen) {
			return explainGap(r.Partition, err)
		}
		r.From = b.Start
	}
	if b.Start == 0 {
		return nil
	}
	return s.checkStart(ctx, r, b)
}

// errSeen ends a reading that has found what it looked for.
var errSeen = errors.New("seen")

// checkStart says whether records of the time range may have been removed. What
// was removed was published before what is there; so nothing was where the first
// event that is there was committed before the range.
func (s *LogSource) checkStart(ctx context.Context, r *LogRange, b pipeline.Bounds) error {
	var first time.Time
	err := s.Log.Read(ctx, r.Partition, b.Start, b.End, func(messages []pipeline.Message) error {
		for _, m := range messages {
			if e, err := pipeline.DecodeEvent(m.Data); err == nil && !e.CommittedAt.IsZero() {
				first = e.CommittedAt
				return errSeen
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errSeen) {
		return explainGap(r.Partition, err)
	}
	holds := "no event is left in it"
	if !first.IsZero() {
		if first.Before(s.spec.Since.Add(-clockSlack)) {
			return nil
		}
		holds = "its oldest event was committed at " + first.UTC().Format(time.RFC3339)
	}
	return fmt.Errorf("partition %d of the log begins at offset %d, and %s: events since %s may have been removed before. For those, %s. To replay what is there, give a later time, or offsets: %w",
		r.Partition, b.Start, holds, s.spec.Since.UTC().Format(time.RFC3339), instead, &pipeline.LogGapError{From: 0, Start: b.Start})
}

func (s *LogSource) describe(c *logCount) []string {
	what := []string{fmt.Sprintf("the log: %s in %s, of which %s to replay, with %s",
		count(c.records, "record", "records"), count(int64(len(s.spec.Ranges)), "partition", "partitions"),
		count(c.events+c.undecodable, "is an event", "are events"), count(c.rows, "change", "changes"))}
	if !s.spec.Since.IsZero() {
		what = append(what, "committed since "+s.spec.Since.UTC().Format(time.RFC3339Nano))
	}
	if !s.spec.Until.IsZero() {
		what = append(what, "committed until "+s.spec.Until.UTC().Format(time.RFC3339Nano))
	}
	const listed = 8
	for i, r := range s.spec.Ranges {
		if i == listed && len(s.spec.Ranges) > listed+1 {
			what = append(what, fmt.Sprintf("and %d partitions more", len(s.spec.Ranges)-listed))
			break
		}
		what = append(what, fmt.Sprintf("partition %d: offsets from %d to before %d", r.Partition, r.From, r.Until))
	}
	return what
}

func (c *logCount) warnings() (w []string) {
	if c.undecodable > 0 {
		w = append(w, fmt.Sprintf("%s of the range cannot be decoded: every key of every rule is deleted once for them.", count(c.undecodable, "record", "records")))
	}
	if c.everything > 0 {
		w = append(w, fmt.Sprintf("%s of the range %s: every key of every rule is deleted each time.",
			count(c.everything, "event", "events"), map[bool]string{true: "invalidates everything", false: "invalidate everything"}[c.everything == 1]))
	}
	if n := c.whole - c.everything; n > 0 {
		w = append(w, fmt.Sprintf("the range holds %s of whole tables: all keys of these are deleted each time.", count(n, "invalidation", "invalidations")))
	}
	return w
}
