package table

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// settleTime is for how long written waits for transactions that are being
// committed. One that stays in that state for longer waits for an acknowledgement
// of a replica, and nobody has seen its rows.
const settleTime = 5 * time.Second

// written returns what the source has written, with every transaction of which a
// read that ended before has seen rows.
//
// MySQL shows the rows of a transaction a moment before its gtid_executed has it:
// the group that is committed together enters it together. With eight writers, 56
// of 40,000 reads were followed by an answer that lacked up to six transactions
// (MySQL 9.7). But each of them is in gtid_owned until then. MariaDB's
// gtid_binlog_pos has a transaction before anybody sees it.
func (d *Deps) written(ctx context.Context) (set gtid.Set, err error) {
	var owned gtid.Set
	err = d.retry(ctx, "ask the source for transactions that are being committed", func(ctx context.Context) error {
		c, err := d.Connect(ctx)
		if err != nil {
			return lasting(err)
		}
		defer func() { _ = c.Close() }()
		owned, err = ownedBy(ctx, c)
		return err
	})
	if err != nil {
		return set, err
	}
	// What left gtid_owned has entered gtid_executed: the order of the questions counts.
	for end, wait := time.Now().Add(settleTime), time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		view, err := d.view(ctx)
		if err != nil || view.Shown.HasAll(owned) || time.Now().After(end) {
			return view.Written, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return set, context.Cause(ctx)
		}
	}
}

// ownedBy returns the transactions that threads of a MySQL server hold, none on a
// server that has no such thing.
func ownedBy(ctx context.Context, c Conn) (set gtid.Set, err error) {
	text := ""
	err = c.Query(ctx, "SELECT @@GLOBAL.gtid_owned", func(v [][]byte) error {
		text = string(v[0])
		return nil
	})
	if serverCode(err) == codeUnknownVariable {
		return set, nil
	}
	if err != nil {
		return set, fmt.Errorf("read gtid_owned: %w", lasting(err))
	}
	return parseOwned(text)
}

// parseOwned reads "uuid:tag:4#21:5#22, uuid:7#23": numbers have the threads that
// hold them behind them, and a tag holds for the numbers that follow.
func parseOwned(text string) (set gtid.Set, err error) {
	for of := range strings.SplitSeq(text, ",") {
		prefix := ""
		for i, part := range strings.Split(strings.TrimSpace(of), ":") {
			number, _, isNumber := strings.Cut(part, "#")
			switch {
			case isNumber:
				if err := set.Add(prefix + number); err != nil {
					return set, fmt.Errorf("read gtid_owned %q: %w", text, err)
				}
			case i == 0:
				prefix = part + ":"
			default:
				uuid, _, _ := strings.Cut(prefix, ":")
				prefix = uuid + ":" + part + ":"
			}
		}
	}
	return set, nil
}
