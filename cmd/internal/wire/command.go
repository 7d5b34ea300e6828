package wire

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Exit codes of every command.
const (
	ExitOK       = 0
	ExitRuntime  = 1
	ExitUsage    = 2 // usage, configuration or preflight
	ExitPosition = 3 // the position is lost, and source.on_gap is "stop"
)

// Command is one of the commands.
type Command struct {
	Name string
	// What it does, for -h: one sentence.
	Synopsis string
	// Check returns the preflight's findings. It changes nothing, but for a start
	// (create) it makes what is missing in the log.
	Check func(ctx context.Context, a *App, create bool) []pipeline.Finding
	// Deletes says that it makes deletes, and so knows how far they are.
	Deletes bool
	// Run does the work until ctx ends.
	Run func(ctx context.Context, a *App) error
}

type options struct {
	config  string
	admin   string
	healthy string
	check   bool
	version bool
}

// Main runs a command and returns its exit code. The first interrupt stops it in
// order; a second one ends the process at once.
func Main(c Command, args []string, stdout, stderr io.Writer) int {
	o, code, ok := c.parse(args, stdout, stderr)
	switch {
	case !ok:
		return code
	case o.version:
		fmt.Fprintln(stdout, c.Name, version())
		return ExitOK
	case o.healthy != "":
		return c.healthy(o.healthy, stderr)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // from here on the default action: the second signal kills

	a, err := newApp(o, stderr)
	if err != nil {
		fmt.Fprintf(stderr, "%s: the configuration cannot be used:\n%v\n", c.Name, err)
		return ExitUsage
	}
	if o.check {
		return c.check(ctx, a, stdout)
	}
	return c.run(ctx, a)
}

func (c Command) parse(args []string, stdout, stderr io.Writer) (o options, code int, ok bool) {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard) // what is wrong is said below, and help goes to standard output
	fs.StringVar(&o.config, "config", "", "the configuration `file` (docs/configuration.md)")
	fs.BoolVar(&o.check, "check", false, "run the preflight, print the configuration in effect and every finding, and exit")
	fs.StringVar(&o.admin, "admin", "", "listen for health and metrics at this `address` instead of admin.listen")
	fs.StringVar(&o.healthy, "healthy", "", "ask the process with this admin `address` whether it is ready, and exit 0 or 1")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		c.usage(fs, stdout)
		return o, ExitOK, false
	case err != nil:
		fmt.Fprintf(stderr, "%s: %v\n\n", c.Name, err)
		c.usage(fs, stderr)
		return o, ExitUsage, false
	case fs.NArg() > 0:
		fmt.Fprintf(stderr, "%s: unexpected argument %q; did you mean -config %s?\n", c.Name, fs.Arg(0), fs.Arg(0))
		return o, ExitUsage, false
	case o.config == "" && !o.version && o.healthy == "":
		fmt.Fprintf(stderr, "%s: -config is missing; see config.example.yaml for a configuration, or %s -h\n", c.Name, c.Name)
		return o, ExitUsage, false
	}
	return o, 0, true
}

func (c Command) usage(fs *flag.FlagSet, w io.Writer) {
	fs.SetOutput(w)
	fmt.Fprintf(w, "%s %s\n\nUsage:\n  %s -config doubletap.yaml [-check] [-admin host:port]\n  %s -healthy host:port\n  %s -version\n\n", c.Name, c.Synopsis, c.Name, c.Name, c.Name)
	fs.PrintDefaults()
	fmt.Fprint(w, "\nExit codes: 0 stopped in order, 1 failed, 2 usage, configuration or preflight,\n3 position lost and source.on_gap is \"stop\".\n")
}

// check prints the configuration in effect and the findings: the worst ones last,
// next to the verdict.
func (c Command) check(ctx context.Context, a *App, stdout io.Writer) int {
	findings := c.Check(ctx, a, false)
	slices.SortStableFunc(findings, func(a, b pipeline.Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	fmt.Fprintf(stdout, "The configuration in effect:\n\n%s\n", a.Config.Redacted())
	refused := report(findings, func(f pipeline.Finding) { fmt.Fprintln(stdout, f) })
	fmt.Fprintln(stdout)
	if refused > 0 {
		fmt.Fprintf(stdout, "%s would refuse to start: %d of %d findings must be fixed first.\n", c.Name, refused, len(findings))
		return ExitUsage
	}
	fmt.Fprintf(stdout, "%s can start.\n", c.Name)
	return ExitOK
}

func (c Command) run(ctx context.Context, a *App) int {
	a.Log.Info("starting", "command", c.Name, "version", version(), "config", a.path, "keys", a.Config.Keys, "schema", a.Schema.Hash())
	stopping := context.AfterFunc(ctx, func() { a.Log.Info("stopping; a second signal ends the process at once") })
	defer stopping()
	findings := c.Check(ctx, a, true)
	if ctx.Err() != nil {
		return ExitOK
	}
	refused := report(findings, func(f pipeline.Finding) {
		level, attrs := slog.LevelInfo, []any{}
		switch f.Severity {
		case pipeline.Refusal:
			level = slog.LevelError
		case pipeline.Warning:
			level = slog.LevelWarn
		case pipeline.Note:
		}
		if f.Fix != "" {
			attrs = append(attrs, "fix", f.Fix)
		}
		a.Log.Log(ctx, level, "preflight: "+f.Check+": "+f.Problem, attrs...)
	})
	if refused > 0 {
		a.Log.Error("start refused; mend what the preflight found, and see it all with -check", "findings", refused)
		return ExitUsage
	}
	err := a.serve(ctx, c)
	switch {
	case err == nil:
		a.Log.Info("stopped")
		return ExitOK
	case errors.Is(err, errUsage):
		a.Log.Error("start refused", "err", err)
		return ExitUsage
	case errors.Is(err, pipeline.ErrPositionLost):
		a.Log.Error("stopped: the position is lost and source.on_gap is \"stop\"; set on_gap: invalidate to delete all keys of the schema and go on from the source's current position", "err", err)
		return ExitPosition
	}
	a.Log.Error("stopped by an error", "err", err)
	return ExitRuntime
}

// errUsage marks errors that end in ExitUsage.
var errUsage = errors.New("cannot start")

func report(findings []pipeline.Finding, each func(pipeline.Finding)) (refused int) {
	for _, f := range findings {
		each(f)
		if f.Severity == pipeline.Refusal {
			refused++
		}
	}
	return refused
}

// healthy asks another process, for container health checks in images that
// have no shell.
func (c Command) healthy(addr string, stderr io.Writer) int {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + addr + "/readyz")
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok { // it would repeat the address
			err = e.Err
		}
		fmt.Fprintf(stderr, "%s: ask %s whether it is ready: %v: is it running, and is this its admin address?\n", c.Name, addr, err)
		return ExitRuntime
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(stderr, io.LimitReader(resp.Body, 4096))
		return ExitRuntime
	}
	return ExitOK
}

func version() string {
	v := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return v
}
