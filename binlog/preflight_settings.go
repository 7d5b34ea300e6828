package binlog

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// preflightVariables are all global variables that Preflight and Server look at.
var preflightVariables = []string{
	"version", "server_uuid", "server_uid", "server_id", "hostname", "port", "persisted_globals_load",
	"log_bin", "gtid_mode", "enforce_gtid_consistency",
	"binlog_format", "binlog_row_image", "binlog_row_metadata", "binlog_row_value_options",
	"binlog_transaction_compression", "binlog_optimize_thread_scheduling",
	"binlog_expire_logs_seconds", "expire_logs_days",
	"log_replica_updates", "log_slave_updates",
	"sync_binlog", "innodb_flush_log_at_trx_commit",
	"innodb_native_foreign_keys", "lower_case_table_names",
	"sql_generate_invisible_primary_key", "show_gipk_in_create_table_and_information_schema",
}

// settings checks the global variables.
func (p *preflight) settings(context.Context) error {
	if p.is("log_bin", "OFF") {
		p.refuse("log_bin", "the server writes no binlog", config("log_bin", "binlog"))
	}
	if p.vars["server_id"] == "0" {
		p.refuse("server_id", "it is 0, so the server serves no replica", p.set("server_id", "1"))
	}
	p.gtid()
	p.rowSettings()
	p.visibility()
	p.durability()
	p.expiry()
	if p.is("binlog_transaction_compression", "ON") {
		p.note("binlog_transaction_compression", "transactions are compressed in the binlog: reading them costs more CPU, and with the canal driver memory for a whole transaction", "")
	}
	return nil
}

// gtid refuses MySQL without GTIDs. MariaDB always has them.
func (p *preflight) gtid() {
	mode, ok := p.vars["gtid_mode"]
	if !ok || mode == "ON" {
		return
	}
	// A running server moves one step at a time.
	steps := []string{p.set("enforce_gtid_consistency", "ON")}
	order := []string{"OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"}
	reached := false
	for _, m := range order {
		if reached && m == "ON" {
			steps = append(steps, "SELECT 'wait until this is 0', VARIABLE_VALUE FROM performance_schema.global_status WHERE VARIABLE_NAME = 'ONGOING_ANONYMOUS_TRANSACTION_COUNT';")
		}
		if reached {
			steps = append(steps, p.set("gtid_mode", m))
		}
		reached = reached || m == mode
	}
	p.refuse("gtid_mode", fmt.Sprintf("it is %s, so a position does not survive a failover and no transaction has a name", mode),
		strings.Join(steps, " ")+" -- with replicas: each step on every server before the next step on any")
}

func (p *preflight) rowSettings() {
	for _, want := range []struct{ name, value, why string }{
		{"binlog_format", "ROW", "changes written as statements name no rows"},
		{"binlog_row_image", "FULL", "the old value of a key column may be missing, and with it the old key"},
	} {
		if v, ok := p.vars[want.name]; ok && !p.is(want.name, want.value) {
			p.refuse(want.name, fmt.Sprintf("it is %s: %s", v, want.why),
				p.set(want.name, want.value)+" -- sessions that are open keep the old value: reconnect the applications")
		}
	}
	if v, ok := p.vars["binlog_row_metadata"]; ok && !p.canal && !p.is("binlog_row_metadata", "FULL") {
		p.refuse("binlog_row_metadata", fmt.Sprintf("it is %s: the binlog names no columns, so rows from before an ALTER TABLE cannot be read with certainty", v),
			p.set("binlog_row_metadata", "FULL"))
	}
	if v := p.vars["binlog_row_value_options"]; v != "" {
		p.refuse("binlog_row_value_options", fmt.Sprintf("it is %s: updates of JSON columns are written as differences", v), p.set("binlog_row_value_options", "''"))
	}
	if p.canal && p.is("show_gipk_in_create_table_and_information_schema", "OFF") {
		p.refuse("show_gipk_in_create_table_and_information_schema", "it is OFF: the canal driver does not see the hidden column my_row_id, and takes each column for the one before it",
			p.set("show_gipk_in_create_table_and_information_schema", "ON"))
	}
	if p.is("sql_generate_invisible_primary_key", "ON") {
		p.note("sql_generate_invisible_primary_key", "tables made without a primary key get a hidden column my_row_id; it is no part of any key unless the schema names it", "")
	}
}

