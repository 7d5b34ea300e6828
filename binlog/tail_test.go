package binlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
)

// tail follows a server with a source, as the engine does: it runs the source
// again when it ends, behind what was delivered.
type tail struct {
	t      testing.TB
	cfg    Config
	source pipeline.Source

	mu     sync.Mutex
	pos    pipeline.Position
	txns   []seenTxn
	open   *seenTxn
	cut    int     // transactions that came again from their start
	errs   []error // of each Run
	change chan struct{}
	held   <-chan struct{} // the next batch waits for it
	notice func()          // called before each batch
}

// onBatch has fn called before each batch.
func (w *tail) onBatch(fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notice = fn
}

// seenTxn is a transaction as it was delivered.
type seenTxn struct {
	pipeline.Txn
	batches int
	largest int // rows in the largest batch
	rows    int
	changes []string     // the first thousand
	after   []keys.Value // of the newest row
	scopes  []string
	reason  string
	xa      pipeline.XAStep // of the last batch
	xid     string
}

var nextServerID atomic.Uint32

// tailConfig is the configuration of a source in a test. The schema is what
// stands under keys:.
func tailConfig(t testing.TB, s *testenv.Server, driver, schema string) Config {
	t.Helper()
	parsed, err := keys.Parse("test.yaml", []byte("version: 1\nkeys:\n"+schema))
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Name: "test", Addr: s.Addr, User: "root", ServerID: 3_000_000_000 + nextServerID.Add(1), Driver: driver, Schema: parsed,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// rule is one rule of a test schema: a key of these columns.
func rule(name, table string, columns ...string) string {
	key := name
	for _, c := range columns {
		key += ":{" + c + "}"
	}
	return fmt.Sprintf("  - name: %s\n    table: %q\n    key: %q\n", name, table, key)
}

// newTail starts to follow a server from now on.
func newTail(t testing.TB, cfg Config) *tail {
	t.Helper()
	return newTailFrom(t, cfg, "current")
}

func newTailFrom(t testing.TB, cfg Config, start string) *tail {
	t.Helper()
	srv, err := Detect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	source, err := NewSource(cfg, srv)
	if err != nil {
		t.Fatal(err)
	}
	w := &tail{t: t, cfg: cfg, source: source, change: make(chan struct{})}
	if w.pos, err = source.Start(t.Context(), start); err != nil {
		t.Fatal(err)
	}
	return w
}

// run follows in the background until the test ends or stop is called.
func (w *tail) run() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			w.once(ctx)
		}
	})
	stop = func() { cancel(); wg.Wait() }
	w.t.Cleanup(stop)
	return stop
}

// once runs the source until it ends.
func (w *tail) once(ctx context.Context) error {
	err := w.source.Check(ctx, w.position())
	if err == nil {
		err = w.source.Run(ctx, w.position(), w.batch)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.open != nil {
		w.cut++
	}
	w.open = nil
	if ctx.Err() == nil {
		w.errs = append(w.errs, err)
		w.t.Logf("the source ended: %v", err)
		w.wake()
	}
	if gap, ok := errors.AsType[*pipeline.GapError](err); ok {
		w.pos = gap.Next
	}
	return err
}

func (w *tail) wake() {
	close(w.change)
	w.change = make(chan struct{})
}

func (w *tail) position() pipeline.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pos
}

func (w *tail) batch(_ context.Context, b pipeline.Batch) error {
	w.mu.Lock()
	held, notice := w.held, w.notice
	w.mu.Unlock()
	if held != nil {
		<-held
	}
	if notice != nil {
		notice()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.First != (w.open == nil) {
		w.t.Errorf("%s: First is %v, a transaction is open: %v", b.Txn.GTID, b.First, w.open != nil)
	}
	if w.open == nil {
		w.open = &seenTxn{Txn: b.Txn}
	}
	w.open.take(b)
	if !b.Last {
		return nil
	}
	next, err := w.source.Advance(w.pos, []string{b.Txn.GTID})
	if err != nil {
		return err
	}
	w.pos = next
	w.txns = append(w.txns, *w.open)
	w.open = nil
	w.wake()
	return nil
}

func (s *seenTxn) take(b pipeline.Batch) {
	s.batches++
	s.xa, s.xid = b.XA, b.XID
	held := ""
	if b.XA == pipeline.XAHeld || b.XA == pipeline.XAPrepare {
		held = "held "
	}
	n := 0
	for _, t := range b.Tables {
		for _, r := range t.Rows {
			s.after = slices.Clone(r.After)
			if n++; len(s.changes) < 1000 {
				s.changes = append(s.changes, held+t.Table+": "+imageText(r.Before)+" -> "+imageText(r.After))
			}
		}
	}
	s.rows += n
	s.largest = max(s.largest, n)
	for _, sc := range b.Invalidate {
		s.scopes = append(s.scopes, held+sc.DB+"."+sc.Table)
	}
	if b.Reason != "" {
		s.reason += b.Reason
	}
}

func imageText(vals []keys.Value) string {
	if vals == nil {
		return "-"
	}
	texts := make([]string, len(vals))
	for i, v := range vals {
		switch v.Kind {
		case keys.Absent:
			texts[i] = "?"
		case keys.Null:
			texts[i] = "NULL"
		case keys.Number:
			texts[i] = v.Text
		default:
			texts[i] = fmt.Sprintf("%q", v.Text)
		}
	}
	return "(" + strings.Join(texts, ", ") + ")"
}

const tailPatience = 60 * time.Second

// wait blocks until ok holds, which is asked after each transaction.
func (w *tail) wait(what string, ok func() bool) {
	w.t.Helper()
	limit := time.After(tailPatience)
	for {
		w.mu.Lock()
		done, change := ok(), w.change
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-limit:
			w.t.Fatalf("waited %v for %s; %d transactions came", tailPatience, what, len(w.txns))
		}
	}
}

// catchUp waits until everything that the server has executed was delivered,
// and returns the transactions with something in them that came since the last
// call.
func (w *tail) catchUp() []seenTxn {
	w.t.Helper()
	s, err := openSession(w.t.Context(), w.cfg, readTimeout)
	if err != nil {
		w.t.Fatal(err)
	}
	defer s.close()
	flavor, err := flavorOf(w.t.Context(), s)
	if err != nil {
		w.t.Fatal(err)
	}
	now, err := readState(w.t.Context(), s, flavor)
	if err != nil {
		w.t.Fatal(err)
	}
	w.wait("everything up to "+now.executed.String(), func() bool {
		pos, _ := parsePosition(w.pos)
		set, err := parseSet(pos.Flavor, pos.Set)
		return err == nil && set.contains(now.executed)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	txns := slices.DeleteFunc(w.txns, func(x seenTxn) bool { return x.rows == 0 && len(x.scopes) == 0 && x.xa == "" })
	w.txns = nil
	return txns
}
