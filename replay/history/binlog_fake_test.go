package history

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

const fakeServer = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

// fakeTxn is a transaction of a fakeBinlog. Its rows are numbered; the source
// brings them in batches of ten.
type fakeTxn struct {
	rows, from int
	at         time.Time
	xa         pipeline.XAStep
	xid        string
	lost       bool // executed, and never sent
}

// fakeBinlog is a source whose positions are GTID sets. After its transactions
// the stream is idle, as that of a server.
type fakeBinlog struct {
	txns     []fakeTxn
	executed int // transactions executed at Plan; the others come later
	purged   int
	cut      func() bool // ends the connection before a batch; may be nil
	check    error       // of Check, once
	runs     int
	sent     func() // before each batch; may be nil
	mixed    bool   // it is of several servers
}

func fakeGTID(i int) string { return fmt.Sprintf("%s:%d", fakeServer, i+1) }

func upTo(n int) pipeline.Position {
	if n == 0 {
		return ""
	}
	return pipeline.Position(fmt.Sprintf("%s:1-%d", fakeServer, n))
}

func (f *fakeBinlog) GTIDSet(p pipeline.Position) string { return strings.TrimPrefix(string(p), "@") }

func (f *fakeBinlog) Start(_ context.Context, spec string) (pipeline.Position, error) {
	switch spec {
	case "current":
		return "@" + upTo(f.executed), nil
	case "earliest":
		return "@" + upTo(f.purged), nil
	}
	return pipeline.Position("@" + spec), nil
}

func (f *fakeBinlog) Check(context.Context, pipeline.Position) error {
	err := f.check
	f.check = nil
	return err
}

func (f *fakeBinlog) Advance(p pipeline.Position, gtids []string) (pipeline.Position, error) {
	set := parsed(f.GTIDSet(p))
	for _, g := range gtids {
		if err := set.Add(g); err != nil {
			return "", err
		}
	}
	return pipeline.Position("@" + set.String()), nil
}

func (f *fakeBinlog) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	f.runs++
	have := parsed(f.GTIDSet(from))
	vals := make([]keys.Value, 10) // used again, as the real ones do
	rows := make([]pipeline.Row, 10)
	for i, t := range f.txns {
		if have.Has(fakeGTID(i)) || t.lost {
			continue
		}
		for n := 0; n == 0 || n < t.rows; n += 10 {
			if f.cut != nil && f.cut() {
				return errors.New("the connection broke")
			}
			if f.sent != nil {
				f.sent()
			}
			b := pipeline.Batch{Txn: pipeline.Txn{GTID: fakeGTID(i), CommittedAt: t.at}, First: n == 0, Last: n+10 >= t.rows, XA: t.xa}
			if b.Last {
				b.XID = t.xid
			} else if t.xa == pipeline.XAPrepare {
				b.XA = pipeline.XAHeld
			}
			size := min(10, t.rows-n)
			for k := range size {
				vals[k] = keys.Value{Kind: keys.Number, Text: fmt.Sprint(t.from + n + k)}
				rows[k] = pipeline.Row{After: vals[k : k+1]}
			}
			if size > 0 {
				b.Tables = []pipeline.TableRows{{DB: "shop", Table: "item", Columns: []string{"id"}, Rows: rows[:size]}}
			}
			if err := fn(ctx, b); err != nil {
				return err
			}
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// open plans a replay of a fake binlog.
func (f *fakeBinlog) open(t testing.TB, spec BinlogSpec) planned {
	t.Helper()
	deps := func() BinlogDeps {
		return BinlogDeps{Source: f, Name: "shop", Schema: "s", Patience: time.Minute, Since: func(context.Context, time.Time) (pipeline.Position, time.Time, error) {
			return "@" + upTo(f.purged), time.Time{}, nil
		}, InOrder: func(context.Context) (bool, error) { return !f.mixed, nil }}
	}
	s, err := OpenBinlog(deps(), spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return planned{p, t, deps, s}
}

// inserts of rows as said writes them, [from, until).
func inserts(from, until int) (out []string) {
	for i := from; i < until; i++ {
		out = append(out, fmt.Sprint("+", i))
	}
	return out
}
