package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// replication looks at the channels that a reader replicates through.
func (c *readerCheck) replication(ctx context.Context, _ []*session) error {
	newer, older, privilege := "SHOW REPLICA STATUS", "SHOW SLAVE STATUS", "REPLICATION CLIENT"
	if c.srv.MariaDB() {
		newer, older, privilege = "SHOW ALL SLAVES STATUS", "SHOW ALL SLAVES STATUS", "SLAVE MONITOR"
	}
	channels, err := c.named(ctx, newer)
	if serverCode(err) == codeSyntax {
		channels, err = c.named(ctx, older)
	}
	switch serverCode(err) {
	case codeNotGranted, codeAccessDenied:
		c.lacks(ctx, privilege, pipeline.Warning, "filters, skipped errors and a delay of its replication cannot be seen")
		return nil
	}
	if err != nil {
		return err
	}
	c.channels = len(channels)
	for _, ch := range channels {
		c.filters(ch)
		c.running(ch)
		c.delayed(ch)
	}
	if len(channels) > 0 && c.is("read_only", "OFF") {
		c.warn("read_only", "it is OFF on a replica: what is written to it directly is not in the source's binlog, and no key is deleted for it", c.set("read_only", "ON"))
	}
	return nil
}

// channel is a row of SHOW REPLICA STATUS by column, in the newer names.
type channel map[string]string

// name is for messages.
func (ch channel) name() string {
	if n := ch["Channel_Name"] + ch["Connection_name"]; n != "" {
		return fmt.Sprintf(" of channel %q", n)
	}
	return ""
}

// named runs a statement and returns its rows by column.
func (c *readerCheck) named(ctx context.Context, sql string) (rows []channel, err error) {
	res, err := c.s.execute(ctx, sql)
	if err != nil || !res.HasResultset() {
		return nil, err
	}
	values, err := rowsOf(res)
	if err != nil {
		return nil, err
	}
	newer := strings.NewReplacer("Slave", "Replica", "Master", "Source")
	for _, v := range values {
		ch := make(channel, len(v))
		for i, f := range res.Fields {
			ch[newer.Replace(string(f.Name))] = v[i]
		}
		rows = append(rows, ch)
	}
	return rows, nil
}

// replicaFilters are the columns that leave something out.
var replicaFilters = []string{
	"Replicate_Do_DB", "Replicate_Ignore_DB", "Replicate_Do_Table", "Replicate_Ignore_Table",
	"Replicate_Wild_Do_Table", "Replicate_Wild_Ignore_Table", "Replicate_Rewrite_DB",
	"Replicate_Do_Domain_Ids", "Replicate_Ignore_Domain_Ids", "Replicate_Ignore_Server_Ids",
}

func (c *readerCheck) filters(ch channel) {
	for _, name := range replicaFilters {
		v := ch[name]
		if v == "" {
			continue
		}
		fix := fmt.Sprintf("STOP REPLICA SQL_THREAD; CHANGE REPLICATION FILTER %s = (); START REPLICA SQL_THREAD; and remove it from my.cnf; then copy the server anew, as it lacks rows", strings.ToUpper(name))
		switch {
		case name == "Replicate_Ignore_Server_Ids":
			fix = "STOP REPLICA; CHANGE REPLICATION SOURCE TO IGNORE_SERVER_IDS = (); START REPLICA; then copy the server anew, as it lacks rows"
		case c.srv.MariaDB() && strings.HasSuffix(name, "_Domain_Ids"):
			fix = fmt.Sprintf("STOP SLAVE; CHANGE MASTER TO %s = (); START SLAVE; then copy the server anew, as it lacks rows", strings.ToUpper(strings.TrimPrefix(name, "Replicate_")))
		case c.srv.MariaDB():
			fix = fmt.Sprintf("STOP SLAVE; SET GLOBAL %s = ''; START SLAVE; and remove it from my.cnf; then copy the server anew, as it lacks rows", strings.ToLower(name))
		}
		c.refuse("filters", fmt.Sprintf("%s%s is %s: the server counts transactions as executed whose rows it left out, so a fill can read an old row for ever", name, ch.name(), v),
			fix+"; or let no fill read from it")
	}
}