// visibility checks what the gate relies on.
func (p *preflight) visibility() {
	if p.is("binlog_optimize_thread_scheduling", "OFF") {
		p.refuse("binlog_optimize_thread_scheduling", "it is OFF: the server's snapshots run ahead of what readers see, so the visibility gate would open early",
			"remove it from my.cnf (ON is the default), then restart the server")
	}
}

// durability warns of commits that readers may see and a crash may take back.
func (p *preflight) durability() {
	for _, name := range []string{"sync_binlog", "innodb_flush_log_at_trx_commit"} {
		if v, ok := p.vars[name]; ok && v != "1" {
			p.warn(name, fmt.Sprintf("it is %s: a crash of the source's machine can lose commits that readers have already cached", v), p.set(name, "1"))
		}
	}
}

// shortExpiry is an outage over a weekend.
const shortExpiry = 72 * time.Hour

func (p *preflight) expiry() {
	name, unit := "binlog_expire_logs_seconds", time.Second
	n, err := strconv.ParseFloat(p.vars[name], 64)
	if err != nil || n == 0 {
		name, unit = "expire_logs_days", 24*time.Hour
		if n, err = strconv.ParseFloat(p.vars[name], 64); err != nil || n == 0 {
			return // kept until somebody purges
		}
	}
	if keep := time.Duration(n * float64(unit)); keep < shortExpiry {
		// Whole days, as the older variable needs them.
		p.warn(name, fmt.Sprintf("binlogs are kept for %s: after a longer outage of the tailer everything is invalidated", keep),
			p.set(name, strconv.FormatInt(int64(7*24*time.Hour/unit), 10)))
	}
}

// replica checks that a replica writes what it applies to its own binlog.
func (p *preflight) replica(ctx context.Context) error {
	name := "log_replica_updates"
	if _, ok := p.vars[name]; !ok {
		name = "log_slave_updates"
	}
	if !p.is(name, "OFF") {
		return nil
	}
	older := "SHOW SLAVE STATUS"
	if p.srv.MariaDB() {
		older = "SHOW ALL SLAVES STATUS"
	}
	rows, err := p.either(ctx, "SHOW REPLICA STATUS", older)
	switch {
	case serverCode(err) == codeNotGranted:
		p.warn(name, "it is OFF; if this server is a replica, its binlog lacks what it applies", config(name, "ON"))
	case err != nil:
		return err
	case len(rows) > 0:
		p.refuse(name, "this server is a replica and does not write what it applies to its binlog", config(name, "ON"))
	}
	return nil
}

// filters finds databases that are left out of the binlog.
func (p *preflight) filters(ctx context.Context) error {
	rows, err := p.either(ctx, "SHOW BINARY LOG STATUS", "SHOW MASTER STATUS")
	if code := serverCode(err); code == codeNotGranted || code == codeAccessDenied {
		return nil // told by grants
	}
	if err != nil || len(rows) == 0 || len(rows[0]) < 4 {
		return err
	}
	for i, name := range []string{"binlog_do_db", "binlog_ignore_db"} {
		if v := rows[0][2+i]; v != "" {
			p.warn(name, fmt.Sprintf("it is %s: changes of databases that the filter leaves out, or that are made while another database is in use, never reach the binlog", v),
				fmt.Sprintf("remove %s from my.cnf, then restart the server", strings.ReplaceAll(name, "_", "-")))
		}
	}
	return nil
}
