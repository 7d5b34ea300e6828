package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// TestBinlogKilledAnywhere: connections that break, processes that are killed
// behind any chunk: every row comes, and nothing twice but what was in a chunk
// whose cursor was not stored.
func TestBinlogKilledAnywhere(t *testing.T) { synctest.Test(t, testKilledAnywhere) }

func testKilledAnywhere(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 7))
		f := &fakeBinlog{}
		next := 0
		for range 1 + rng.IntN(60) {
			n := rng.IntN(40)
			if rng.IntN(10) == 0 {
				n = rng.IntN(9000)
			}
			f.txns = append(f.txns, fakeTxn{rows: n, from: next})
			next += n
		}
		f.executed = len(f.txns)
		f.cut = func() bool { return rng.IntN(1500) == 0 }
		killed := errors.New("killed")
		var got []string
		cursor := replay.Cursor("")
		p := f.open(t, BinlogSpec{})
		for done := false; !done; {
			stored := rng.IntN(3) > 0 // else it was killed before its cursor was stored
			left := rng.IntN(4)
			err := p.reopen().Read(t.Context(), cursor, func(_ context.Context, c replay.Chunk) error {
				if left--; left < 0 {
					if stored {
						got, cursor = append(got, said(c)...), c.Next
					}
					return killed
				}
				got, cursor = append(got, said(c)...), c.Next
				return nil
			})
			if done = err == nil; err != nil && err != killed {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if !slices.Equal(got, inserts(0, next)) {
			t.Errorf("seed %d: %d of %d rows, first %s", seed, len(got), next, got[:min(len(got), 5)])
		}
	}
}

// TestBinlogLargeTransaction: one of two million rows passes in flat memory, and
// is gone on with inside.
func TestBinlogLargeTransaction(t *testing.T) {
	const rows = 2_000_000
	f := &fakeBinlog{txns: []fakeTxn{{rows: rows}}, executed: 1}
	p := f.open(t, BinlogSpec{})
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	base, chunks, n := m.HeapAlloc, 0, int64(0)
	var middle replay.Cursor
	err := p.source.Read(t.Context(), "", func(_ context.Context, c replay.Chunk) error {
		if n += c.Rows; n == rows/2 {
			middle = c.Next
		}
		if chunks++; chunks%100 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			if grown := int64(m.HeapAlloc) - int64(base); grown > 8<<20 {
				t.Fatalf("the heap grew by %d MB after %d rows", grown>>20, n)
			}
		}
		return nil
	})
	if err != nil || n != rows || chunks < rows/chunkRows/2 || middle == "" {
		t.Fatalf("%d rows in %d chunks: %v", n, chunks, err)
	}
	first := ""
	err = p.reopen().Read(t.Context(), middle, func(_ context.Context, c replay.Chunk) error {
		first = said(c)[0]
		return errBinlogStuck // any error
	})
	if first != "+1000000" || err != errBinlogStuck {
		t.Errorf("goes on at %s: %v", first, err)
	}
}

// TestBinlogEnds: the end is where all of the range was seen, with the stream
// idle behind it or not; what never comes is an error and no endless wait.
func TestBinlogEnds(t *testing.T) { synctest.Test(t, testEnds) }

