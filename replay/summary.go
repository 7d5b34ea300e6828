package replay

import (
	"errors"
	"math"
	"time"
)

// Summary is what a replay did, for a program to read: cmd/replay prints it as
// one JSON object. It is of the whole replay, by all processes that had a part.
type Summary struct {
	Kind    string   `json:"kind"`           // the source: log, binlog, table, keys, dead
	What    []string `json:"what,omitempty"` // what was read, for people
	Started string   `json:"started"`        // RFC 3339, UTC
	// Result is "done", "stopped" (can be resumed), "failed" (can be resumed), or
	// "unsure": all was handled, but OtherSchema is not 0.
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
	Phase  Phase  `json:"phase"` // "reading", "draining" (all is published) or "done"
	Rows   int64  `json:"rows"`  // rows, changes or lines that were looked at
	// Keys is how many keys were sent to be deleted: distinct within a chunk, so
	// that a key of two chunks counts twice.
	Keys   int64 `json:"keys"`
	Chunks int64 `json:"chunks"`
	// ChunksRedone is at most how many chunks were published twice: one for each
	// process that was killed.
	ChunksRedone int64 `json:"chunks_redone"`
	Records      int64 `json:"records"` // appended to the log
	Bytes        int64 `json:"bytes"`   // of those records
	// Seconds is how long processes were at work; KeysPerSecond is the mean.
	Seconds       float64 `json:"seconds"`
	KeysPerSecond float64 `json:"keys_per_second"`
	// PacedSeconds is for how long chunks were held back, by reason: "live" (live
	// deletes were late), "redis" (it was slow or gone), "backlog" (the replay's own
	// deletes were behind), "rate" (the greatest rate that was asked for), "adapting"
	// (the rate was still growing).
	PacedSeconds map[string]float64 `json:"paced_seconds,omitempty"`
	DeadLetters  int64              `json:"dead_letters"`
	// OtherSchema is how many of the records in the dead letters an invalidator with
	// another key schema has handled: keys of the replay's schema may be left. The
	// caller of Run.Do sets it, with Result: only it sees the letters.
	OtherSchema int64 `json:"other_schema,omitempty"`
	// RowsGone is how many of the rows that were asked for by their primary keys no
	// longer exist, while some rule's keys hold more than that: those keys stay,
	// unless everything of the table is deleted. The caller of Run.Do sets it: only
	// the source knows.
	RowsGone    int64    `json:"rows_gone,omitempty"`
	OldPatterns []string `json:"old_patterns,omitempty"` // globs of the old schema that were swept
}

func (r *Run) summary(err error) Summary {
	s, c := r.State, r.State.Counts()
	sum := Summary{
		Kind: s.Job().Kind, What: s.Job().What, Started: s.Started.UTC().Format(time.RFC3339),
		Result: "done", Phase: s.Phase(), Rows: c.Rows, Keys: c.Keys, Chunks: c.Chunks, ChunksRedone: c.Redone,
		Records: c.Records, Bytes: c.Bytes, Seconds: c.Seconds, PacedSeconds: c.Paced, DeadLetters: c.DeadLetters,
		OldPatterns: s.Owed.Patterns,
	}
	if c.Seconds > 0 {
		sum.KeysPerSecond = math.Round(float64(c.Keys) / c.Seconds)
	}
	sum.Seconds = math.Round(sum.Seconds*1000) / 1000
	switch {
	case err == nil:
	case errors.Is(err, ErrStopped):
		sum.Result = "stopped"
	default:
		sum.Result, sum.Error = "failed", err.Error()
	}
	return sum
}
