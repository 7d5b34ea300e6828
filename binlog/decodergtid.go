package binlog

import (
	"fmt"
	"strconv"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/google/uuid"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

func isGTID(t replication.EventType) bool {
	return t == replication.GTID_EVENT || t == replication.GTID_TAGGED_LOG_EVENT || t == replication.MARIADB_GTID_EVENT ||
		t == replication.ANONYMOUS_GTID_EVENT
}

func (d *decoder) begin(txn pipeline.Txn, begun bool) error {
	if d.skip = d.have != nil && d.have(txn.GTID); d.skip {
		return d.asm.end(d.ctx)
	}
	return d.asm.begin(d.ctx, txn, begun)
}

func (d *decoder) gtid(h *replication.EventHeader, body []byte, start uint64) error {
	var e replication.GTIDEvent
	var err error
	if h.EventType == replication.GTID_TAGGED_LOG_EVENT {
		var tagged replication.GtidTaggedLogEvent
		err = guard(func() error { return tagged.Decode(body) })
		e = tagged.GTIDEvent
	} else {
		err = guard(func() error { return e.Decode(body) })
	}
	if err != nil {
		return fmt.Errorf("read the GTID event at %s:%d: %w", d.file, start, err)
	}
	sid, err := uuid.FromBytes(e.SID)
	if err != nil {
		return fmt.Errorf("read the GTID event at %s:%d: %w", d.file, start, err)
	}
	txn := pipeline.Txn{GTID: sid.String() + ":" + strconv.FormatInt(e.GNO, 10), File: d.file, Offset: start}
	if tag := e.Tag.String(); tag != "" {
		txn.GTID = fmt.Sprintf("%s:%s:%d", sid, tag, e.GNO)
	}
	if us := e.ImmediateCommitTimestamp; us != 0 {
		txn.CommittedAt = time.UnixMicro(int64(us)).UTC()
	} else if h.Timestamp != 0 {
		txn.CommittedAt = time.Unix(int64(h.Timestamp), 0).UTC()
	}
	id := identity{txn.GTID, e.OriginalCommitTimestamp}
	if id.GTID == d.known.GTID {
		return d.compare(id)
	}
	d.remember(id)
	return d.begin(txn, false)
}

// compare looks at a transaction that was delivered before: if it was committed
// at another time, it is another transaction under a number that was used again,
// because the binlogs were reset or an old backup was restored. GTID sets alone
// do not show that.
func (d *decoder) compare(id identity) error {
	if id != d.known {
		return fmt.Errorf("%w: %s was committed at %s before and is a transaction of %s now: binlogs were reset, or a backup restored",
			errHistory, d.known.GTID, time.UnixMicro(int64(d.known.At)).UTC(), time.UnixMicro(int64(id.At)).UTC())
	}
	d.skip, d.known = true, identity{}
	return d.asm.end(d.ctx)
}

// guard turns a panic over a damaged event, which the library's decoders allow,
// into an error.
func guard(decode func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("damaged event: %v", r)
		}
	}()
	return decode()
}

// Flags of MariaDB's GTID event (sql/log_event.h); go-mysql knows some of them.
const (
	mariaStandalone  = 1   // one event, without COMMIT
	mariaPreparedXA  = 64  // the rows of an XA transaction; ends with XA PREPARE
	mariaCompletedXA = 128 // XA COMMIT or XA ROLLBACK
)

// mariaGTID handles MariaDB's GTID event, which is BEGIN at the same time.
func (d *decoder) mariaGTID(h *replication.EventHeader, body []byte, start uint64) error {
	c := cursor{b: body}
	seq, domain, flags := c.uint(8), c.uint(4), c.u8()
	if c.bad {
		return fmt.Errorf("read the GTID event at %s:%d: %w", d.file, start, errTruncated)
	}
	txn := pipeline.Txn{GTID: fmt.Sprintf("%d-%d-%d", domain, h.ServerID, seq), File: d.file, Offset: start}
	if h.Timestamp != 0 {
		txn.CommittedAt = time.Unix(int64(h.Timestamp), 0).UTC()
	}
	err := d.begin(txn, flags&(mariaStandalone|mariaCompletedXA) == 0)
	if err == nil && flags&mariaPreparedXA != 0 {
		err = d.asm.heldBack(d.ctx)
	}
	return err
}
