// Command races makes cache fills and commits race on real servers, counts the
// races exactly, and looks after each round for values that are older than their
// row. docs/races.md describes it.
//
// -demo prints a table instead: a few hazards, one after the other, and how many
// keys each way to invalidate leaves stale.
//
// It exits with 0 only if every cache that must not have a stale key had none.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// quietly is a log of nothing.
type quietly struct{}

func (quietly) Printf(context.Context, string, ...any) {}

type flags struct {
	settings
	races int64
	state string
	// latency says that first deletes are measured with a replica stopped, at the
	// end of the run.
	latency bool
	demo    bool
	log     string
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	redis.SetLogger(quietly{}) // a frozen Redis is not worth thousands of lines
	f, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "races:", err)
		return 2
	}
	var ok bool
	if f.demo {
		ok, err = demo(ctx, f.Caches, f.Kafka, stdout)
	} else {
		ok, err = races(ctx, f, stdout)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(stderr, "interrupted; everything was stopped")
		return 1
	case err != nil:
		fmt.Fprintln(stderr, "races:", err)
		return 1
	case !ok:
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (f flags, err error) {
	fs := flag.NewFlagSet("races", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Int64Var(&f.races, "races", 200_000, "how many races to run, of all caches together")
	fs.Int64Var(&f.Batch, "batch", 20_000, "how many races make a batch")
	fs.StringVar(&f.state, "state", "", "keep the run's state in this `file`, and go on from it")
	fs.Uint64Var(&f.Seed, "seed", 1, "of everything random")
	fs.IntVar(&f.Lanes, "lanes", 64, "how many rounds run at a time")
	fs.IntVar(&f.Keys, "keys", 150, "how many keys a round has")
	fs.DurationVar(&f.Fill, "fill", time.Second, "second_delete.fill")
	fs.BoolVar(&f.latency, "latency", false, "measure first deletes with the replica stopped for 30 s, after the races")
	fs.BoolVar(&f.demo, "demo", false, "print the table of hazards")
	fs.StringVar(&f.log, "log", "kafka", "where events are kept: embedded or kafka")
	caches := fs.String("caches", "", "which caches, of "+strings.Join(names, ",")+"; none given: all for -demo, else "+strings.Join(mustNot, ","))
	kinds := fs.String("faults", strings.Join([]string{stall, calm, calm, lagging, calm, calm, freeze, calm, calm, kill, calm, calm}, ","), "the batches' faults in turn")
	if err := fs.Parse(args); err != nil {
		return f, err
	}
	if *caches == "" {
		*caches = strings.Join(map[bool][]string{true: names, false: mustNot}[f.demo], ",")
	}
	f.Caches, f.Faults, f.Kafka = strings.Split(*caches, ","), strings.Split(*kinds, ","), f.log == "kafka"
	switch {
	case fs.NArg() > 0:
		return f, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case f.log != "kafka" && f.log != "embedded":
		return f, fmt.Errorf("-log is embedded or kafka, not %q", f.log)
	case f.Lanes < 1 || f.Keys < 4 || f.Batch < 1:
		return f, errors.New("-lanes and -batch must be at least 1, and -keys at least 4")
	}
	return f, errors.Join(known("-caches", f.Caches, names), known("-faults", f.Faults, faults))
}

func known(name string, list, all []string) error {
	for _, s := range list {
		if !slices.Contains(all, s) {
			return fmt.Errorf("%s: %q is none of %s", name, s, strings.Join(all, ", "))
		}
	}
	return nil
}

// races runs batches until there are as many races as were asked for.
func races(ctx context.Context, f flags, out io.Writer) (ok bool, err error) {
	st, err := resume(f.state, f.settings)
	if err != nil {
		return false, err
	}
	if st.races() < f.races || f.latency && st.Replica == nil {
		if err := race(ctx, f, st, out); err != nil {
			return false, err
		}
	}
	return report(out, st), nil
}

func race(ctx context.Context, f flags, st *state, out io.Writer) (err error) {
	w := &world{fill: f.Fill, keys: f.Lanes * f.Keys, kafka: f.Kafka, outage: replicaStops, say: func(format string, args ...any) { fmt.Fprintf(out, "  "+format+"\n", args...) }}
	if err := open(ctx, w, f.Caches); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	lanes := newLanes(f.Lanes, f.Keys)
	header(out)
	for st.races() < f.races {
		n := len(st.Batches)
		b := batch{number: n, seed: f.Seed, fault: f.Faults[n%len(f.Faults)], races: min(f.Batch, f.races-st.races())}
		if b.fault != calm {
			b.least = min(replicaStops+10*time.Second, time.Duration(b.races)*time.Millisecond)
			b.most = replicaStops + 15*time.Second
		}
		o, err := w.run(ctx, lanes, b)
		if err != nil {
			return wrap(fmt.Sprintf("batch %d", n), err)
		}
		st.Batches = append(st.Batches, o)
		if err := st.save(f.state); err != nil {
			return err
		}
		line(out, st)
	}
	if f.latency && st.Replica == nil {
		w.say("first deletes, with the replica at work and then stopped for %s", replicaStops)
		s, err := w.stopReplicaAndMeasure(ctx, latencyCalm, replicaStops)
		if err != nil {
			return wrap("measure first deletes", err)
		}
		st.Replica = &s
	}
	return st.save(f.state)
}
