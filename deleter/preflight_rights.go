package deleter

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// probe tries whether a command is allowed, in a way that changes nothing.
type probe struct {
	name string
	args []any
	// allowed is in the answer to a user who may, where that is an error.
	allowed string
	// anyKey says that a user may be allowed some keys only; whether those are the
	// right ones is not to be found out by a key that nobody uses.
	anyKey   bool
	severity pipeline.Severity
	// without says what is lost without it; "" where nothing goes on.
	without string
}

// probes are of what Delete, DeletePatterns, Turn and Post do, and of what /wait and
// /readers read: a SET of a key that must exist and does not, an HSET whose last
// field lacks its value, which is refused only after the user's permissions, and a
// script that does nothing. A script may do what its user may.
func (r *Redis) probes() []probe {
	turn, none := watermark.TurnKey("preflight", 0), redis.Nil.Error()
	all := []probe{
		{name: "UNLINK", args: []any{"unlink", "doubletap:preflight:none"}, anyKey: true},
		{name: "PING", args: []any{"ping"}},
		{name: "INFO", args: []any{"info"}},
		{name: "SCAN", args: []any{"scan", 0, "count", 1}},
		{name: "SET", args: []any{"set", watermark.TrustKey("preflight", 0), "", "px", 1, "xx"}, allowed: none},
		{name: "HSET", args: []any{"hset", watermark.SetsKey("preflight"), "0", "", "1"}, allowed: "wrong number of arguments"},
		{name: "HGETALL", args: []any{"hgetall", watermark.SetsKey("preflight")}},
		{name: "GET", args: []any{"get", turn}, allowed: none},
		{name: "PTTL", args: []any{"pttl", turn}},
		{name: "EVAL", args: []any{"eval", "return 0", 1, turn}},
	}
	for i := range all {
		all[i].severity = pipeline.Refusal
	}
	return all
}

// replays are of what a replay reads besides. An invalidator goes on without.
func replays() []probe {
	const without = "replay cannot be run as this user"
	return []probe{
		{name: "HGET", args: []any{"hget", watermark.SetsKey("preflight"), "0"}, allowed: redis.Nil.Error(), severity: pipeline.Warning, without: without},
		{name: "MGET", args: []any{"mget", watermark.TrustKey("preflight", 0)}, severity: pipeline.Warning, without: without},
	}
}

// dryRuns is of what a dry run does, which can do without it.
var dryRuns = probe{
	name: "EXISTS", args: []any{"exists", "doubletap:preflight:none"}, anyKey: true,
	severity: pipeline.Warning, without: "a dry run leaves out how many of the keys are in Redis",
}

// permissions tries each command on one node. What the user may not is one finding
// for each severity: one statement mends all of it.
func (r *Redis) permissions(ctx context.Context, n node, more []probe) (findings []pipeline.Finding) {
	type lack struct {
		names   []string
		err     error
		without string
	}
	lacks := map[pipeline.Severity]*lack{}
	for _, p := range append(r.probes(), more...) {
		err := r.try(ctx, n, p)
		switch {
		case err == nil:
		case !Forbidden(err):
			findings = append(findings, refuse("redis "+p.name, err, "check that Redis is up"))
		case lacks[p.severity] == nil:
			lacks[p.severity] = &lack{[]string{p.name}, err, p.without}
		default:
			lacks[p.severity].names = append(lacks[p.severity].names, p.name)
		}
	}
	for _, severity := range []pipeline.Severity{pipeline.Refusal, pipeline.Warning} {
		if l := lacks[severity]; l != nil {
			f := refuse("redis rights", l.err, "")
			f.Severity, f.Problem = severity, fmt.Sprintf("the user may not: %s (%s)", strings.Join(l.names, ", "), f.Problem)
			if l.without != "" {
				f.Problem += "; " + l.without
			}
			findings = append(findings, f)
		}
	}
	return findings
}

func (r *Redis) try(ctx context.Context, n node, p probe) error {
	_, err := call(ctx, r, func(ctx context.Context) (any, error) { return n.client.Do(ctx, p.args...).Result() })
	if err == nil {
		return nil
	}
	fine := []string{"READONLY", "MOVED"} // said by other findings, and by every node but one
	if p.allowed != "" {
		fine = append(fine, p.allowed)
	}
	if p.anyKey {
		fine = append(fine, "access a key", "access one of the keys") // Redis 7; Redis 6
	}
	if slices.ContainsFunc(fine, func(s string) bool { return strings.Contains(err.Error(), s) }) {
		return nil
	}
	return err
}