func testEnds(t *testing.T) {
	one := func(n int) fakeTxn { return fakeTxn{rows: 1, from: n} }
	f := &fakeBinlog{txns: []fakeTxn{one(0), one(1), one(2), one(3), one(4)}, executed: 3}
	p := f.open(t, BinlogSpec{})
	if got := said(p.read()...); !slices.Equal(got, inserts(0, 3)) {
		t.Errorf("up to now: %s", got)
	}
	f.executed = 5
	for _, c := range []struct {
		spec BinlogSpec
		want []string
	}{
		{BinlogSpec{Set: fakeServer + ":2-4"}, inserts(1, 4)},
		{BinlogSpec{Set: fakeServer + ":5:9-12"}, inserts(4, 5)},
		{BinlogSpec{Set: fakeServer + ":1-4", After: fakeServer + ":1-2"}, inserts(2, 4)},
		{BinlogSpec{Set: fakeServer + ":1-4", After: fakeServer + ":1-4"}, nil},
		{BinlogSpec{After: fakeServer + ":1-2"}, inserts(2, 5)},
	} {
		if got := said(f.open(t, c.spec).read()...); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %s, want %s", c.spec, got, c.want)
		}
	}

	f.txns[3].lost = true
	s, err := OpenBinlog(BinlogDeps{Source: f, Name: "shop", Patience: 50 * time.Millisecond}, BinlogSpec{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []replay.Chunk
	err = s.Read(t.Context(), "", func(_ context.Context, c replay.Chunk) error { got = append(got, c); return nil })
	if !errors.Is(err, errBinlogStuck) || !strings.Contains(err.Error(), "1 transactions of the range have not come ("+fakeServer+":4)") {
		t.Errorf("one never comes: %v", err)
	}
}

// TestBinlogTimes: by commit times, which are not in order.
func TestBinlogTimes(t *testing.T) { synctest.Test(t, testTimes) }

func testTimes(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	txn := func(n, s int) fakeTxn { return fakeTxn{rows: 1, from: n, at: at(s)} }
	f := &fakeBinlog{txns: []fakeTxn{
		txn(0, 0), txn(1, 100), txn(2, 200), txn(3, 150), {rows: 1, from: 4}, txn(5, 300), txn(6, 301), txn(7, 299), txn(8, 400), txn(9, 250),
	}, executed: 10}
	for _, c := range []struct {
		since, until int
		want         []string
	}{
		{200, 300, []string{"+2", "+3", "+4", "+5", "+7"}}, // 3 was committed behind 2; 9 lies more than a minute of clock behind the end
		{0, 100, []string{"+0", "+1"}},                     // 2 lies a minute behind the end: reading is over
		{160, 250, []string{"+2", "+3", "+4"}},
		{500, 600, []string{"+4", "+5", "+7", "+8", "+9"}},
	} {
		got := said(f.open(t, BinlogSpec{Since: at(c.since), Until: at(c.until)}).read()...)
		if c.since == 500 { // behind the transaction of no known time, all is in the range
			c.want = inserts(4, 10)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%d to %d: %s, want %s", c.since, c.until, got, c.want)
		}
	}
	f.mixed = true // then nothing says that all that follows is late, too
	if got, want := said(f.open(t, BinlogSpec{Since: at(200), Until: at(300)}).read()...), []string{"+2", "+3", "+4", "+5", "+7", "+9"}; !slices.Equal(got, want) {
		t.Errorf("of several servers: %s, want %s", got, want)
	}
	if _, err := OpenBinlog(BinlogDeps{Source: f}, BinlogSpec{Since: at(2), Until: at(1)}); err == nil {
		t.Error("a range that ends before it begins is taken")
	}
	if _, err := OpenBinlog(BinlogDeps{Source: f}, BinlogSpec{Until: at(1), Set: fakeServer + ":1"}); err == nil {
		t.Error("times and GTIDs together are taken")
	}
	if _, err := OpenBinlog(BinlogDeps{Source: f}, BinlogSpec{Set: "nonsense"}); err == nil {
		t.Error("nonsense is taken for a GTID set")
	}
}

// TestBinlogXAResumed: whose PREPARE was replayed is remembered in the cursor.
func TestBinlogXAResumed(t *testing.T) { synctest.Test(t, testXAResumed) }

func testXAResumed(t *testing.T) {
	f := &fakeBinlog{txns: []fakeTxn{
		{rows: 5000, xa: pipeline.XAPrepare, xid: "a"}, {rows: 3000, from: 5000},
		{xa: pipeline.XACommit, xid: "a"}, {xa: pipeline.XACommit, xid: "b"}, {xa: pipeline.XARollback, xid: "c"},
	}, executed: 5}
	p := f.open(t, BinlogSpec{})
	want := append(inserts(0, 8000), "!*.*")
	chunks := p.read()
	if got := said(chunks...); !slices.Equal(got, want) {
		t.Fatalf("%d changes, want %d", len(got), len(want))
	}
	before := 0
	for i, c := range chunks {
		before += len(said(c))
		if got := said(p.from(p.reopen(), c.Next)...); !slices.Equal(got, want[before:]) {
			t.Errorf("behind chunk %d: %d changes, want %d", i, len(got), len(want)-before)
		}
	}
	for _, e := range chunks[0].Events {
		if e.GTID != string(upTo(5)) {
			t.Errorf("rows of a PREPARE bear %q", e.GTID)
		}
	}
}

// TestBinlogGaps: another server with the same history is gone on with; a part
// that is lost is an error.
func TestBinlogGaps(t *testing.T) { synctest.Test(t, testGaps) }

func testGaps(t *testing.T) {
	f := &fakeBinlog{txns: []fakeTxn{{rows: 1}, {rows: 1, from: 1}}, executed: 2}
	f.check = &pipeline.GapError{Reason: "another server answers", Next: "@"}
	if got := said(f.open(t, BinlogSpec{}).read()...); !slices.Equal(got, inserts(0, 2)) {
		t.Errorf("behind a failover: %s", got)
	}
	f.check = &pipeline.GapError{Reason: "purged", Next: "@" + upTo(1)}
	err := f.open(t, BinlogSpec{}).source.Read(t.Context(), "", func(context.Context, replay.Chunk) error { return nil })
	if _, ok := errors.AsType[*pipeline.GapError](err); !ok {
		t.Errorf("a gap: %v", err)
	}
	f.check = fmt.Errorf("%w: no", pipeline.ErrFatal)
	if err := f.open(t, BinlogSpec{}).source.Read(t.Context(), "", nil); !errors.Is(err, pipeline.ErrFatal) {
		t.Errorf("what no retry mends: %v", err)
	}
	f.check = errors.New("refused") // passing trouble
	if got := said(f.open(t, BinlogSpec{}).read()...); !slices.Equal(got, inserts(0, 2)) {
		t.Errorf("behind passing trouble: %s", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	f.sent = cancel
	err = f.open(t, BinlogSpec{}).source.Read(ctx, "", func(ctx context.Context, _ replay.Chunk) error { return ctx.Err() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestBinlogPlanOfPurged: a range of which a part is gone is refused, and what is
// left is named.
func TestBinlogPlanOfPurged(t *testing.T) { synctest.Test(t, testPlanOfPurged) }

func testPlanOfPurged(t *testing.T) {
	f := &fakeBinlog{txns: []fakeTxn{{rows: 1}, {rows: 1, from: 1}, {rows: 1, from: 2}}, executed: 3, purged: 2}
	part, err := OpenBinlog(BinlogDeps{Source: f, Name: "shop"}, BinlogSpec{Set: fakeServer + ":2-3"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = part.Plan(t.Context())
	if _, ok := errors.AsType[*pipeline.GapError](err); !ok || !strings.Contains(err.Error(), "1 of the transactions were purged") || !strings.Contains(err.Error(), fakeServer+":3") {
		t.Errorf("a part of it is gone: %v", err)
	}
	p := f.open(t, BinlogSpec{Set: fakeServer + ":3"})
	if got := said(p.read()...); !slices.Equal(got, inserts(2, 3)) {
		t.Errorf("what is left: %s", got)
	}
	var spec BinlogSpec
	if err := json.Unmarshal(p.Fixed, &spec); err != nil || spec.Executed != string(upTo(3)) || spec.From == "" {
		t.Errorf("fixed: %s %v", p.Fixed, err)
	}
	s, err := OpenBinlog(BinlogDeps{Source: f, Name: "shop"}, BinlogSpec{Set: fakeServer + ":1-2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Plan(t.Context()); err == nil || !strings.Contains(err.Error(), "archive") {
		t.Errorf("all of it is gone: %v", err)
	}
	if err := s.Read(t.Context(), "", nil); err == nil {
		t.Error("read without a plan")
	}
	if n := size(gtid.Set{}); n != 0 {
		t.Errorf("%d in the empty set", n)
	}
}
