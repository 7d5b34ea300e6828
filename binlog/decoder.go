package binlog

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// decoder turns raw binlog events into transactions. It runs in the goroutine
// that reads the connection, so a callback that blocks stops the reading: that
// is the flow control, and no event is queued anywhere. It is used for one
// connection.
type decoder struct {
	ctx    context.Context // of the Run that the decoder belongs to
	schema *keys.Schema
	log    *slog.Logger
	maria  bool
	plans  plans
	asm    assembler
	err    error // the first failure; nothing is decoded after it

	file   string
	offset uint64 // where the next event begins

	known    identity          // a transaction that was delivered before and comes again, to be compared
	skip     bool              // the open transaction was delivered before
	have     func(string) bool // says of a GTID that it is not wanted; may be nil
	remember func(identity)    // takes each transaction's identity before its first batch

	payload  payloadReader
	reported map[replication.EventType]bool // unknown events, each logged once
}

func newDecoder(ctx context.Context, cfg Config, srv Server, fn func(context.Context, pipeline.Batch) error) *decoder {
	return &decoder{
		ctx: ctx, schema: cfg.Schema, log: cfg.logger(), maria: srv.MariaDB(),
		plans:    plans{schema: cfg.Schema, mariadb: srv.MariaDB()},
		asm:      assembler{fn: fn, ended: func(pipeline.Txn) {}},
		reported: map[replication.EventType]bool{}, remember: func(identity) {},
	}
}

// HandleEvent implements replication.EventHandler.
func (d *decoder) HandleEvent(e *replication.BinlogEvent) (err error) {
	if d.err != nil {
		return d.err
	}
	if d.err = d.ctx.Err(); d.err != nil {
		return d.err
	}
	if rotate, ok := e.Event.(*replication.RotateEvent); ok {
		d.file, d.offset = strings.Clone(string(rotate.NextLogName)), rotate.Position
		return nil
	}
	start := d.offset
	d.move(e.Header)
	generic, ok := e.Event.(*replication.GenericEvent)
	if !ok { // a format description
		return nil
	}
	d.err = d.event(e.Header, generic.Data, start)
	return d.err
}

// move follows the binlog's coordinates. Events that the server makes up
// (heartbeats, the first rotation) are no part of the file, and MariaDB 11.4
// and newer leave the position of events inside a transaction out.
func (d *decoder) move(h *replication.EventHeader) {
	switch {
	case h.Flags&replication.LOG_EVENT_ARTIFICIAL_F != 0, h.EventType == replication.HEARTBEAT_EVENT, h.EventType == replication.HEARTBEAT_LOG_EVENT_V2:
	case h.LogPos > 0:
		d.offset = uint64(h.LogPos)
	default:
		d.offset += uint64(h.EventSize)
	}
}

// event handles one event, which may come from inside a compressed transaction.
func (d *decoder) event(h *replication.EventHeader, body []byte, start uint64) error {
	// An incident belongs to no transaction, and is not known to be durable.
	if d.skip && !isGTID(h.EventType) && h.EventType != replication.INCIDENT_EVENT {
		return nil
	}
	if kind, ok := rowsKinds[h.EventType]; ok {
		return d.rows(kind, body)
	}
	switch h.EventType {
	case replication.TABLE_MAP_EVENT:
		if err := d.plans.tableMap(body); err != nil {
			return d.uncertain("a table map event cannot be read: " + err.Error())
		}
		return nil
	case replication.GTID_EVENT, replication.GTID_TAGGED_LOG_EVENT:
		return d.gtid(h, body, start)
	case replication.MARIADB_GTID_EVENT:
		return d.mariaGTID(h, body, start)
	case replication.ANONYMOUS_GTID_EVENT:
		return fmt.Errorf("the binlog holds a transaction without a GTID at %s:%d: set gtid_mode=ON on the source", d.file, start)
	case replication.QUERY_EVENT, replication.MARIADB_QUERY_COMPRESSED_EVENT:
		return d.query(body, h.EventType == replication.MARIADB_QUERY_COMPRESSED_EVENT)
	case replication.XID_EVENT:
		return d.asm.end(d.ctx)
	case replication.XA_PREPARE_LOG_EVENT:
		return d.xaPrepare(body)
	case replication.TRANSACTION_PAYLOAD_EVENT:
		return d.payload.read(body, func(h *replication.EventHeader, body []byte) error { return d.event(h, body, start) })
	case replication.EXECUTE_LOAD_QUERY_EVENT:
		return d.loadQuery(body)
	case replication.INCIDENT_EVENT:
		return d.asm.outside(d.ctx, "the source reports an incident: events may be missing from its binlog", pipeline.Everything)
	case replication.STOP_EVENT, replication.INTVAR_EVENT, replication.RAND_EVENT, replication.USER_VAR_EVENT,
		replication.FORMAT_DESCRIPTION_EVENT, replication.BEGIN_LOAD_QUERY_EVENT, replication.APPEND_BLOCK_EVENT,
		replication.DELETE_FILE_EVENT, replication.HEARTBEAT_EVENT, replication.HEARTBEAT_LOG_EVENT_V2,
		replication.IGNORABLE_EVENT, replication.ROWS_QUERY_EVENT, replication.PREVIOUS_GTIDS_EVENT,
		replication.TRANSACTION_CONTEXT_EVENT, replication.VIEW_CHANGE_EVENT, replication.MARIADB_ANNOTATE_ROWS_EVENT,
		replication.MARIADB_BINLOG_CHECKPOINT_EVENT, replication.MARIADB_GTID_LIST_EVENT, replication.MARIADB_START_ENCRYPTION_EVENT:
		return nil
	}
	return d.unknown(h)
}

