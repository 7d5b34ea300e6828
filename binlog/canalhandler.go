package binlog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// canalHandler frames transactions out of canal's callbacks. canal says when it
// would store a position (OnPosSynced), but it says so inside of transactions
// too; so the ends are found here, and canal's own set is not used.
//
// It is also canal's logger: a statement that canal cannot parse is only logged
// there, with its text, and is no less a change for that.
type canalHandler struct {
	ctx   context.Context
	fail  func(error) // ends the run
	h     *history
	fn    func(context.Context, pipeline.Batch) error
	asm   assembler
	canal *canal.Canal
	err   error
	known gtidSet // what was delivered

	file     string
	expected bool // the next OnPosSynced belongs to a callback that was handled
	touched  []pipeline.Scope
	at       uint32 // how far the open transaction has come in the file
	ended    bool   // the open transaction needs no more: the next GTID may close it quietly
	tables   map[pipeline.Scope]*canalTable
	side     *session // for statements that canal keeps to itself
}

func newCanalHandler(ctx context.Context, fail func(error), h *history, fn func(context.Context, pipeline.Batch) error) *canalHandler {
	return &canalHandler{
		ctx: ctx, fail: fail, h: h, fn: fn,
		asm:    assembler{fn: fn, ended: func(pipeline.Txn) {}},
		tables: map[pipeline.Scope]*canalTable{},
	}
}

func (c *canalHandler) String() string { return "doubletap" }

// keep notes the first error: some callbacks cannot return one.
func (c *canalHandler) keep(err error) error {
	if c.err == nil && err != nil {
		c.err = err
		c.fail(err)
	}
	return c.err
}

func (c *canalHandler) delivered(gtid string) {
	_ = c.known.add(gtid) // it parsed when the event was read
	c.touched = nil
}

// OnRotate implements canal.EventHandler.
func (c *canalHandler) OnRotate(_ *replication.EventHeader, e *replication.RotateEvent) error {
	c.file, c.expected = strings.Clone(string(e.NextLogName)), true
	return c.err
}

// OnGTID implements canal.EventHandler. It is not called for tagged GTIDs.
func (c *canalHandler) OnGTID(head *replication.EventHeader, e mysql.BinlogGTIDEvent) error {
	if c.err != nil { // of a statement that was only logged: fn must not be called again
		return c.err
	}
	if c.asm.open && !c.ended {
		c.asm.invalidate("a transaction had no end that canal shows", pipeline.Everything)
	}
	txn := pipeline.Txn{File: c.file, Offset: uint64(head.LogPos - head.EventSize)}
	if head.Timestamp != 0 {
		txn.CommittedAt = time.Unix(int64(head.Timestamp), 0).UTC()
	}
	begun, held := false, false
	switch e := e.(type) {
	case *replication.GTIDEvent:
		sid, err := uuid.FromBytes(e.SID)
		if err != nil {
			return c.keep(err)
		}
		txn.GTID = fmt.Sprintf("%s:%d", sid, e.GNO)
		if e.ImmediateCommitTimestamp != 0 {
			txn.CommittedAt = time.UnixMicro(int64(e.ImmediateCommitTimestamp)).UTC()
		}
	case *replication.MariadbGTIDEvent:
		txn.GTID = fmt.Sprintf("%d-%d-%d", e.GTID.DomainID, e.GTID.ServerID, e.GTID.SequenceNumber)
		begun, held = e.Flags&(mariaStandalone|mariaCompletedXA) == 0, e.Flags&mariaPreparedXA != 0 // no XA START follows
	default:
		return c.keep(fmt.Errorf("canal brought a GTID of the unknown kind %T", e))
	}
	var orphans []pipeline.Scope // of a transaction that canal did not show
	if !c.asm.open {
		orphans = c.touched
	}
	c.touched, c.ended, c.at = nil, false, head.LogPos
	if err := c.asm.begin(c.ctx, txn, begun); err != nil {
		return c.keep(err)
	}
	c.asm.invalidate("a transaction that canal did not show", orphans...)
	if held {
		return c.keep(c.asm.heldBack(c.ctx))
	}
	return c.err
}

// OnXID implements canal.EventHandler.
func (c *canalHandler) OnXID(_ *replication.EventHeader, _ mysql.Position) error {
	if c.err != nil {
		return c.err
	}
	c.expected = c.asm.open // else OnPosSynced finds out which transaction it was
	return c.keep(c.asm.end(c.ctx))
}

