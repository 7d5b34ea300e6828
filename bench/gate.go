package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
)

// gateReport is what the gates cost: a line for each log, load and setting.
type gateReport struct {
	Machine machineInfo  `json:"machine"`
	Results []gateResult `json:"results"`
}

type gateResult struct {
	Log  string    `json:"log"`
	Gate bool      `json:"gate"` // at the source and on both readers
	Load string    `json:"load"`
	Q    quantiles `json:"commit_to_first_delete_ms"`
	// Questions are the pipeline's statements a second, by server.
	Primary float64 `json:"primary_statements_per_second"`
	Replica float64 `json:"replica_statements_per_second"`
}

// gateUser is whom the pipeline logs in as, so that its statements can be
// counted apart from the load's.
const gateUser = "gate"

// fastCommits is the load at the server's highest rate.
var fastCommits = load{n: 60_000, warm: 10_000}

// gateMain measures the first deletes at a steady rate and at the highest that
// the server takes, with every gate off and with the source's gate and two
// readers, and counts what the readers are asked.
func gateMain(ctx context.Context, o options, p *progress, out io.Writer) (err error) {
	w, err := openWorld(ctx, slices.Contains(o.logs, logKafka), p)
	defer func() { err = errors.Join(err, w.close()) }()
	if err != nil {
		return err
	}
	w.say("starting a replica")
	replica, err := w.env.MySQL(ctx, testenv.MySQLOptions{Fast: true, ReplicaOf: w.mysql})
	if err != nil {
		return err
	}
	second, err := testenv.OpenDB(replica)
	if err != nil {
		return err
	}
	defer second.Close()
	for _, q := range []string{
		"CREATE USER " + gateUser + "@'%'",
		"GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO " + gateUser + "@'%'",
	} {
		if _, err := w.db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("make the pipeline's user: %w", err)
		}
	}
	r := &gateReport{Machine: machine(w.env.Describe())}
	loads := []load{steady(o.latency), fastCommits}
	if o.rows < loads[1].n { // a short run
		loads[1] = load{n: o.rows, warm: o.rows / 5}
	}
	for _, log := range o.logs {
		for _, l := range loads {
			for _, gate := range []bool{false, true} {
				x, err := w.measureGate(ctx, log, l, gate, second, replica.Addr)
				if err != nil {
					return err
				}
				r.Results = append(r.Results, x)
			}
		}
	}
	r.Machine.LoadAfter = loadAverage()
	return o.write(out, r)
}

func (w *world) measureGate(ctx context.Context, log string, l load, gate bool, replica *sql.DB, addr string) (x gateResult, err error) {
	x = gateResult{Log: log, Gate: gate, Load: "highest rate"}
	if l.rate > 0 {
		x.Load = fmt.Sprintf("%d commits/s", l.rate)
	}
	w.say("%s, %s, gate %s", log, x.Load, onOff(gate))
	source, deletes := "user: "+gateUser+", start: current, gate: false", "fill: 1s"
	if gate {
		source = "user: " + gateUser + ", start: current"
		deletes = fmt.Sprintf("fill: 1s, readers: [%q, %q]", w.mysql.Addr, addr)
	}
	r, err := w.newRunWith(log, source, deletes)
	if err != nil {
		return x, err
	}
	g, err := w.startAll(ctx, r)
	defer func() { err = errors.Join(err, g.stop()) }()
	if err != nil {
		return x, err
	}
	before, err := asked(ctx, w.db, replica)
	if err != nil {
		return x, err
	}
	began := time.Now()
	if x.Q, err = w.commitLoad(ctx, l); err != nil {
		return x, fmt.Errorf("measure with the gate %s: %w", onOff(gate), err)
	}
	took := time.Since(began).Seconds()
	after, err := asked(ctx, w.db, replica)
	if err != nil {
		return x, err
	}
	x.Primary, x.Replica = (after[0]-before[0])/took, (after[1]-before[1])/took
	w.say("  %.0f commits/s, p50 %.1f ms, p99 %.1f ms; %.0f and %.0f statements/s", x.Q.Rate, x.Q.P50, x.Q.P99, x.Primary, x.Replica)
	return x, nil
}

// asked returns how many statements the pipeline has sent to each server.
func asked(ctx context.Context, servers ...*sql.DB) (n []float64, err error) {
	for _, db := range servers {
		var count float64
		err := db.QueryRowContext(ctx, `SELECT COALESCE(SUM(COUNT_STAR), 0)
			FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE USER = ?`, gateUser).Scan(&count)
		if err != nil {
			return nil, fmt.Errorf("count the pipeline's statements: %w", err)
		}
		n = append(n, count)
	}
	return n, nil
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func (r *gateReport) print(out io.Writer) error {
	m := r.Machine
	fmt.Fprintf(out, "%d cores shared with the servers, %s, %s; %s\n", m.Cores, m.OS, m.Go, m.Servers)
	fmt.Fprintf(out, "load average before %s, after %s\n\n", m.LoadBefore, m.LoadAfter)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprint(w, "log\tload\tgate\tcommits/s\tcommit → first delete p50 ms\tp99 ms\tstatements/s on the primary\ton the replica\t\n")
	for _, x := range r.Results {
		lost := ""
		if x.Q.Lost > 0 {
			lost = fmt.Sprintf(" (%d not seen)", x.Q.Lost)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%.0f\t%.1f\t%.1f%s\t%.1f\t%.1f\t\n",
			x.Log, x.Load, onOff(x.Gate), x.Q.Rate, x.Q.P50, x.Q.P99, lost, x.Primary, x.Replica)
	}
	return w.Flush()
}
