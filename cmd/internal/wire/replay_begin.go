package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/history"
)

// preflight looks at what the replay stands on, and at the live pipeline.
func (r *replaying) preflight(ctx context.Context) error {
	a := r.app
	redis, err := a.openRedis()
	if err != nil {
		return problemsError{err.Error()}
	}
	r.redis = redis
	r.onClose(func() { _ = redis.Close() })
	a.redis.Store(redis)
	findings := redis.PreflightReplay(ctx)
	if a.Config.Log.Kafka != nil && (r.args.Target == targetTopic || r.args.Verb == verbLog || r.args.Verb == verbDead) {
		findings = append(findings, a.checkKafka(ctx, false)...)
	}
	findings = append(findings, r.checkSource(ctx)...)
	if r.args.Target == targetRedis && !r.args.DryRun {
		findings = append(findings, a.checkReaders(ctx)...)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var problems problemsError
	report(findings, func(f pipeline.Finding) {
		switch f.Severity {
		case pipeline.Refusal:
			problems = append(problems, f.String())
		case pipeline.Warning:
			r.say("%s", f)
		case pipeline.Note:
		}
	})
	if len(problems) > 0 {
		return problems
	}
	if r.live, err = r.lookAtLive(ctx); err != nil {
		return err
	}
	listed := r.args.Verb == verbKeys && r.args.Table == "" // cache keys, which no schema makes
	if r.args.Target == targetTopic && !r.args.DryRun && !listed {
		return r.agree(ctx)
	}
	return nil
}

// checkSource looks whether the source answers. A list of cache keys needs it only
// to know when second deletes are due.
func (r *replaying) checkSource(ctx context.Context) []pipeline.Finding {
	needed := r.args.Verb == verbBinlog && len(r.args.Files) == 0 || r.args.Verb == verbTable || r.args.Verb == verbKeys
	_, err := r.app.askSource(ctx)
	if err == nil {
		return nil
	}
	cfg := r.app.Config.Source
	f := pipeline.Finding{
		Severity: pipeline.Warning, Check: "source", Fix: binlog.ConnectFix(err, cfg.User),
		Problem: fmt.Sprintf("%s does not say what it shows, so nobody knows how late live deletes are: %v", cfg.Addr, err),
	}
	if needed {
		f.Severity, f.Problem = pipeline.Refusal, fmt.Sprintf("%s must answer for replay %s: %v", cfg.Addr, r.args.Verb, err)
	}
	return []pipeline.Finding{f}
}

// begin plans a new replay, asks, and makes its state.
func (r *replaying) begin(ctx context.Context) error {
	if r.args.Verb == verbKeys {
		if err := r.copyList(r.args.State); err != nil {
			return err
		}
	}
	job, err := r.plan(ctx, r.args.State)
	if err != nil {
		return err
	}
	if !r.args.Yes {
		if err := ask(ctx, r.stdin, r.stderr, r.args.Verb == verbKeys); err != nil {
			r.forgetList()
			_ = os.Remove(r.args.State) // where nothing is in it
			return err
		}
	}
	settings, err := json.Marshal(r.args)
	if err != nil {
		return fmt.Errorf("keep the arguments: %w", err)
	}
	job.Settings, job.Args = settings, r.line
	if r.state, err = replay.CreateState(r.args.State, job); err != nil {
		return stateProblem(err)
	}
	r.onClose(func() { _ = r.state.Close() })
	return nil
}

func (r *replaying) forgetList() {
	if r.args.Verb == verbKeys {
		_ = os.Remove(filepath.Join(r.args.State, listFile)) // it is in nobody's way
	}
}

// plan opens the source, plans and prints. dir is where a list was copied to.
func (r *replaying) plan(ctx context.Context, dir string) (job replay.Job, err error) {
	kind, spec, err := r.sources.spec(ctx, r.args, r.live, dir)
	if err != nil {
		return job, err
	}
	p, kind, given, err := r.planSource(ctx, kind, spec)
	if err != nil {
		return job, err
	}
	text := r.planText(p)
	text.write(r.stderr, r.display.Width())
	job = replay.Job{Kind: kind, Given: given, Fixed: p.Fixed, Schema: r.app.Schema.Hash(), What: p.What, Rows: p.Rows}
	if r.old != nil {
		job.Old = r.old.Hash()
	}
	return job, nil
}

// planSource plans the source, or another one in its place.
func (r *replaying) planSource(ctx context.Context, kind string, spec any) (p replay.Plan, of string, given json.RawMessage, err error) {
	defer r.sources.close() // it is opened again from what the plan fixes
	stop, err := r.look(ctx)
	if err != nil {
		return p, kind, nil, err
	}
	defer stop()
	p, source, err := r.planned(ctx, kind, spec)
	if log, ok := source.(*history.LogSource); ok && err == nil {
		var switched bool
		var k string
		var s any
		if p, k, s, switched, err = r.switched(ctx, log, p); switched {
			kind, spec = k, s
		}
	}
	if err != nil {
		return p, kind, nil, err
	}
	given, err = json.Marshal(spec)
	return p, kind, given, err
}

// planned plans one source. What cannot be planned is the arguments' fault, unless
// it is gone.
func (r *replaying) planned(ctx context.Context, kind string, spec any) (p replay.Plan, source replay.Source, err error) {
	given, err := json.Marshal(spec)
	if err != nil {
		return p, nil, fmt.Errorf("keep what is to be replayed: %w", err)
	}
	if source, err = r.sources.open(ctx, kind, given); err == nil {
		p, err = source.Plan(ctx)
	}
	if err != nil && ctx.Err() == nil && !gone(err) && !errors.Is(err, errUsage) {
		err = fmt.Errorf("%w: %w", errUsage, err)
	}
	return p, source, err
}

func (r *replaying) planText(p replay.Plan) *planText {
	a, c := r.args, r.app.Config
	t := &planText{
		What: slices.Clone(p.What), Rows: p.Rows, Exact: a.Verb == verbKeys, DryRun: a.DryRun, State: a.State, Warnings: slices.Clone(p.Warnings),
		Schema: fmt.Sprintf("%s (%s)", c.Keys, r.app.Schema.Hash()), Pace: paceText(a.Rate, r.pace().MaxSlower, r.pace().MaxLag),
	}
	if a.DryRun {
		t.Target, t.Pace = "", fmt.Sprintf("reading only; held back while Redis is slow, paused while live deletes are later than %v", r.pace().MaxLag)
	}
	if a.Since != "" || a.Until != "" {
		t.What = append(t.What, fmt.Sprintf("-since was read as %s, -until as %s", orNone(a.since), a.until))
	}
	if r.old != nil {
		t.Old = fmt.Sprintf("%s (%s)", a.OldKeys, r.old.Hash())
		t.Warnings = append(t.Warnings, replay.OldWarnings(r.old, r.app.Schema, r.sweepOld())...)
	}
	if r.sources.alone {
		t.Warnings = append(t.Warnings, fmt.Sprintf("No invalidator answers for the log in %s, so this process opens the folder itself: until all is read, no invalidator can start there.", c.Log.Embedded.Dir))
	}
	switch {
	case a.DryRun:
	case a.Target == targetRedis:
		t.Target = "Redis, by this process"
	default:
		t.Target = fmt.Sprintf("the topic %s.replay, which the running invalidators consume", c.Log.Kafka.Topic)
		if !r.live.running && len(r.live.invalidators) == 0 {
			t.Warnings = append(t.Warnings, "No invalidator seems to run: the replay ends only when one has handled it. With -target redis this process deletes by itself.")
		}
	}
	t.Warnings = append(t.Warnings, r.live.warnings(r.app.Schema, c.Keys, a.Target)...)
	return t
}

func orNone(i instant) string {
	if i.text == "" {
		return "the beginning"
	}
	return i.String()
}
