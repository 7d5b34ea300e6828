package wire

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
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
		return healthy(o.healthy, stderr)
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
	fs.SetOutput(stderr)
	fs.StringVar(&o.config, "config", "", "the configuration `file` (docs/configuration.md)")
	fs.BoolVar(&o.check, "check", false, "run the preflight, print every finding and the configuration in effect, and exit")
	fs.StringVar(&o.admin, "admin", "", "listen for health and metrics at this `address` instead of admin.listen")
	fs.StringVar(&o.healthy, "healthy", "", "ask the process with this admin `address` whether it is ready, and exit 0 or 1")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "%s %s\n\nUsage:\n  %s -config doubletap.yaml [-check] [-admin host:port]\n\n", c.Name, c.Synopsis, c.Name)
		fs.PrintDefaults()
		fmt.Fprint(fs.Output(), "\nExit codes: 0 stopped in order, 1 failed, 2 usage, configuration or preflight,\n3 position lost and source.on_gap is \"stop\".\n")
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, ExitOK, false
	case err != nil:
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

// check prints the findings and the configuration in effect.
func (c Command) check(ctx context.Context, a *App, stdout io.Writer) int {
	findings := c.Check(ctx, a, false)
	refused := report(findings, func(f pipeline.Finding) { fmt.Fprintln(stdout, f) })
	fmt.Fprintf(stdout, "\nThe configuration in effect:\n\n%s\n", a.Config.Redacted())
	if refused > 0 {
		fmt.Fprintf(stdout, "%s would refuse to start: %d of %d findings must be fixed first.\n", c.Name, refused, len(findings))
		return ExitUsage
	}
	fmt.Fprintf(stdout, "%s can start.\n", c.Name)
	return ExitOK
}

func (c Command) run(ctx context.Context, a *App) int {
	findings := c.Check(ctx, a, true)
	if ctx.Err() != nil {
		return ExitOK
	}
	refused := report(findings, func(f pipeline.Finding) {
		switch f.Severity {
		case pipeline.Refusal:
			a.Log.Error("preflight: "+f.Check+": "+f.Problem, "fix", f.Fix)
		case pipeline.Warning:
			a.Log.Warn("preflight: "+f.Check+": "+f.Problem, "fix", f.Fix)
		default:
			a.Log.Info("preflight: " + f.Check + ": " + f.Problem)
		}
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
func healthy(addr string, stderr io.Writer) int {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get("http://" + addr + "/readyz")
	if err != nil {
		fmt.Fprintln(stderr, err)
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
