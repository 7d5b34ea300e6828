package binlog

import (
	"fmt"
	"slices"

	"github.com/go-mysql-org/go-mysql/canal"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// OnTableNotFound implements canal.EventHandler: rows of a table that is gone.
func (c *canalHandler) OnTableNotFound(_ *replication.EventHeader, e *replication.RowsEvent) error {
	s := pipeline.TableScope(string(e.Table.Schema), string(e.Table.Table))
	c.touched = append(c.touched, s)
	if c.asm.open {
		c.asm.invalidate(s.DB+"."+s.Table+": the table no longer exists", s)
	}
	return c.err
}

// OnRow implements canal.EventHandler.
func (c *canalHandler) OnRow(e *canal.RowsEvent) error {
	if c.err != nil {
		return c.err
	}
	if h := e.Header; h != nil && h.LogPos > c.at {
		c.at = h.LogPos
	}
	t := c.table(e)
	if t == nil {
		return nil
	}
	if !slices.Contains(c.touched, t.plan.scope()) {
		c.touched = append(c.touched, t.plan.scope())
	}
	if !c.asm.open { // of a tagged GTID
		return nil
	}
	return c.keep(c.rows(t, e))
}

func (c *canalHandler) rows(t *canalTable, e *canal.RowsEvent) error {
	if c.asm.isStale(&t.plan) {
		return nil
	}
	step := 1
	before, after := e.Action != canal.InsertAction, e.Action != canal.DeleteAction
	if before && after {
		step = 2
	}
	for i := 0; i+step <= len(e.Rows); i += step {
		ref := c.asm.addRow(&t.plan, before, after)
		doubt := t.plan.stale
		if ref.before >= 0 && doubt == "" {
			doubt = t.image(&c.asm, ref.before, e.Rows[i])
		}
		if ref.after >= 0 && doubt == "" {
			doubt = t.image(&c.asm, ref.after, e.Rows[i+step-1])
		}
		if doubt != "" {
			c.asm.dropRow(ref)
			c.asm.invalidate(t.plan.db+"."+t.plan.name+": "+doubt, t.plan.scope())
			return nil
		}
		if err := c.asm.flushIfFull(c.ctx); err != nil {
			return err
		}
	}
	return nil
}

// tagged hands over a transaction whose GTID event canal keeps to itself: its
// GTID is what the library's set has more than ours. Its rows were noted only as
// tables, because nothing could say which transaction they belong to.
func (c *canalHandler) tagged(set mysql.GTIDSet) error {
	theirs, ok := set.(*mysql.MysqlGTIDSet)
	mine, ok2 := c.known.(*mysqlSet)
	if !ok || !ok2 {
		return nil
	}
	touched := c.touched
	for u, tags := range *theirs {
		for tag, intervals := range tags {
			if tag.String() == "" {
				continue
			}
			for _, in := range intervals {
				if (*mine.s)[u][tag].Contain(mysql.IntervalSlice{in}) {
					continue // the usual case
				}
				for n := in.Start; n < in.Stop; n++ {
					if (*mine.s)[u][tag].Contain(mysql.IntervalSlice{{Start: n, Stop: n + 1}}) {
						continue
					}
					txn := pipeline.Txn{GTID: fmt.Sprintf("%s:%s:%d", u, tag, n), File: c.file}
					if err := c.asm.begin(c.ctx, txn, false); err != nil {
						return err
					}
					c.asm.invalidate("canal shows no tagged GTIDs", touched...)
					if err := c.asm.end(c.ctx); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