// unknown handles an event of a type that this program does not know. Inside a
// transaction it may have changed rows, unless the server says that it can be
// ignored; outside it cannot.
func (d *decoder) unknown(h *replication.EventHeader) error {
	if h.Flags&replication.LOG_EVENT_IGNORABLE_F != 0 {
		return nil
	}
	if !d.reported[h.EventType] {
		d.reported[h.EventType] = true
		d.log.Warn("unknown binlog event", "type", int(h.EventType), "file", d.file, "offset", d.offset)
	}
	if !d.asm.open {
		return nil
	}
	return d.uncertain(fmt.Sprintf("a binlog event of the unknown type %d", h.EventType))
}

// uncertain makes everything stale.
func (d *decoder) uncertain(reason string) error {
	d.asm.invalidate(reason, pipeline.Everything)
	return nil
}

func (d *decoder) rows(kind rowsKind, body []byte) error {
	e, err := parseRowsEvent(kind, body, &d.plans)
	if err != nil {
		if e.plan == nil {
			return d.uncertain(err.Error())
		}
		d.asm.invalidate(err.Error(), e.plan.scope())
		return nil
	}
	if e.plan == nil || e.plan.table == nil {
		return nil
	}
	return d.asm.rowsOf(d.ctx, &e)
}

// query handles the text of a statement.
func (d *decoder) query(body []byte, compressed bool) error {
	c := cursor{b: body}
	c.take(8) // thread, duration
	dbLen := int(c.u8())
	c.take(2) // error code
	c.take(int(c.uint(2)))
	db := string(c.take(dbLen))
	c.take(1)
	if c.bad {
		return d.uncertain("a query event cannot be read: " + errTruncated.Error())
	}
	text := c.b
	if compressed {
		var err error
		if text, err = mysql.DecompressMariadbData(text); err != nil {
			return d.uncertain("a query event cannot be read: " + err.Error())
		}
	}
	return d.statement(db, string(text))
}

func (d *decoder) statement(db, sql string) error {
	st := classify(d.schema, db, sql)
	switch st.kind {
	case stmtBegin:
		d.asm.begun = true
		return nil
	case stmtXAStart:
		return d.asm.heldBack(d.ctx)
	case stmtMark, stmtXAEnd:
		return nil
	case stmtCommit, stmtRollback:
		return d.asm.end(d.ctx)
	case stmtXACommit:
		return d.asm.xaEnded(d.ctx, pipeline.XACommit, st.xid)
	case stmtXARollback:
		return d.asm.xaEnded(d.ctx, pipeline.XARollback, st.xid)
	case stmtChange:
		if !d.asm.open { // cannot be with GTIDs on, but must not be lost
			return d.asm.outside(d.ctx, st.reason, st.scopes...)
		}
		d.asm.invalidate(st.reason, st.scopes...)
	}
	if d.asm.begun {
		return nil
	}
	return d.asm.end(d.ctx) // a statement that commits by itself
}

// xaPrepare handles the end of an XA transaction's rows: prepared, or committed
// in one phase.
func (d *decoder) xaPrepare(body []byte) error {
	c := cursor{b: body}
	onePhase, format, gtrid, bqual := c.u8() != 0, c.uint(4), int(c.uint(4)), int(c.uint(4))
	xid := xidText(format, c.take(gtrid), c.take(bqual))
	switch {
	case c.bad: // not known as prepared, so that everything is stale at its COMMIT too
		d.asm.invalidate("an XA prepare event cannot be read", pipeline.Everything)
		return d.asm.endXA(d.ctx, pipeline.XAOnePhase, "")
	case onePhase:
		return d.asm.endXA(d.ctx, pipeline.XAOnePhase, xid)
	}
	return d.asm.endXA(d.ctx, pipeline.XAPrepare, xid)
}

// loadQuery handles LOAD DATA in statement format: the data came before, in
// events of their own; here is the statement.
func (d *decoder) loadQuery(body []byte) error {
	c := cursor{b: body}
	c.take(8)
	dbLen := int(c.u8())
	c.take(2)
	vars := int(c.uint(2))
	c.take(13) // file, where its name stands in the text, what to do with duplicates
	c.take(vars)
	db := string(c.take(dbLen))
	c.take(1)
	if c.bad {
		return d.uncertain("a LOAD DATA event cannot be read")
	}
	return d.statement(db, string(c.b))
}

// headerOf reads the header of an event inside a compressed transaction.
func headerOf(b []byte) replication.EventHeader {
	return replication.EventHeader{
		Timestamp: binary.LittleEndian.Uint32(b),
		EventType: replication.EventType(b[4]),
		ServerID:  binary.LittleEndian.Uint32(b[5:]),
		EventSize: binary.LittleEndian.Uint32(b[9:]),
		LogPos:    binary.LittleEndian.Uint32(b[13:]),
		Flags:     binary.LittleEndian.Uint16(b[17:]),
	}
}
