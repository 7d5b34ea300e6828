package wire

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// liveState is what is known of the live pipeline before anything is read.
type liveState struct {
	running bool          // somebody vouches for each partition now
	lag     time.Duration // of live deletes; 0 where it does not run
	schema  string        // hash of the tailer's schema; "" if unknown
	// invalidators has the hash of the schema by which keys are made, for each
	// partition that somebody vouches for; "" where an older release does not say.
	invalidators []string
}

// lookAtLive asks once. Whoever says nothing is not running; that nobody could be
// asked is an error, because it says nothing of the kind.
func (r *replaying) lookAtLive(given context.Context) (*liveState, error) {
	ctx, cancel := context.WithTimeout(given, 5*time.Second)
	defer cancel()
	var l liveState
	var err error
	if l.invalidators, err = r.invalidators(ctx); given.Err() != nil {
		return nil, given.Err()
	} else if err != nil {
		return nil, problemsError{fmt.Sprintf("it is not known whether the pipeline runs, and with which key schema: %v", err)}
	}
	load, done, err := r.app.newLoad(r.redis)
	if err != nil {
		return nil, problemsError{err.Error()}
	}
	defer done()
	// An error here is of a source that does not answer, which the preflight has
	// said, or of a pipeline of which a part is silent: then it covers nothing.
	if l.lag, l.running, err = load.Live(ctx); err != nil {
		l.running = false
	}
	if l.running {
		l.schema = r.app.liveSchema(ctx)
	}
	return &l, nil
}

// invalidators reads by which schemas keys are made now.
func (r *replaying) invalidators(ctx context.Context) ([]string, error) {
	c, err := r.redis.Conn(ctx)
	if err != nil {
		return nil, err
	}
	trust, err := watermark.ReadTrust(ctx, c, r.app.Config.Source.Name)
	return trust.Schemas, err
}

// For how long an invalidator with another schema is looked at again: what one has
// said that was replaced a moment ago holds for five seconds more.
const (
	saidFor   = 7 * time.Second
	saidAgain = 500 * time.Millisecond
)

// agree waits a little for invalidators with another schema to be gone, and refuses
// where they are not.
func (r *replaying) agree(ctx context.Context) error {
	for began := time.Now(); len(r.live.others(r.app.Schema)) > 0 && time.Since(began) < saidFor; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(saidAgain):
		}
		if now, err := r.invalidators(ctx); err == nil {
			r.live.invalidators = now
		}
	}
	return r.live.refuseOthers(r.app.Schema, r.app.Config.Keys)
}

// lookForOthers is the time between two looks for invalidators with another schema,
// while the replay runs.
const lookForOthers = 5 * time.Second

// tellOthers says, until ctx ends, when invalidators with another schema have come:
// once for each schema. Those that vouch for no live partition are not seen, so what
// counts is what they do with the records (pipeline.Event.KeysBy).
func (r *replaying) tellOthers(ctx context.Context) {
	var told []string
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookForOthers):
		}
		told = r.tellNew(ctx, told)
	}
}

// tellNew says of which schemas there are invalidators now that were not told yet,
// and returns all that were.
func (r *replaying) tellNew(ctx context.Context, told []string) []string {
	hashes, err := r.invalidators(ctx)
	if err != nil {
		return told
	}
	for _, hash := range (&liveState{invalidators: hashes}).others(r.app.Schema) {
		if !slices.Contains(told, hash) {
			told = append(told, hash)
			r.say("replay: invalidators with another key schema (%s) have come: what they get of this replay they hold back for a minute, and then keep as dead letters", hash)
		}
	}
	return told
}

// covers says that the live pipeline invalidates what changes meanwhile, by the
// rules of the schema: its tailer and all its invalidators say so. What is not
// known is not covered.
func (l *liveState) covers(s *keys.Schema) bool {
	return l.running && l.schema == s.Hash() && len(l.invalidators) > 0 &&
		!slices.ContainsFunc(l.invalidators, func(hash string) bool { return hash != s.Hash() })
}

// others returns the schemas of live invalidators that are not this one, once each.
func (l *liveState) others(s *keys.Schema) []string {
	all := slices.DeleteFunc(slices.Clone(l.invalidators), func(hash string) bool { return hash == "" || hash == s.Hash() })
	slices.Sort(all)
	return slices.Compact(all)
}

// refuseOthers refuses a replay whose events an invalidator with another schema
// would get: it could only hold them back, and then make dead letters of them. One
// that is not seen here does so, too.
func (l *liveState) refuseOthers(s *keys.Schema, file string) error {
	if others := l.others(s); len(others) > 0 {
		return problemsError{fmt.Sprintf(
			"invalidators that run now have another key schema (%s) than %s (%s), and cannot make the keys of this replay: roll the schema out to all invalidators first, or let this process delete by itself with -target redis",
			strings.Join(others, ", "), file, s.Hash())}
	}
	return nil
}

// warnings say what is wrong, or not known, about the schemas that are live.
func (l *liveState) warnings(s *keys.Schema, file, target string) (all []string) {
	if l.running && l.schema != "" && l.schema != s.Hash() {
		all = append(all, fmt.Sprintf("The running pipeline has another key schema (%s) than %s: what it invalidates from now on may be wrong again. Roll the schema out first.", l.schema, file))
	}
	if others := l.others(s); len(others) > 0 {
		all = append(all, fmt.Sprintf("Invalidators that run now make keys by another schema (%s) than %s: what they delete from now on may be wrong again. Roll the schema out first.", strings.Join(others, ", "), file))
	}
	if target == targetTopic && slices.Contains(l.invalidators, "") {
		all = append(all, fmt.Sprintf("Not every running invalidator says by which key schema it makes keys, as those of an older release do not, and such a release makes the keys of any replay by its own: the replay is right only if all of them have %s (%s).", file, s.Hash()))
	}
	return all
}