// OnTableChanged implements canal.EventHandler; OnDDL follows with the text.
func (c *canalHandler) OnTableChanged(*replication.EventHeader, string, string) error { return c.err }

// OnRowsQueryEvent implements canal.EventHandler.
func (c *canalHandler) OnRowsQueryEvent(*replication.RowsQueryEvent) error { return c.err }

// OnDDL implements canal.EventHandler.
func (c *canalHandler) OnDDL(_ *replication.EventHeader, _ mysql.Position, e *replication.QueryEvent) error {
	if c.err != nil {
		return c.err
	}
	c.expected = c.asm.open
	return c.keep(c.statement(string(e.Schema), string(e.Query)))
}

// OnPosSynced implements canal.EventHandler. Where nothing else was called
// before it, canal parsed a statement and keeps it to itself: a COMMIT of tables
// that are not transactional, or a statement such as DROP DATABASE, or DML.
func (c *canalHandler) OnPosSynced(head *replication.EventHeader, _ mysql.Position, set mysql.GTIDSet, _ bool) error {
	if head == nil || c.expected || c.err != nil { // no head: from Close
		c.expected = false
		return c.err
	}
	if !c.asm.open {
		return c.keep(c.tagged(set))
	}
	db, sql, err := c.fetchStatement(head)
	if err != nil {
		c.asm.invalidate("a statement that canal does not show: "+err.Error(), pipeline.Everything)
		c.ended = true
		return c.err
	}
	return c.keep(c.statement(db, sql))
}

// statement handles a statement's text.
func (c *canalHandler) statement(db, sql string) error {
	st := classify(c.h.cfg.Schema, db, sql)
	if len(st.scopes) > 0 {
		c.forget()
	}
	if !c.asm.open {
		if st.kind == stmtXACommit {
			st.scopes = []pipeline.Scope{pipeline.Everything} // what was prepared is not known here
		}
		c.touched = append(c.touched, st.scopes...)
		return nil
	}
	switch st.kind {
	case stmtBegin, stmtMark:
		return nil
	case stmtXAStart:
		return c.asm.heldBack(c.ctx)
	case stmtXAEnd:
		return c.xaEnd(st.xid)
	case stmtXACommit:
		return c.asm.xaEnded(c.ctx, pipeline.XACommit, st.xid)
	case stmtXARollback:
		return c.asm.xaEnded(c.ctx, pipeline.XARollback, st.xid)
	case stmtChange:
		c.asm.invalidate(st.reason, st.scopes...)
		c.touched = append(c.touched, st.scopes...)
	}
	if st.kind == stmtChange || st.kind == stmtNothing {
		w := firstWords(sql, 4)
		if c.inside(w, sql) {
			c.ended = len(w) > 1 && temporary(w) // it may be all of the transaction
			return nil
		}
	}
	return c.asm.end(c.ctx)
}

// inside says whether a statement leaves its transaction open: DML in statement
// format, a temporary table, CREATE TABLE ... SELECT.
func (c *canalHandler) inside(w []string, sql string) bool {
	if c.asm.begun || len(w) == 0 || temporary(w) {
		return true
	}
	return slices.Contains([]string{"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"}, w[0]) ||
		strings.HasSuffix(strings.ToUpper(strings.TrimSpace(sql)), "START TRANSACTION")
}

// forget lets canal ask for every table's columns again: it does so by itself
// only for statements that it can parse, and only for their first table.
func (c *canalHandler) forget() {
	for t := range c.tables {
		if c.canal != nil {
			c.canal.ClearTableCache([]byte(t.DB), []byte(t.Table))
		}
	}
	clear(c.tables)
}

// Enabled implements slog.Handler.
func (c *canalHandler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}

// unparsed is what canal logs about a statement that it cannot parse.
const unparsed = "error parsing query, will skip this event"

// Handle implements slog.Handler. canal logs in the goroutine of the callbacks.
func (c *canalHandler) Handle(_ context.Context, r slog.Record) error {
	if r.Message != unparsed {
		return nil // other errors come back from Run
	}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "query" && c.err == nil {
			// Which database is the default one is not said: any may be.
			_ = c.keep(c.statement("", a.Value.String()))
		}
		return true
	})
	return nil
}

// WithAttrs implements slog.Handler.
func (c *canalHandler) WithAttrs([]slog.Attr) slog.Handler { return c }

// WithGroup implements slog.Handler.
func (c *canalHandler) WithGroup(string) slog.Handler { return c }
