package model

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
)

var large = flag.Bool("large", false, "also explore larger bounds (about a minute, and 1.5 GB)")

// limit keeps a bound that was raised by mistake from eating the machine.
const limit = 10_000_000

// table prints what was explored when all of it has been.
var table = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if testing.Verbose() {
		table.Flush()
	}
	os.Exit(code)
}

// instance is a configuration with a name.
type instance struct {
	name string
	config
}

// explore runs an instance, and adds it to the table.
func (in instance) explore(check func(*state) error) Result[state] {
	res := Explore(in.system(check), limit)
	verdict := "holds"
	if res.Err != nil {
		verdict = fmt.Sprintf("counterexample of %d steps: %v", len(res.Trace)-1, res.Err)
	}
	fmt.Fprintf(table, "%s\t%d states\t%d quiet\t%s\n", in.name, res.States, res.Quiet, verdict)
	return res
}

var (
	one   = [2]uint8{1, 0}
	two   = [2]uint8{1, 1}
	three = [2]uint8{2, 1}
	four  = [2]uint8{2, 2}
)

// intact returns instances in which nothing is left out.
func intact() []instance {
	rows := []instance{
		{"plain", config{writes: three, fillers: 2, fills: 1, replica: true, skip: true}},
		{"plain, fillers that come again", config{writes: two, fillers: 2, fills: 2, replica: true, skip: true}},
		{"plain, this version: fill after the event", config{writes: three, fillers: 2, fills: 1, fromEvent: true, skip: true}},
		{"plain, this version, invalidator crashes", config{writes: two, fillers: 2, fills: 1, fromEvent: true, skip: true, faults: faults{crash: 2}}},
		{"plain, this version, tailer crashes", config{writes: two, fillers: 2, fills: 1, fromEvent: true, faults: faults{tailerCrash: 1}}},
		{"plain, this version, log loses what was not synced", config{writes: two, fillers: 1, fills: 1, fromEvent: true, faults: faults{osCrash: 1}}},
		{"plain, this version, log loses its tail", config{writes: one, fillers: 2, fills: 1, fromEvent: true, faults: faults{logLoss: 1}}},
		{"plain, this version, source fails over to a standby", config{writes: two, fillers: 1, fills: 1, fromEvent: true, standby: true, faults: faults{source: 1}}},
		{"plain, invalidator crashes", config{writes: two, fillers: 2, fills: 1, replica: true, skip: true, faults: faults{crash: 1}}},
		{"plain, tailer crashes", config{writes: two, fillers: 2, fills: 1, replica: true, faults: faults{tailerCrash: 1}}},
		{"plain, Redis stalls", config{writes: two, fillers: 2, fills: 1, replica: true, skip: true, faults: faults{stall: 1}}},
		{"plain, Redis fails over, invalidator crashes", config{writes: two, fillers: 1, fills: 1, faults: faults{redis: 1, crash: 1}}},
		{"plain, Redis fails over twice", config{writes: two, fillers: 2, fills: 1, faults: faults{redis: 2}}},
		{"plain, replica leaves and returns", config{writes: two, fillers: 2, fills: 1, replica: true, skip: true, faults: faults{leave: 1}}},
		{"plain, replica leaves twice, invalidator crashes", config{writes: two, fillers: 1, fills: 1, replica: true, faults: faults{leave: 2, crash: 1}}},
		{"plain, replica leaves and is restored", config{writes: two, fillers: 1, fills: 1, replica: true, faults: faults{leave: 1, restore: 1}}},
		{"plain, source fails over, tailer crashes", config{writes: two, fillers: 1, fills: 1, replica: true, faults: faults{source: 1, tailerCrash: 1}}},
		{"plain, source fails over, invalidator crashes", config{writes: one, fillers: 2, fills: 1, replica: true, faults: faults{source: 1, crash: 1}}},
		{"plain, log loses what was not synced", config{writes: two, fillers: 1, fills: 1, replica: true, faults: faults{osCrash: 1}}},
		{"plain, log loses its tail", config{writes: one, fillers: 2, fills: 1, replica: true, faults: faults{logLoss: 1}}},
		{"plain, log loses its tail, invalidator crashes", config{writes: one, fillers: 1, fills: 1, replica: true, faults: faults{logLoss: 1, crash: 1}}},
	}
	for _, f := range []struct {
		name   string
		writes [2]uint8
		faults faults
	}{
		{"lease", three, faults{}},
		{"lease, invalidator crashes", two, faults{crash: 1}},
		{"lease, tailer crashes", two, faults{tailerCrash: 1}},
		{"lease, Redis fails over", two, faults{redis: 1}},
		{"lease, Redis stalls", two, faults{stall: 1}},
		{"lease, replica leaves and returns", two, faults{leave: 1}},
		{"lease, source fails over", one, faults{source: 1}},
		{"lease, log loses its tail", one, faults{logLoss: 1}},
		{"lease, a request for it is lost", two, faults{request: 1}},
	} {
		rows = append(rows, instance{f.name, config{
			writes: f.writes, fillers: 2, fills: 1, replica: f.faults.redis == 0, lease: true, late: true, skip: true, faults: f.faults,
		}})
	}
	if *large {
		rows = append(rows,
			instance{"large: plain", config{writes: four, fillers: 2, fills: 1, replica: true, skip: true}},
			instance{"large: lease", config{writes: four, fillers: 2, fills: 1, replica: true, lease: true, late: true, skip: true}},
			instance{"large: plain, source fails over", config{writes: two, fillers: 2, fills: 1, replica: true, faults: faults{source: 1}}},
			instance{"large: lease, source fails over", config{writes: two, fillers: 2, fills: 1, replica: true, lease: true, late: true, faults: faults{source: 1}}},
			instance{"large: plain, log loses its tail", config{writes: two, fillers: 1, fills: 1, replica: true, faults: faults{logLoss: 1}}},
		)
	}
	return rows
}

