package binlog

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// xaTables remembers which tables a prepared XA transaction has changed. Its
// rows are published when they come, at XA PREPARE; at XA COMMIT, which may
// come much later and brings no rows, the keys of those tables are stale again.
// It lives as long as the process: a transaction that was prepared before, or
// that was pushed out here, makes everything stale when it commits.
type xaTables struct {
	byXID map[string][]pipeline.Scope
	order []string
}

// maxPrepared bounds the transactions remembered.
const maxPrepared = 10000

// prepared adds to what is remembered of xid. An xid may be used again, and the
// commit of the earlier transaction may come again after a reconnect, after the
// later one was seen: both are remembered.
func (x *xaTables) prepared(xid string, scopes []pipeline.Scope) {
	if x.byXID == nil {
		x.byXID = map[string][]pipeline.Scope{}
	}
	if _, ok := x.byXID[xid]; !ok {
		x.order = append(x.order, xid)
	}
	all := slices.Clone(x.byXID[xid]) // what commit returned before does not change
	for _, s := range scopes {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	x.byXID[xid] = all
	for len(x.order) > maxPrepared {
		delete(x.byXID, x.order[0])
		x.order = x.order[1:]
	}
}

// commit returns what the transaction changed. It is not forgotten: the same
// XA COMMIT comes again after a reconnect.
func (x *xaTables) commit(xid string) (scopes []pipeline.Scope, known bool) {
	scopes, known = x.byXID[xid]
	return scopes, known
}

// xidText is one spelling for an xid, whoever wrote it.
func xidText(format uint64, gtrid, bqual []byte) string {
	return fmt.Sprintf("%d:%x:%x", format, gtrid, bqual)
}

// classifyXA reads XA START|BEGIN|END|PREPARE|COMMIT|ROLLBACK xid. Both servers
// write an xid as X'hex',X'hex',number.
func classifyXA(verb, sql string) statement {
	kind, ok := map[string]statementKind{
		"START": stmtXAStart, "BEGIN": stmtXAStart, "END": stmtXAEnd, "PREPARE": stmtXAEnd,
		"COMMIT": stmtXACommit, "ROLLBACK": stmtXARollback,
	}[verb]
	if !ok {
		return statement{kind: stmtChange, scopes: []pipeline.Scope{pipeline.Everything}, reason: "an XA statement that is not understood"}
	}
	xid, ok := parseXID(sql)
	if !ok {
		xid = "" // never prepared, so unknown
	}
	return statement{kind: kind, xid: xid}
}

func parseXID(sql string) (string, bool) {
	rest := skipBlank(sql)
	for range 2 { // XA and the verb
		rest = skipBlank(rest[wordLen(rest):])
	}
	var parts [2][]byte
	for i := range parts {
		text, found := strings.CutPrefix(strings.ToUpper(rest[:min(len(rest), 2)])+rest[min(len(rest), 2):], "X'")
		if !found {
			return "", false
		}
		digits, after, found := strings.Cut(text, "'")
		part, err := hex.DecodeString(digits)
		if !found || err != nil {
			return "", false
		}
		parts[i] = part
		if rest, found = strings.CutPrefix(skipBlank(after), ","); !found {
			return xidText(1, parts[0], parts[1]), true // what is left out has its default
		}
		rest = skipBlank(rest)
	}
	format, err := strconv.ParseUint(rest[:wordLen(rest)], 10, 32)
	if err != nil {
		return "", false
	}
	return xidText(format, parts[0], parts[1]), true
}
