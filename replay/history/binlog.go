package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
)

// BinlogSpec says which transactions of a binlog are replayed: those of a GTID
// set, or those of a time, or, with neither, all that can still be read. It is
// also what a Plan fixes.
type BinlogSpec struct {
	// Files are binlog files, and folders of them, that are read in place of the
	// server. They are for whoever makes BinlogDeps.Source.
	Files []string `json:"files,omitempty"`

	// Set names the transactions; "" is everything that was executed when Plan was
	// called. A position of MariaDB stands for everything up to it.
	Set string `json:"set,omitempty"`
	// After names transactions of Set that are left out: those before the range.
	After string `json:"after,omitempty"`

	// Since and Until are the first and the last commit time, by the clock of the
	// server that wrote the binlog; zero is no bound. They do not go with Set and
	// After.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`

	// From and Executed are filled in by Plan: where reading begins, and the GTID
	// set that was executed then. The replay ends with it.
	From     pipeline.Position `json:"from,omitempty"`
	Executed string            `json:"executed,omitempty"`
}

// BinlogDeps are what a replay of a binlog stands on.
type BinlogDeps struct {
	// Source reads the binlog, of a server or of files. It is used by this replay
	// alone. It must have a method GTIDSet(pipeline.Position) string, as those of
	// package binlog have.
	Source pipeline.Source
	// Since returns a position that leaves out nothing which was committed at or
	// after a time, and when the binlog file there was begun. That is later than
	// the time where older files are gone.
	Since func(context.Context, time.Time) (pipeline.Position, time.Time, error)
	// Notes returns what the source does not show, for Plan.Warnings; may be nil.
	Notes func(context.Context) ([]string, error)
	// Holes returns, in whole sentences, what the source lacks though it holds older
	// transactions and newer ones: of those in want, behind from; or, where want is
	// empty, of those committed by until (zero: at any time). May be nil: nothing.
	Holes func(ctx context.Context, from pipeline.Position, want gtid.Set, until time.Time) ([]string, error)
	// InOrder says whether what the source brings was committed in that order, as
	// one server's is, so that what is behind a time need not be read; nil: it was.
	InOrder func(context.Context) (bool, error)

	Name   string // the source's name in events
	Schema string // keys.Schema.Hash of the schema that Source reads with
	// Patience is how long to wait for a transaction of the range while the source
	// answers; 0 is 10 minutes. Then it will not come, and Read fails.
	Patience time.Duration
	Logger   *slog.Logger // nil: discard
}

// positions is what every source of package binlog is besides.
type positions interface {
	GTIDSet(pipeline.Position) string
}

// OpenBinlog returns a Source that replays row changes from a binlog. Each
// event bears the GTID of its transaction. It does not connect.
//
// A chunk is some whole transactions, or a piece of a large one: a transaction
// of any size passes through in flat memory, and a replay that was killed inside
// one goes on inside it.
//
// The binlog has the rows of an XA transaction at its PREPARE. They are replayed
// there if the COMMIT is in the range or may be, which invalidates too much where
// it is not; they bear the whole executed set in place of a GTID, since that
// holds the COMMIT. A COMMIT whose PREPARE is not in the range invalidates
// everything.
func OpenBinlog(d BinlogDeps, spec BinlogSpec) (replay.Source, error) {
	named, ok := d.Source.(positions)
	if !ok {
		return nil, errors.New("the binlog source does not tell GTID sets")
	}
	times := !spec.Since.IsZero() || !spec.Until.IsZero()
	switch {
	case times && spec.From == "" && (spec.Set != "" || spec.After != ""):
		return nil, errors.New("a range of the binlog is given by GTIDs or by times, not by both")
	case !spec.Until.IsZero() && spec.Until.Before(spec.Since):
		return nil, fmt.Errorf("the range of the binlog ends (%s) before it begins (%s)", stamp(spec.Until), stamp(spec.Since))
	case !spec.Since.IsZero() && d.Since == nil:
		return nil, errors.New("this binlog source cannot begin at a time")
	}
	for _, set := range []string{spec.Set, spec.After} {
		if _, err := gtid.Parse(set); err != nil {
			return nil, fmt.Errorf("the range of the binlog: %w", err)
		}
	}
	if d.Patience == 0 {
		d.Patience = 10 * time.Minute
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return &binlogSource{BinlogDeps: d, spec: spec, named: named}, nil
}

type binlogSource struct {
	BinlogDeps
	spec  BinlogSpec
	named positions
}

// byTime says whether the range is one of times.
func (b *binlogSource) byTime() bool { return !b.spec.Since.IsZero() || !b.spec.Until.IsZero() }

// binlogCursor is where a Read goes on.
type binlogCursor struct {
	At pipeline.Position `json:"at"` // behind the transactions that are done with
	// GTID is a transaction behind At of which so many rows are done already. That
	// number is of use to the same schema only.
	GTID   string `json:"gtid,omitempty"`
	Rows   int64  `json:"rows,omitempty"`
	Schema string `json:"schema,omitempty"`
	// Reached says that a transaction at or after Since has come.
	Reached bool     `json:"reached,omitempty"`
	XA      []string `json:"xa,omitempty"` // prepared and replayed, their ends not read
}

func (c binlogCursor) encode() replay.Cursor {
	b, err := json.Marshal(c)
	if err != nil { // texts and numbers only: cannot fail
		panic(err)
	}
	return replay.Cursor(b)
}

// stamp writes a time for people.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
