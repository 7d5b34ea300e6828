package history

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// OpenDead returns a source that replays dead letters: the record of each is
// decoded anew, and replayed as it was published. For those that still cannot be
// decoded, spec.Tables are invalidated once. It does not connect.
func OpenDead(d LogDeps, spec DeadSpec) (*DeadSource, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if spec.Skip < 0 || spec.Count < noLetters {
		return nil, fmt.Errorf("dead letters are counted from 0: skip %d, count %d", spec.Skip, spec.Count)
	}
	for _, s := range spec.Tables {
		if len(d.Schema.Scope(s.DB, s.Table)) == 0 {
			return nil, fmt.Errorf("no rule of the key schema is about a table %s.%s", s.DB, s.Table)
		}
	}
	return &DeadSource{LogDeps: d, spec: spec}, nil
}

// DeadSource replays dead letters. It is a replay.Source.
type DeadSource struct {
	LogDeps
	spec  DeadSpec
	lacks []Lack
}

func (s *DeadSource) tables() []pipeline.Scope {
	if len(s.spec.Tables) == 0 {
		return []pipeline.Scope{pipeline.Everything}
	}
	return s.spec.Tables
}

// errEnd ends the reading of dead letters behind the last one wanted.
var errEnd = errors.New("end of the dead letters")

// each calls fn for the letters from the number skip on, up to the last that the
// spec names.
func (s *DeadSource) each(ctx context.Context, skip int64, fn func(n int64, letter pipeline.DeadLetter) error) error {
	n := skip
	err := s.Log.DeadLetters(ctx, skip, func(letter pipeline.DeadLetter) error {
		if s.spec.Count > 0 && n >= s.spec.Skip+s.spec.Count {
			return errEnd
		}
		n++
		return fn(n-1, letter)
	})
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

// Plan implements replay.Source.
func (s *DeadSource) Plan(ctx context.Context) (replay.Plan, error) {
	var found, undecodable, rows int64
	lacks := newLackFinder(s.LogDeps)
	lacks.begin(true)
	reasons := map[string]int{}
	var order []string
	err := s.each(ctx, s.spec.Skip, func(_ int64, letter pipeline.DeadLetter) error {
		found++
		e, err := pipeline.DecodeEvent(letter.Data)
		if err != nil {
			undecodable++
			rows++
		} else if e.Kind != pipeline.KindProgress {
			rows += changes(e)
			lacks.event(e)
		}
		if reasons[letter.Reason]++; reasons[letter.Reason] == 1 && len(order) < 5 {
			order = append(order, letter.Reason)
		}
		if len(reasons) > 1000 { // texts may hold anything
			reasons = map[string]int{}
		}
		return nil
	})
	if err != nil {
		return replay.Plan{}, fmt.Errorf("read the dead letters: %w", err)
	}
	if s.spec.Count > found {
		return replay.Plan{}, fmt.Errorf("there are only %s behind the first %d, not %d", count(found, "dead letter", "dead letters"), s.spec.Skip, s.spec.Count)
	}
	// What comes later, from this very replay perhaps, is not of this replay.
	s.spec.Count = found
	p := replay.Plan{Rows: rows, What: []string{fmt.Sprintf("%s with %s", count(found, "dead letter", "dead letters"), count(rows, "change", "changes"))}}
	for _, reason := range order {
		p.What = append(p.What, "for example: "+reason)
	}
	if undecodable > 0 {
		names := "every key of every rule is deleted once"
		if len(s.spec.Tables) > 0 {
			names = fmt.Sprintf("all keys of the tables that were given are deleted once (%d)", len(s.spec.Tables))
		}
		p.Warnings = append(p.Warnings, fmt.Sprintf("%s still cannot be decoded: for them, %s.", count(undecodable, "dead letter", "dead letters"), names))
	}
	s.lacks = lacks.tableLacks() // of the other tables, a few letters say nothing
	for _, l := range s.lacks {
		p.Warnings = append(p.Warnings, l.String())
	}
	if found == 0 {
		s.spec.Count = noLetters
	}
	p.Fixed, err = json.Marshal(s.spec)
	return p, err
}

// deadCursor is where a Read goes on.
type deadCursor struct {
	Next int64 `json:"next"` // number of a letter
	// Last is a hash of the one before: where another one stands there now, some
	// were removed, and none can be told from those that are done.
	Last  string `json:"last,omitempty"`
	Swept bool   `json:"swept,omitempty"` // the tables were invalidated already
}

func letterHash(l pipeline.DeadLetter) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(l.Partition), []byte(strconv.FormatInt(l.Offset, 10)), []byte(l.Reason), l.Data} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// Read implements replay.Source. Letters that were removed since Plan do not
// come; then all that are left are replayed.
func (s *DeadSource) Read(ctx context.Context, from replay.Cursor, fn func(context.Context, replay.Chunk) error) error {
	var at deadCursor
	if err := fromCursor(from, &at); err != nil {
		return err
	}
	switch s.spec.Count {
	case 0:
		return errors.New("the number of dead letters is not fixed yet: Plan does that")
	case noLetters:
		return nil
	}
	r := deadRead{s: s, ctx: ctx, fn: fn, at: at}
	if r.at.Next < s.spec.Skip {
		r.at.Next = s.spec.Skip
	}
	start := r.at.Next
	if r.at.Last != "" {
		same, err := s.stands(ctx, start-1, r.at.Last)
		if err != nil {
			return fmt.Errorf("read the dead letters: %w", err)
		}
		if !same {
			start, r.at.Next, r.at.Last = 0, 0, ""
		}
	}
	if err := s.each(ctx, start, r.letter); err != nil {
		return err
	}
	if r.looked == 0 && r.at.Next >= s.spec.Skip+s.spec.Count {
		return nil
	}
	r.ended = true
	return r.hand()
}

