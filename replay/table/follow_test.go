package table_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// keysOf returns the keys that a schema makes of rows.
func keysOf(schema *keys.Schema, tr pipeline.TableRows) (made []string, doubts int) {
	var res keys.Result
	b := schema.Table(tr.DB, tr.Table).Bind(tr.Columns)
	for _, row := range tr.Rows {
		b.Append(&res, row.Before, row.After)
	}
	return res.Keys, len(res.Doubts)
}

var serverIDs atomic.Uint32

// source opens the binlog.
func (r *rig) source() pipeline.Source {
	r.t.Helper()
	cfg := r.cfg
	cfg.ServerID = 3_100_000_000 + serverIDs.Add(1)
	srv, err := binlog.Detect(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	src, err := binlog.NewSource(cfg, srv)
	if err != nil {
		r.t.Fatal(err)
	}
	return src
}

// follow calls fn with what the binlog has behind from until it has all of until,
// and returns fn's error.
func (r *rig) follow(from string, until gtid.Set, fn func(context.Context, pipeline.Batch) error) (failed error) {
	r.t.Helper()
	src := r.source()
	pos, err := src.Start(r.t.Context(), from)
	if err != nil {
		r.t.Fatal(err)
	}
	covered := func() bool {
		set, err := gtid.Parse(src.(interface {
			GTIDSet(pipeline.Position) string
		}).GTIDSet(pos))
		if err != nil {
			r.t.Fatal(err)
		}
		return set.HasAll(until)
	}
	if covered() {
		return nil
	}
	err = src.Run(r.t.Context(), pos, func(ctx context.Context, b pipeline.Batch) error {
		if failed = fn(ctx, b); failed != nil || !b.Last {
			return failed
		}
		var err error
		if pos, err = src.Advance(pos, []string{b.Txn.GTID}); err != nil {
			return err
		}
		if covered() {
			return errCovered
		}
		return nil
	})
	if failed == nil && !errors.Is(err, errCovered) {
		r.t.Fatal(err)
	}
	return failed
}

var errCovered = errors.New("the binlog was read as far as asked")

// view is what the source shows now.
func (r *rig) view() pipeline.View {
	r.t.Helper()
	v, err := r.deps.View(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

// missing returns those of want that have lacks, a few of them.
func missing(want, have []string) (out []string) {
	set := make(map[string]bool, len(have))
	for _, k := range have {
		set[k] = true
	}
	for _, k := range want {
		if !set[k] && len(out) < 20 {
			out = append(out, k)
		}
	}
	return slices.Compact(out)
}

func expectErr(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; it should say %q", parts)
		return
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("the error %q does not say %q", err, p)
		}
	}
}

var errEnough = errors.New("the test has had enough")

func decode(t testing.TB, c replay.Cursor, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(c), into); err != nil {
		t.Fatal(err)
	}
}

func mustParse(t testing.TB, set string) gtid.Set {
	t.Helper()
	s, err := gtid.Parse(set)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