func (c *readerCheck) running(ch channel) {
	for _, thread := range []struct{ column, what, errno, text string }{
		{"Replica_IO_Running", "it does not receive", "Last_IO_Errno", "Last_IO_Error"},
		{"Replica_SQL_Running", "it does not apply", "Last_SQL_Errno", "Last_SQL_Error"},
	} {
		if strings.EqualFold(ch[thread.column], "Yes") {
			continue
		}
		problem := fmt.Sprintf("%s what its source commits (%s%s is %s)", thread.what, thread.column, ch.name(), ch[thread.column])
		if n := ch[thread.errno]; n != "" && n != "0" {
			// Not the text: it can hold a row's values.
			problem += fmt.Sprintf(", error %s in %s", n, thread.errno)
		}
		start := "START REPLICA;"
		if c.srv.MariaDB() {
			start = "START SLAVE;"
		}
		c.warn("replication", fmt.Sprintf("%s; second deletes wait for it, and go on without it after %v", problem, c.maxWait), "mend its cause, then "+start)
	}
}

func (c *readerCheck) delayed(ch channel) {
	seconds, err := strconv.ParseInt(ch["SQL_Delay"], 10, 64)
	if err != nil || seconds == 0 {
		return
	}
	delay := time.Duration(seconds) * time.Second
	fix := "STOP REPLICA SQL_THREAD; CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 0; START REPLICA SQL_THREAD;"
	if c.srv.MariaDB() {
		fix = "STOP SLAVE; CHANGE MASTER TO MASTER_DELAY = 0; START SLAVE;"
	}
	if delay >= c.maxWait {
		c.refuse("delay", fmt.Sprintf("it is delayed by %v on purpose, which is not less than max_wait (%v): it would always be out", delay, c.maxWait), fix+" or let no fill read from it")
		return
	}
	c.warn("delay", fmt.Sprintf("it is delayed by %v on purpose: every second delete waits for that long", delay), fix)
}

// skips refuses a server that goes on after an error: it counts a transaction as
// executed whose rows it does not have.
func (c *readerCheck) skips() {
	for _, name := range []string{"replica_skip_errors", "slave_skip_errors"} {
		if v, ok := c.vars[name]; ok && v != "" && !strings.EqualFold(v, "OFF") {
			c.refuse(name, fmt.Sprintf("it is %s: the server counts transactions as executed that failed", v),
				fmt.Sprintf("remove %s from my.cnf, then restart the server; then copy it anew, if anything was skipped", name))
			break // one is the other's older name
		}
	}
	for _, name := range []string{"sql_replica_skip_counter", "sql_slave_skip_counter"} {
		if v, ok := c.vars[name]; ok && v != "0" {
			c.refuse(name, fmt.Sprintf("it is %s: the server will skip that many events", v), fmt.Sprintf("SET GLOBAL %s = 0;", name))
			break
		}
	}
	for _, name := range []string{"replica_exec_mode", "slave_exec_mode"} {
		if c.is(name, "IDEMPOTENT") {
			c.refuse(name, "it is IDEMPOTENT: the server passes over rows that it cannot find or that are there already, and then counts the transaction as executed", c.set(name, "STRICT"))
			break
		}
	}
}

// compare finds out whether a reader gets the source's transactions. from was read
// after what the reader shows.
func (c *readerCheck) compare(from pipeline.View) {
	if !c.asked || c.srv.UUID == from.Server {
		return
	}
	lacks := c.shown.Missing(from.Shown)
	switch common := c.shown.Intersect(from.Shown); {
	case c.srv.MariaDB() != strings.HasPrefix(from.Server, "mariadb-"):
		c.refuse("source", fmt.Sprintf("the source is %s and this server %s: one's transactions cannot be found on the other", from.Server, c.srv.UUID), "name a server that replicates from the source")
		return
	case common.Empty() && !from.Shown.Empty() && c.channels == 0:
		c.refuse("source", "it has no transaction in common with the source, and replicates from no server", "name a server that replicates from the source; or correct source.addr")
		return
	case common.Empty() && !from.Shown.Empty():
		c.warn("source", "it has no transaction in common with the source: either it has just begun, or it replicates from another server", "let it replicate from the source")
	case lacks > 0 && c.channels == 0:
		c.warn("source", fmt.Sprintf("it replicates from no server and lacks %d transactions of the source: it will be put out after %v", lacks, c.maxWait), "let it replicate from the source, or let no fill read from it")
	}
	if own := c.own(from.Shown); own > 0 && c.channels > 0 {
		c.warn("source", fmt.Sprintf("it has %d transactions of its own that the source lacks: no key is deleted for what is written to it directly", own), c.set("read_only", "ON")+" and delete those keys")
	}
}

// own counts the transactions that were written to the reader itself and that the
// source does not have. On MariaDB a position does not tell.
func (c *readerCheck) own(source gtid.Set) int64 {
	all, err := gtid.Parse(c.srv.UUID + ":1-9223372036854775806")
	if err != nil {
		return 0
	}
	return source.Missing(c.shown.Intersect(all))
}
