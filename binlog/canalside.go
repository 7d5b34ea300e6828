package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// binlogEvents lists events of the current file. The columns are the server's:
// file, position, type, server id, position of the next one, text.
func (c *canalHandler) binlogEvents(from uint32, limit int) (rows [][]string, err error) {
	if c.side == nil {
		if c.side, err = openSession(c.ctx, c.h.cfg, readTimeout); err != nil {
			return nil, err
		}
		context.AfterFunc(c.ctx, c.side.close)
	}
	return c.side.query(c.ctx, fmt.Sprintf("SHOW BINLOG EVENTS IN %s FROM %d LIMIT %d", quote(c.file), from, limit))
}

// fetchStatement asks the server for the statement that a query event holds.
func (c *canalHandler) fetchStatement(head *replication.EventHeader) (db, sql string, err error) {
	rows, err := c.binlogEvents(head.LogPos-head.EventSize, 1)
	if err != nil {
		return "", "", err
	}
	if len(rows) != 1 || len(rows[0]) < 6 || !strings.HasPrefix(rows[0][2], "Query") {
		return "", "", fmt.Errorf("no query event at %s:%d", c.file, head.LogPos-head.EventSize)
	}
	sql = rows[0][5]
	if rest, ok := strings.CutPrefix(sql, "use `"); ok {
		var size int
		if db, size = quotedName("`" + rest); size > 0 {
			sql = strings.TrimPrefix(rest[size-1:], "; ")
		}
	}
	return db, sql, nil
}

// xaEnd handles XA END. XA PREPARE or the COMMIT of one phase is next, for which
// canal calls nobody: the server is asked which.
func (c *canalHandler) xaEnd(xid string) error {
	onePhase, err := c.xaIsOnePhase(xid)
	switch {
	case err != nil: // not known as prepared, so that everything is stale at its COMMIT too
		c.asm.invalidate("canal does not show how an XA transaction ended: "+err.Error(), pipeline.Everything)
		return c.asm.endXA(c.ctx, pipeline.XAOnePhase, "")
	case onePhase:
		return c.asm.endXA(c.ctx, pipeline.XAOnePhase, xid)
	}
	return c.asm.endXA(c.ctx, pipeline.XAPrepare, xid)
}

// xaPage is how many events are listed at a time.
const xaPage = 500

// xaIsOnePhase looks for the event that ends the open XA transaction. Its place
// is not known, only that of the newest rows of it which canal has shown.
func (c *canalHandler) xaIsOnePhase(xid string) (bool, error) {
	for from := c.at; ; {
		rows, err := c.binlogEvents(from, xaPage)
		if err != nil {
			return false, err
		}
		for _, r := range rows {
			if len(r) < 6 || strings.HasPrefix(strings.ToLower(r[2]), "gtid") {
				return false, fmt.Errorf("no end of it at %s:%d", c.file, from)
			}
			if text := r[5]; strings.HasPrefix(strings.ToLower(r[2]), "xa_prepare") {
				if got, ok := parseXID(text); !ok || got != xid {
					return false, fmt.Errorf("another one's end at %s:%s", c.file, r[1])
				}
				return strings.HasSuffix(strings.TrimSpace(strings.ToUpper(text)), "ONE PHASE"), nil
			}
		}
		if len(rows) < xaPage {
			return false, fmt.Errorf("no end of it after %s:%d", c.file, from)
		}
		next, err := strconv.ParseUint(rows[len(rows)-1][4], 10, 32)
		if err != nil || uint32(next) <= from {
			return false, fmt.Errorf("no end of it after %s:%d", c.file, from)
		}
		from = uint32(next)
	}
}
