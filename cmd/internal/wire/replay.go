package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/progress"
)

// Replay is the command replay. It returns the exit code. stdin is asked for the
// answer to its question, and for lists of keys. The first interrupt stops it at a
// safe point; a second one ends the process at once.
func Replay(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if verb, ok := helpWanted(args); ok {
		writeHelp(stdout, verb)
		return ExitOK
	}
	if len(args) == 1 && (args[0] == "-version" || args[0] == "--version") {
		fmt.Fprintln(stdout, "replay", version())
		return ExitOK
	}
	a, problems := parseReplay(args, time.Now())
	if len(problems) > 0 {
		return sayProblems(stderr, problems)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on the default action: the second signal kills
	display := progress.New(stderr)
	r := &replaying{args: a, line: args, stdin: stdin, stdout: stdout, stderr: display, display: display}
	defer r.close()
	return r.exit(r.run(ctx))
}

func sayProblems(w io.Writer, problems []string) int {
	for _, p := range problems {
		fmt.Fprintf(w, "replay: %s\n", p)
	}
	return ExitUsage
}

// replaying is one run of the command.
type replaying struct {
	args           *replayArgs
	line           []string // as typed
	stdin          io.Reader
	stdout, stderr io.Writer
	display        *progress.Display // behind stderr

	app     *App
	old     *keys.Schema // of -old-keys
	redis   *deleter.Redis
	live    *liveState
	sources *sources
	state   *replay.State // nil in a dry run
	closers []func()
}

func (r *replaying) onClose(fn func()) { r.closers = append(r.closers, fn) }

func (r *replaying) close() {
	for i := len(r.closers) - 1; i >= 0; i-- {
		r.closers[i]()
	}
}

// problemsError is what is wrong with arguments, configuration or preflight.
type problemsError []string

func (p problemsError) Error() string { return fmt.Sprintf("%q", []string(p)) }

func (r *replaying) run(ctx context.Context) error {
	if err := r.absolute(); err != nil {
		return err
	}
	if r.args.Verb == verbResume {
		if err := r.resume(); err != nil {
			return err
		}
		if r.state.Phase() == replay.Done {
			if err := r.ended(); err != nil {
				return err
			}
		}
	}
	if err := r.prepare(ctx); err != nil {
		return err
	}
	switch {
	case r.args.DryRun:
		return r.dryRun(ctx)
	case r.state == nil:
		if err := r.unfinished(); err != nil {
			return err
		}
	}
	if r.state == nil {
		if err := r.begin(ctx); err != nil {
			return err
		}
	} else {
		r.say("going on with the replay in %s, begun with: %s", r.state.Dir(), shellLine(append([]string{"replay"}, r.state.Job().Args...)...))
	}
	return r.do(ctx)
}

// errDone says that there is nothing to go on with.
var errDone = errors.New("the replay is done already")

func (r *replaying) say(format string, args ...any) { fmt.Fprintf(r.stderr, format+"\n", args...) }

// absolute makes paths independent of the folder in which a replay goes on.
func (r *replaying) absolute() error {
	a := r.args
	list := []*string{&a.Config, &a.State, &a.OldKeys}
	for i := range a.Files {
		list = append(list, &a.Files[i])
	}
	if a.Summary != "-" {
		list = append(list, &a.Summary)
	}
	for _, p := range list {
		if *p == "" {
			continue
		}
		path, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find the folder of %s: %w", *p, err)
		}
		*p = path
	}
	return nil
}

// prepare reads the configuration and looks at what the replay stands on.
func (r *replaying) prepare(ctx context.Context) error {
	app, err := newApp(options{config: r.args.Config}, r.stderr)
	if err != nil {
		return problemsError{fmt.Sprintf("the configuration cannot be used:\n%v", err)}
	}
	app.Log = slog.New(quiet{app.Log.Handler()})
	app.observe()
	app = app.replaying()
	r.app = app
	problems := r.args.checkConfig(app.Config)
	if r.args.OldKeys != "" {
		if r.old, err = keys.Load(r.args.OldKeys); err != nil {
			problems = append(problems, fmt.Sprintf("-old-keys: %v", err))
		} else if err := r.old.Protect(app.Config.Redis.Protect); err != nil {
			problems = append(problems, fmt.Sprintf("-old-keys: %v", err))
		} else if r.old.Hash() == app.Schema.Hash() {
			problems = append(problems, fmt.Sprintf("-old-keys %s makes the same keys as %s: is it the old file?", r.args.OldKeys, app.Config.Keys))
		}
	}
	if r.state != nil {
		job := replay.Job{Schema: app.Schema.Hash()}
		if r.old != nil {
			job.Old = r.old.Hash()
		}
		if err := r.state.Check(job); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		return problemsError(problems)
	}
	r.sources = newSources(app, r.old)
	r.onClose(r.sources.close)
	return r.preflight(ctx)
}

// quiet leaves out what is said while all is well: the progress says it. A
// configuration with log_level: debug gets everything.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, l) && (l != slog.LevelInfo || q.Handler.Enabled(ctx, slog.LevelDebug))
}

func (q quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(a)} }
func (q quiet) WithGroup(name string) slog.Handler   { return quiet{q.Handler.WithGroup(name)} }

// exit says how it ended, and returns the exit code.
func (r *replaying) exit(err error) int {
	problems, wrong := errors.AsType[problemsError](err)
	switch {
	case err == nil:
		return ExitOK
	case errors.Is(err, errDone):
		r.say("replay: %v", err)
		return ExitOK
	case wrong:
		return sayProblems(r.stderr, problems)
	case gone(err):
		r.say("replay: a part of what was asked for is gone: %v\nreplay binlog -h and replay table -h say what covers it", err)
		return ExitPosition
	case errors.Is(err, errNobody), errors.Is(err, errUsage):
		r.say("replay: %s", strings.TrimSuffix(err.Error(), ": "+pipeline.ErrFatal.Error())) // which is the engine's word
		return ExitUsage
	case r.state == nil && errors.Is(err, context.Canceled):
		r.say("replay: interrupted: nothing was deleted")
		return ExitRuntime
	}
	r.say("replay: %v", err)
	if r.state != nil && r.state.Phase() != replay.Done {
		r.say("go on with: %s", r.resumeLine())
	}
	return ExitRuntime
}

// gone says that a part of the history which was asked for is no longer there.
func gone(err error) bool {
	_, ofLog := errors.AsType[*pipeline.LogGapError](err)
	_, ofBinlog := errors.AsType[*pipeline.GapError](err)
	return ofLog || ofBinlog || errors.Is(err, pipeline.ErrPositionLost)
}
