package wire

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-mysql-org/go-mysql/client"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/history"
	"github.com/doubletap-cdc/doubletap/replay/table"
)

// sources opens what is replayed, from a Spec of the arguments or from what a
// Plan has fixed.
type sources struct {
	app *App
	old *keys.Schema // of -old-keys; nil without
	// reading names the columns of both schemas.
	reading *keys.Schema
	log     pipeline.History // the live one, once it is open
	files   *binlog.Files    // as last opened: the plan has read through them
	alone   bool             // it was opened as a folder that nobody else can open meanwhile
	closers []func()
	// patience is for how long the process that has a folder open is asked for it.
	patience time.Duration
	// look is history.LogDeps.Look while something is planned, otherwise nil.
	look func(ctx context.Context, rows int64, done float64) error
}

func newSources(a *App, old *keys.Schema) *sources {
	s := &sources{app: a, old: old, reading: a.Schema, patience: startPatience}
	if old != nil {
		s.reading = a.Schema.With(old)
	}
	return s
}

func (s *sources) close() {
	for _, c := range s.closers {
		c()
	}
	s.closers, s.log = nil, nil
}

// The kinds of sources, as the state keeps them.
const (
	kindLog    = "log"
	kindBinlog = "binlog"
	kindTable  = "table"
	kindKeys   = "keys" // cache keys
	kindRows   = "rows" // primary keys
	kindDead   = "dead"
)

// spec returns what the arguments ask for: the kind of the source and its Spec.
// dir is where a list of keys was copied to.
func (s *sources) spec(ctx context.Context, a *replayArgs, live *liveState, dir string) (kind string, spec any, err error) {
	switch a.Verb {
	case verbLog:
		return kindLog, a.logSpec(), nil
	case verbDead:
		return kindDead, history.DeadSpec{}, nil
	case verbBinlog:
		return kindBinlog, a.binlogSpec(), nil
	case verbTable:
		between := a.Between == on || a.Between == auto && !live.covers(s.app.Schema)
		return kindTable, table.Spec{DB: a.db, Table: a.table, Where: a.Where, Whole: a.Whole, Between: between && !a.Whole, Chunk: a.Chunk}, nil
	case verbKeys:
		if a.Table != "" {
			return kindRows, table.RowsSpec{DB: a.db, Table: a.table, File: filepath.Join(dir, listFile), Between: !live.covers(s.app.Schema)}, nil
		}
		return kindKeys, replay.KeyListSpec{Path: filepath.Join(dir, listFile), Chunk: a.Chunk}, nil
	}
	return "", nil, fmt.Errorf("%w: there is no replay %s", errUsage, a.Verb)
}

// open opens a source; spec is a Spec in JSON, of the arguments or fixed.
func (s *sources) open(ctx context.Context, kind string, spec json.RawMessage) (replay.Source, error) {
	switch kind {
	case kindKeys:
		return opened(spec, func(spec replay.KeyListSpec) (replay.Source, error) {
			return &replay.KeyList{
				KeyListSpec: spec, Name: s.app.Config.Source.Name, Schema: s.app.Schema.Hash(), GTIDs: s.gtids(), Hooks: s.app.Hooks,
			}, nil
		})
	case kindLog, kindDead:
		return s.openLog(ctx, kind, spec)
	case kindAlso:
		return opened(spec, func(spec alsoSpec) (replay.Source, error) { return s.openAlso(ctx, spec) })
	case kindBinlog:
		return opened(spec, func(spec history.BinlogSpec) (replay.Source, error) { return s.openBinlog(ctx, spec) })
	case kindTable:
		return opened(spec, func(spec table.Spec) (replay.Source, error) {
			d, err := s.tableDeps(ctx)
			if err != nil {
				return nil, err
			}
			return table.Open(d, spec)
		})
	case kindRows:
		return opened(spec, func(spec table.RowsSpec) (replay.Source, error) {
			d, err := s.tableDeps(ctx)
			if err != nil {
				return nil, err
			}
			return table.OpenRows(d, spec)
		})
	}
	return nil, fmt.Errorf("the state names a source %q that this release does not know: use the release that wrote it", kind)
}

// opened decodes a Spec and opens a source from it.
func opened[T any](spec json.RawMessage, open func(T) (replay.Source, error)) (replay.Source, error) {
	var v T
	if err := json.Unmarshal(spec, &v); err != nil {
		return nil, fmt.Errorf("read what is to be replayed from the state: %w", err)
	}
	return open(v)
}

// gtids asks the source for all transactions that it may show: second deletes wait
// until the servers that fills read from show them too.
func (s *sources) gtids() func(context.Context) (string, error) {
	view, err := s.view()
	if err != nil {
		return func(context.Context) (string, error) { return "", err }
	}
	return func(ctx context.Context) (string, error) {
		v, err := view(ctx)
		if v.Written.Empty() {
			return v.Shown.String(), err
		}
		return v.Written.String(), err
	}
}

// view returns what asks the source what it shows.
func (s *sources) view() (func(context.Context) (pipeline.View, error), error) {
	cfg, err := s.app.binlogConfig()
	if err != nil {
		return nil, err
	}
	r := binlog.NewReader(cfg, cfg.Addr, "")
	s.closers = append(s.closers, r.Close)
	return r.Ask, nil
}

func (s *sources) tableDeps(ctx context.Context) (d table.Deps, err error) {
	cfg, err := s.app.binlogConfig()
	if err != nil {
		return d, err
	}
	view, err := s.view()
	if err != nil {
		return d, err
	}
	d = table.Deps{
		Connect: table.SQL(func(ctx context.Context) (*client.Conn, error) { return binlog.Connect(ctx, cfg) }),
		View:    view, Source: s.app.Config.Source.Name, Schema: s.app.Schema, Hooks: &s.app.Hooks,
		Binlog: func(low, high string) (replay.Source, error) {
			return s.openBinlog(ctx, history.BinlogSpec{Set: high, After: low})
		},
	}
	if s.old != nil {
		d.Columns = func(db, name string) []string {
			if t := s.old.Table(db, name); t != nil {
				return t.Columns()
			}
			return nil
		}
	}
	return d, nil
}
