package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// pace is how fast the replay may go.
func (r *replaying) pace() *replay.Pace {
	p := &replay.Pace{Max: float64(r.args.Rate), MaxLag: time.Second, MaxSlower: 5 * time.Millisecond}
	if r.args.Lag > 0 {
		p.MaxLag = r.args.Lag
	}
	if r.args.Redis > 0 {
		p.MaxSlower = r.args.Redis
	}
	return p
}

// sweepOld names the tables of which a source has only today's rows.
func (r *replaying) sweepOld() []pipeline.Scope {
	if r.old == nil || r.args.Table == "" {
		return nil
	}
	return []pipeline.Scope{pipeline.TableScope(r.args.db, r.args.table)}
}

// do replays from where the state is to the end.
func (r *replaying) do(ctx context.Context) error {
	job := r.state.Job()
	r.args.split() // of a resumed one
	pace := r.pace()
	load, done, err := r.app.newLoad(r.redis)
	if err != nil {
		return err
	}
	defer done()
	pace.Load = load
	var source replay.Source // nothing is read again once all is published
	if r.state.Phase() == replay.Reading {
		if source, err = r.sources.open(ctx, job.Kind, job.Fixed); err != nil {
			return err
		}
	}
	run := &replay.Run{
		Source: source, ReadDone: r.sources.close, State: r.state, Schema: r.app.Schema, Old: r.old, SweepOld: r.sweepOld(), Pace: pace,
		Progress: r.display.Show, Hooks: r.app.Hooks,
	}
	var summary replay.Summary
	if r.args.Target == targetTopic {
		summary, err = r.doTopic(ctx, run)
	} else {
		summary, err = r.doRedis(ctx, run)
	}
	r.display.End()
	if job.Kind == kindRows {
		summary.RowsGone = table.Gone(r.state.Cursor())
	}
	if werr := r.writeSummary(summary); werr != nil {
		err = errors.Join(err, werr)
	}
	if _, handled := errors.AsType[*unsureError](err); handled {
		r.forgetList()
	}
	if err == nil {
		r.say("%s", doneLine(summary))
		if summary.RowsGone > 0 {
			r.say("%s", goneLine(summary.RowsGone, r.args.Table))
		}
		r.forgetList()
	}
	return err
}

func doneLine(s replay.Summary) string {
	line := fmt.Sprintf("%s keys of %s rows were deleted, twice, in %v", progress.Number(s.Keys), progress.Number(s.Rows),
		time.Duration(s.Seconds*float64(time.Second)).Round(100*time.Millisecond))
	if s.DeadLetters > 0 {
		line += fmt.Sprintf("; %d records could not be understood and were over-invalidated", s.DeadLetters)
	}
	return line
}

// goneLine says what a replay of rows could not delete.
func goneLine(rows int64, name string) string {
	return fmt.Sprintf("%s of the rows asked for no longer exist. Some of their keys hold other columns than the primary key, cannot be known and may still be cached: %s deletes them",
		progress.Number(rows), shellLine("replay", verbTable, "-table", name, "-whole"))
}

// lookFor is for how long dead letters are asked for when everything was handled.
const lookFor = time.Minute

// doTopic hands everything to the invalidators that run elsewhere.
func (r *replaying) doTopic(ctx context.Context, run *replay.Run) (s replay.Summary, err error) {
	log, err := r.app.openKafka()
	if err != nil {
		return s, fmt.Errorf("%w: %w", errUsage, err)
	}
	group := replayConsumerName(r.app.Config)
	topic := log.Replay()
	if err := makeTopic(ctx, topic); err != nil {
		return s, errors.Join(err, closeLog(ctx, log))
	}
	letters, err := newLetters(ctx, topic.History(), r.app.Config.Log.Kafka.Topic+".replay", run.State)
	if err != nil {
		return s, errors.Join(err, closeLog(ctx, topic), closeLog(ctx, log))
	}
	run.DeadLetters = letters.made
	run.Target = replay.NewTarget(topic.Publisher(), func(ctx context.Context) (b replay.Backlog, err error) {
		b.First, b.Second, err = topic.Backlog(ctx, group)
		return b, err
	})
	run.Drained = func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, lookFor)
		defer cancel()
		// Without an answer the outcome is not known, which is said below.
		_ = pipeline.Retry(ctx, &r.app.Hooks, "count the dead letters", letters.look)
	}
	watching, stop := context.WithCancel(ctx)
	var telling sync.WaitGroup
	telling.Go(func() { r.tellOthers(watching) })
	s, err = run.Do(ctx)
	stop()
	telling.Wait()
	if err == nil {
		err = r.conclude(ctx, &s, letters)
	}
	return s, errors.Join(err, closeLog(ctx, topic), closeLog(ctx, log))
}

// makeTopic makes the topic of replays where it is missing. What keeps records
// from it is known only now, since nothing was made before the question.
func makeTopic(ctx context.Context, topic *bus.Kafka) error {
	findings, err := topic.EnsureTopics(ctx, true)
	var problems problemsError
	report(findings, func(f pipeline.Finding) {
		if f.Severity == pipeline.Refusal {
			problems = append(problems, f.String())
		}
	})
	if len(problems) > 0 {
		return problems
	}
	return err
}

// doRedis deletes in this process, from a log in the state folder.
func (r *replaying) doRedis(ctx context.Context, run *replay.Run) (s replay.Summary, err error) {
	spool, err := r.app.openSpool(r.state.Dir())
	if err != nil {
		return s, err
	}
	var letters atomic.Int64
	r.app.Hooks = pipeline.Join(r.app.Hooks, pipeline.Hooks{DeadLettered: func(pipeline.DeadLetter) { letters.Add(1) }})
	run.DeadLetters, run.Target = letters.Load, replay.NewTarget(spool.log.Publisher(), spool.backlog)
	deleting, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	g.Go(func() error {
		err := spool.run(deleting, r.redis)
		if err != nil {
			fail(err)
		}
		return err
	})
	s, err = run.Do(running)
	stop()
	err = errors.Join(err, g.Wait(), spool.log.Close())
	if err == nil && s.DeadLetters == 0 {
		err = os.RemoveAll(filepath.Join(r.state.Dir(), spoolDir))
	}
	return s, err
}

// writeSummary writes one JSON object.
func (r *replaying) writeSummary(s any) error {
	file := r.args.Summary
	if file == "" && isTerminal(r.stdout) { // there, what is said of it is enough
		return nil
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	text = append(text, '\n')
	if file == "" || file == "-" {
		_, err = r.stdout.Write(text)
	} else {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the summary: %w", err)
	}
	return nil
}
