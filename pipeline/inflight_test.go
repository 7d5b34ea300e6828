package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// Transactions without rows do not pile up behind a Publisher that waits.
func TestInflightIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := new(inflight)
		first, err := f.begin(ctx, Txn{GTID: "0"})
		if err != nil {
			t.Fatal(err)
		}
		began := 0
		go func() {
			for {
				o, err := f.begin(ctx, Txn{GTID: "x"})
				if err != nil {
					return
				}
				began++
				f.end(o)
			}
		}()
		synctest.Wait()
		if began != maxInflight-1 {
			t.Fatalf("%d began behind one that is not durable, want %d", began, maxInflight-1)
		}
		f.end(first)
		synctest.Wait() // durable, but in no position yet
		if began != maxInflight-1 {
			t.Fatalf("%d began, want %d", began, maxInflight-1)
		}
		if done, err := f.take(); len(done) != maxInflight || err != nil {
			t.Fatalf("took %d, %v", len(done), err)
		}
		synctest.Wait()
		if began != 2*maxInflight-1 {
			t.Errorf("%d began, want %d", began, 2*maxInflight-1)
		}
	})
}

// publisherFunc is a Publisher of one partition.
type publisherFunc func(done func(error)) error

func (publisherFunc) Partitions() int { return 1 }

func (p publisherFunc) Publish(_ context.Context, _ []Record, done func(error)) error { return p(done) }

// Whatever order things happen in, what take gives is in commit order, complete,
// and durable; after the Publisher gave up, nothing from there on is given.
func TestInflightModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := new(inflight)
		type one struct {
			*openTxn
			acks []func(error)
		}
		var all []*one
		var taken []string
		failed := -1
		for range rapid.IntRange(1, 60).Draw(t, "actions") {
			i := rapid.IntRange(0, max(0, len(all)-1)).Draw(t, "which")
			switch a := rapid.IntRange(0, 5).Draw(t, "action"); {
			case a == 0 || len(all) == 0:
				if failed >= 0 {
					continue
				}
				o, err := f.begin(t.Context(), Txn{GTID: fmt.Sprint(len(all))})
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, &one{openTxn: o})
			case a == 1 && !all[i].ended:
				err := f.publish(t.Context(), publisherFunc(func(done func(error)) error {
					all[i].acks = append(all[i].acks, done)
					return nil
				}), all[i].openTxn, 1, nil)
				if err != nil {
					t.Fatal(err)
				}
			case a == 2 && len(all[i].acks) > 0:
				all[i].acks[0](nil)
				all[i].acks[0](nil) // a second call does nothing
				all[i].acks = all[i].acks[1:]
			case a == 3 && !all[i].ended:
				f.end(all[i].openTxn)
			case a == 4 && !all[i].ended:
				f.abandon(all[i].openTxn)
			case a == 5 && len(all[i].acks) > 0 && rapid.IntRange(0, 9).Draw(t, "fails") == 0:
				all[i].acks[0](errors.New("gave up"))
				all[i].acks = all[i].acks[1:]
				if failed < 0 || i < failed {
					failed = i
				}
			}
			done, err := f.take()
			for _, o := range done {
				taken = append(taken, o.txn.GTID)
			}
			if (err != nil) != (failed >= 0) {
				t.Fatalf("take says %v", err)
			}
		}
		var want []string
		for i, o := range all {
			if !o.ended || len(o.acks) > 0 || i == failed {
				break
			}
			if !o.abandoned {
				want = append(want, o.txn.GTID)
			}
		}
		ok := len(taken) <= len(want) && (failed >= 0 || len(taken) == len(want))
		for i := range taken {
			ok = ok && i < len(want) && taken[i] == want[i]
		}
		if !ok {
			t.Fatalf("took %q, want %q, failed %d", taken, want, failed)
		}
	})
}

// A refused call neither hangs what waits nor counts as durable.
func TestInflightRefused(t *testing.T) {
	f := new(inflight)
	o, err := f.begin(t.Context(), Txn{GTID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("full")
	for _, p := range []publisherFunc{
		func(func(error)) error { return full },
		func(done func(error)) error { done(nil); return full },
	} {
		if err := f.publish(t.Context(), p, o, 1, nil); !errors.Is(err, full) {
			t.Errorf("publish = %v", err)
		}
	}
	f.abandon(o)
	if err := f.drain(t.Context()); err != nil {
		t.Error(err)
	}
	if done, err := f.take(); len(done) != 0 || err != nil {
		t.Errorf("took %v, %v", done, err)
	}
}
