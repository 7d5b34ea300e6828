// Command bench measures the pipeline on real servers that it starts and stops
// itself, beside a plain reader of the same binlog: rows a second, processor
// seconds per million rows and peak memory over a backlog, and the latency from
// a commit to its first delete under a steady load. docs/benchmarks.md says how,
// and what the figures do not say. It measures; it passes and fails nothing.
package main

import (
	"context"
	"encoding/json"
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
)

// options are the command line.
type options struct {
	rows    int
	logs    []string // embedded, kafka
	latency time.Duration
	json    bool
	gate    bool // measure what the gate costs, and nothing else
	replay  bool // measure a replay, and nothing else
	// replayFlags go to the command replay.
	replayFlags []string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == readerCommand {
		os.Exit(readerMain(os.Args[2:], os.Stdout, os.Stderr))
	}
	os.Exit(benchMain(os.Args[1:], os.Stdout, os.Stderr))
}

func benchMain(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if o.gate {
		return printed(gateMain(ctx, o, newProgress(stderr), stdout), stderr)
	}
	if o.replay {
		return printed(replayMain(ctx, o, newProgress(stderr), stdout), stderr)
	}
	r, err := measure(ctx, o, newProgress(stderr))
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return printed(o.write(stdout, r), stderr)
}

// write writes a report as a table, or as JSON.
func (o options) write(out io.Writer, r interface{ print(io.Writer) error }) error {
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(r)
	}
	return r.print(out)
}

// printed is the exit code for err.
func printed(err error, stderr io.Writer) int {
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.rows, "rows", 200_000, "row events in the backlog, rounded up to whole rounds of 250; 1000001 for figures to be published")
	log := fs.String("log", "both", "which log is measured: embedded, kafka or both")
	seconds := fs.Int("latency-seconds", 10, "how long the latency is measured with each log; 0 leaves it out")
	fs.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	fs.BoolVar(&o.gate, "gate", false, "measure what the gates cost instead: first deletes with and without them, and the questions that each reader is asked")
	fs.BoolVar(&o.replay, "replay", false, "measure a replay of a table of -rows rows instead: keys a minute, what live deletes feel of it, and what kills cost")
	replayFlags := fs.String("replay-flags", "", "more `flags` for the command replay, such as \"-rate 20000\"")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.replayFlags = strings.Fields(*replayFlags)
	o.latency = time.Duration(*seconds) * time.Second
	o.logs = []string{*log}
	if *log == "both" {
		o.logs = []string{logEmbedded, logKafka}
	}
	switch {
	case fs.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.rows < 1 || *seconds < 0:
		return o, errors.New("-rows must be 1 or more, and -latency-seconds not negative")
	case !slices.Contains([]string{logEmbedded, logKafka}, o.logs[0]):
		return o, fmt.Errorf("-log %q is none of embedded, kafka, both", *log)
	}
	return o, nil
}

const (
	logEmbedded = "embedded"
	logKafka    = "kafka"
)

// measure runs everything. The plain reader runs before and after the programs,
// and the faster of its runs is what they are compared with: what the machine
// does beside it then counts against the programs.
func measure(ctx context.Context, o options, p *progress) (r *report, err error) {
	w, err := openWorld(ctx, slices.Contains(o.logs, logKafka), p)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return nil, err
	}
	b, err := w.writeBacklog(ctx, o.rows)
	if err != nil {
		return nil, err
	}
	r = &report{Machine: machine(w.env.Describe()), Rows: b.rows, BytesPerRow: b.bytesPerRow()}
	plain, err := w.plainReader(ctx, b)
	if err != nil {
		return nil, err
	}
	for _, log := range o.logs {
		rs, err := w.measureLog(ctx, log, b, o.latency)
		if err != nil {
			return nil, err
		}
		r.Results = append(r.Results, rs...)
	}
	again, err := w.plainReader(ctx, b)
	if err != nil {
		return nil, err
	}
	if again.RowsPerSecond > plain.RowsPerSecond {
		plain = again
	}
	r.Results = append([]result{plain}, r.Results...)
	for i := range r.Results {
		r.Results[i].Ratio = r.Results[i].RowsPerSecond / plain.RowsPerSecond
	}
	r.Machine.LoadAfter = loadAverage()
	return r, nil
}
