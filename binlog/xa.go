package binlog

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// xaEnded closes a transaction that holds XA COMMIT or XA ROLLBACK. Where rows
// came with it, in a transaction that began with XA START, they were never
// prepared: COMMIT is then of one phase, and what a ROLLBACK leaves in the binlog
// is rows of tables without transactions, which are changed all the same.
func (a *assembler) xaEnded(ctx context.Context, step pipeline.XAStep, xid string) error {
	if a.xa == pipeline.XAHeld {
		step = pipeline.XAOnePhase
	}
	return a.endXA(ctx, step, xid)
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
