package wire

import (
	"context"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
)

// unsure is the result of a replay that was handled to its end, a part of it by
// invalidators with another key schema.
const unsure = "unsure"

// unsureError says so, and what to do.
type unsureError struct {
	seen         lettersSeen
	schema, file string // the replay's
}

func (e *unsureError) Error() string {
	again := shellLine("replay", verbDead, "-config", e.file)
	return fmt.Sprintf(`not all keys were deleted for certain: invalidators with another key schema have handled %s records of this replay, whose keys are those of %s
they have deleted all keys that their own rules make of the tables concerned, which may be others, and kept the records as dead letters, for example: %s
once every invalidator runs with the schema that is right, delete them by it: %s
or let this process do it, whatever the invalidators run with: %s -target redis`,
		progress.Number(e.seen.Other), e.schema, strings.Join(e.seen.Reasons, "; "), again, again)
}

// unsureOf returns the error for what the dead letters say, nil where all is well.
func (r *replaying) unsureOf(seen lettersSeen) error {
	if seen.Other == 0 {
		return nil
	}
	return &unsureError{seen: seen, schema: r.state.Job().Schema, file: r.args.Config}
}

// ended says what became of a replay that is done, which nobody may have read: the
// process can have been killed before it was said. nil: that is still to be found.
func (r *replaying) ended() error {
	done := fmt.Errorf("%w in %s", errDone, r.state.Dir())
	if r.args.Target != targetTopic {
		return done
	}
	stored, ok := readLetters(r.state)
	switch {
	case !ok: // an earlier release, which did not ask
		return done
	case stored.Seen == nil:
		return nil
	}
	if err := r.unsureOf(*stored.Seen); err != nil {
		return err
	}
	return done
}

// conclude puts what the dead letters say into the summary of a replay that is done,
// and returns an error where that is not all that was asked for.
func (r *replaying) conclude(ctx context.Context, s *replay.Summary, l *letters) error {
	seen, err := l.outcome(ctx)
	if err != nil {
		return fmt.Errorf("%w; look again with: %s", err, r.resumeLine())
	}
	s.DeadLetters, s.OtherSchema = max(s.DeadLetters, seen.All), seen.Other
	if err = r.unsureOf(seen); err != nil {
		s.Result, s.Error = unsure, err.Error()
	}
	return err
}