// The protocol holds in every order of its steps, with each fault.
func TestProtocolHolds(t *testing.T) {
	for _, in := range intact() {
		t.Run(in.name, func(t *testing.T) {
			fresh := 0 // quiet states in which a fill of the newest version was kept
			res := in.explore(func(s *state) error {
				if s.visible != 0 && s.key == value(s.visible) && in.quiet(s) {
					fresh++
				}
				return in.check(s)
			})
			if res.Err != nil {
				t.Fatalf("%v\n%s", res.Err, in.show(res.Trace))
			}
			if fresh == 0 {
				t.Error("no fill is ever kept: the model shows nothing")
			}
		})
	}
}

const stale = "stale for good"

// breaks expects a counterexample, and logs it.
func breaks(t *testing.T, want string, instances ...instance) {
	t.Helper()
	for _, in := range instances {
		t.Run(in.name, func(t *testing.T) {
			check := in.check
			if want == stale {
				in.goOn, check = true, in.checkQuiet // until it is certain that nobody mends it
			}
			res := in.explore(check)
			if res.Err == nil || !strings.Contains(res.Err.Error(), want) {
				t.Fatalf("found %v in %d states, want %q\n%s", res.Err, res.States, want, in.show(res.Trace))
			}
			t.Logf("%v\n%s", res.Err, in.show(res.Trace))
		})
	}
}

func TestWithoutGate(t *testing.T) {
	w := parts{gate: true}
	breaks(t, stale,
		instance{"plain without any gate", config{writes: one, fillers: 1, fills: 1, fromEvent: true, without: w}},
		instance{"lease without any gate", config{writes: one, fillers: 1, fills: 1, fromEvent: true, lease: true, without: w}},
		instance{"plain without the gate on replicas", config{writes: one, fillers: 1, fills: 1, fromEvent: true, replica: true}},
		instance{"lease without the gate on replicas", config{writes: one, fillers: 1, fills: 1, fromEvent: true, replica: true, lease: true}},
	)
	early := instance{"plain without the tailer's gate", config{writes: one, fillers: 1, fills: 1, replica: true, without: w}}
	breaks(t, "before the source showed", early)
	early.goOn = true
	if res := Explore(early.system(early.checkQuiet), limit); res.Err != nil {
		t.Errorf("the second delete does not mend an early first one: %v\n%s", res.Err, early.show(res.Trace))
	}
	breaks(t, "I6",
		instance{"I6 without the gate on replicas", config{writes: one, fillers: 1, fills: 1, fromEvent: true, replica: true}},
	)
}