// stands says whether the letter of a number is still the one with a hash.
func (s *DeadSource) stands(ctx context.Context, number int64, hash string) (same bool, err error) {
	err = s.Log.DeadLetters(ctx, number, func(letter pipeline.DeadLetter) error {
		same = letterHash(letter) == hash
		return errEnd
	})
	if errors.Is(err, errEnd) {
		err = nil
	}
	return same, err
}

// deadRead is one call of Read.
type deadRead struct {
	s      *DeadSource
	ctx    context.Context
	fn     func(context.Context, replay.Chunk) error
	at     deadCursor
	chunk  replay.Chunk
	looked int
	ended  bool
	shown  shownBy
}

func (r *deadRead) letter(n int64, letter pipeline.DeadLetter) error {
	e, err := pipeline.DecodeEvent(letter.Data)
	switch {
	case err != nil:
		r.chunk.Rows++
		if !r.at.Swept {
			r.at.Swept = true
			reason := fmt.Sprintf("replay: the dead letter of offset %d of %s: %v", letter.Offset, letter.Partition, err)
			r.chunk.Events = append(r.chunk.Events, r.s.invalidation(slices.Clone(r.s.tables()), reason))
		}
	case e.Kind == pipeline.KindProgress:
	default:
		r.chunk.Rows += changes(e)
		if r.s.trim(e) {
			r.chunk.Events = append(r.chunk.Events, *e)
		}
	}
	r.at.Next, r.at.Last = n+1, letterHash(letter)
	if r.looked++; r.chunk.Rows >= logChunkRows || r.looked >= logChunkRecords {
		return r.hand()
	}
	return nil
}

func (r *deadRead) hand() error {
	c := r.chunk
	c.Next = toCursor(r.at)
	c.Done = 1
	if !r.ended {
		c.Done = max(0, min(1, float64(r.at.Next-r.s.spec.Skip)/float64(r.s.spec.Count)))
	}
	r.chunk, r.looked = replay.Chunk{}, 0
	if err := r.shown.name(r.ctx, r.s.LogDeps, c.Events); err != nil {
		return err
	}
	return r.fn(r.ctx, c)
}