func TestWithoutSecondDelete(t *testing.T) {
	w := parts{second: true}
	breaks(t, stale,
		instance{"plain without the second delete", config{writes: one, fillers: 1, fills: 1, without: w}},
		instance{"lease without the second delete, on a replica", config{writes: one, fillers: 1, fills: 1, replica: true, lease: true, without: w}},
	)
}

func TestWithoutLease(t *testing.T) {
	breaks(t, stale,
		instance{"plain, a filler slower than fill", config{writes: one, fillers: 1, fills: 1, late: true}},
		instance{"lease that is not compared", config{writes: one, fillers: 1, fills: 1, lease: true, late: true, without: parts{compare: true}}},
	)
	breaks(t, "I7",
		instance{"lease asked for again with the same token", config{writes: one, fillers: 1, fills: 1, lease: true, faults: faults{request: 1}, without: parts{freshToken: true}}},
	)
	breaks(t, stale,
		instance{"the same, to its end", config{writes: one, fillers: 1, fills: 1, lease: true, faults: faults{request: 1}, without: parts{freshToken: true}}},
	)
}

// The textbook: delete at the event and again after a fixed delay, from a timer
// in memory. It fails even where a commit is visible at once.
func TestTextbookDoubleDelete(t *testing.T) {
	textbook := config{writes: one, fillers: 1, fills: 1, fromEvent: true, without: parts{gate: true, durable: true}}
	crash := textbook
	crash.faults.crash = 1
	crash.without.invisible = true
	replica := textbook
	replica.replica = true
	replica.without.invisible = true
	breaks(t, stale,
		instance{"textbook", textbook},
		instance{"textbook, commits visible at once, a crash", crash},
		instance{"textbook, commits visible at once, a replica", replica},
	)
}

// Each fault bites where its answer is left out.
func TestFaultsNeedTheirAnswers(t *testing.T) {
	with := func(f faults, w parts) config {
		return config{writes: one, fillers: 1, fills: 1, replica: true, faults: f, without: w}
	}
	early := with(faults{crash: 1}, parts{acks: true})
	unsynced := with(faults{osCrash: 1}, parts{synced: true, logGap: true})
	unsynced.replica = false
	older := with(faults{leave: 1, restore: 1}, parts{older: true})
	older.writes = two
	breaks(t, "I1", instance{"cursors stored before the reply", early})
	answers := []instance{
		{"cursors stored before the reply, to its end", early},
		{"a replica returns, nothing is repeated", with(faults{leave: 1}, parts{repeat: true})},
		{"a replica returns, timers go on", with(faults{leave: 1}, parts{timers: true})},
		{"a replica is restored, nothing is repeated", with(faults{restore: 1}, parts{history: true})},
		{"a replica leaves and is restored, repeated from where it left", older},
		{"the source fails over, nothing is swept", with(faults{source: 1}, parts{sweep: true})},
		{"Redis fails over, nothing is deleted again", with(faults{redis: 1}, parts{redo: true})},
		{"Redis fails over, its run id was forgotten", with(faults{redis: 1, crash: 1}, parts{runID: true})},
		{"Redis stalls, slow deletes count", with(faults{stall: 1}, parts{slow: never})},
		{"Redis stalls, deletes with a short round trip count", with(faults{stall: 1}, parts{slow: ownTrip})},
		{"the log loses its tail, cursors and position are kept", with(faults{logLoss: 1}, parts{logGap: true})},
		{"the log loses its tail, only cursors notice", with(faults{logLoss: 1}, parts{logEnd: true})},
		{"the log loses what was not synced, and was counted on", unsynced},
	}
	breaks(t, stale, answers...)
	waits := instance{"lost transactions are waited for", with(faults{source: 1}, parts{lost: true})}
	breaks(t, "stuck", waits)
	for _, in := range append(answers, waits) {
		in.without = parts{}
		if res := Explore(in.system(in.check), limit); res.Err != nil {
			t.Errorf("%s: it is not the answer that is missing: %v\n%s", in.name, res.Err, in.show(res.Trace))
		}
	}
}
