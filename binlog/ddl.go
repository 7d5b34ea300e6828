package binlog

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// statementKind says what a statement in the binlog means for its transaction.
type statementKind int

const (
	stmtNothing    statementKind = iota // no row and no table can have changed
	stmtBegin                           // BEGIN
	stmtCommit                          // COMMIT
	stmtRollback                        // ROLLBACK of the whole transaction
	stmtMark                            // SAVEPOINT and the like: inside a transaction
	stmtXAStart                         // XA START
	stmtXAEnd                           // XA END
	stmtXACommit                        // XA COMMIT
	stmtXARollback                      // XA ROLLBACK
	stmtChange                          // rows may have changed without a row in the binlog
)

// statement is what the text of a query event comes to.
type statement struct {
	kind   statementKind
	xid    string           // XA
	scopes []pipeline.Scope // stmtChange
	reason string
}

// classify reads a statement without a parser. db is the session's default
// database. Its rule: a statement that is not known to be harmless makes stale
// what it names, and one that is not known at all its whole database.
func classify(schema *keys.Schema, db, sql string) statement {
	w := firstWords(sql, 8)
	if len(w) == 0 {
		return statement{}
	}
	switch w[0] {
	case "BEGIN":
		return statement{kind: stmtBegin}
	case "START":
		if second(w) == "TRANSACTION" {
			return statement{kind: stmtBegin}
		}
	case "COMMIT":
		if second(w) != "ALTER" {
			return statement{kind: stmtCommit}
		}
	case "ROLLBACK":
		if slices.Contains(w, "TO") {
			return statement{kind: stmtMark}
		}
		if second(w) != "ALTER" {
			return statement{kind: stmtRollback}
		}
	case "SAVEPOINT", "RELEASE":
		return statement{kind: stmtMark}
	case "XA":
		return classifyXA(second(w), sql)
	}
	if harmless(w, sql) {
		return statement{}
	}
	return changed(schema, w, db, sql)
}

func second(w []string) string {
	if len(w) < 2 {
		return ""
	}
	return w[1]
}

// harmless says whether the statement can change no row that a cache may hold.
func harmless(w []string, sql string) bool {
	switch w[0] {
	case "GRANT", "REVOKE", "OPTIMIZE", "CHECK", "CHECKSUM", "FLUSH", "INSTALL", "UNINSTALL", "SHUTDOWN", "KILL":
		return true
	case "ANALYZE": // MariaDB's ANALYZE UPDATE ... runs the statement
		return strings.HasPrefix(objectOf(w), "TABLE")
	case "SET":
		return second(w) != "STATEMENT" // SET STATEMENT ... FOR ...: MariaDB
	case "RENAME", "ALTER", "DROP":
		return harmlessObject(objectOf(w)) || temporary(w)
	case "CREATE":
		switch objectOf(w) {
		case "DATABASE", "SCHEMA":
			return true // a new one is empty
		case "TABLE":
			return temporary(w) || createsEmpty(sql)
		}
		return harmlessObject(objectOf(w))
	}
	return false
}

// temporary: a temporary table is seen by its own session only. The word is
// no reserved one, so only its place tells it from a name.
func temporary(w []string) bool {
	for _, word := range w[1:] {
		switch word {
		case "TEMPORARY":
			return true
		case "OR", "REPLACE":
			continue
		}
		return false
	}
	return false
}

// objects are the kinds of things that CREATE, ALTER, DROP and RENAME act on.
var objects = []string{
	"TABLE", "TABLES", "DATABASE", "SCHEMA", "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "USER", "ROLE", "INDEX",
	"SERVER", "SEQUENCE", "TABLESPACE", "PACKAGE", "LIBRARY", "INSTANCE", "LOGFILE", "UNDO", "RESOURCE", "SPATIAL", "CATALOG",
}

// objectOf returns the first word after the keyword that names a kind of thing.
// What may stand between them (OR REPLACE, DEFINER = ..., UNIQUE, ONLINE) is
// none of these words, and quoted names are not words.
func objectOf(w []string) string {
	for _, word := range w[1:] {
		if slices.Contains(objects, word) {
			return word
		}
		if word == "DEFINER" || word == "ALGORITHM" || word == "SQL" || word == "AGGREGATE" {
			return "PROCEDURE" // only programs and views have these
		}
	}
	return ""
}

// harmlessObject: an index changes how rows are found and not what they are; a
// view, a trigger or a program changes rows only when it is used, and that is
// another event.
func harmlessObject(object string) bool {
	switch object {
	case "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "USER", "ROLE", "INDEX", "SERVER", "PACKAGE", "LIBRARY",
		"INSTANCE", "LOGFILE", "RESOURCE", "SPATIAL":
		return true
	}
	return false
}

// createsEmpty says whether a CREATE TABLE makes a table without rows: it names
// nothing that rows could come from. A table that is new has no key in any
// cache. CREATE TABLE IF NOT EXISTS changes nothing where the table exists.
func createsEmpty(sql string) bool {
	empty, tables := true, 0
	eachName(sql, func(n name) {
		switch strings.ToUpper(n.text) {
		case "SELECT", "REPLACE", "UNION", "VALUES", "WITH", "FEDERATED", "CONNECT", "SPIDER", "S3", "TABLESPACE", "DIRECTORY":
			empty = false
		case "TABLE": // CREATE TABLE a TABLE b copies b
			tables++
		}
	})
	return empty && tables < 2
}

// maxStatement is the longest statement that is searched for names.
const maxStatement = 1 << 20

// changed says which tables a statement makes stale.
func changed(schema *keys.Schema, w []string, db, sql string) statement {
	st := statement{kind: stmtChange, reason: strings.TrimSpace(w[0] + " " + objectOf(w))}
	if len(sql) > maxStatement {
		st.scopes, st.reason = []pipeline.Scope{pipeline.Everything}, fmt.Sprintf("a statement of %d bytes", len(sql))
		return st
	}
	f := finder{schema: schema, db: db}
	switch w[0] {
	case "TRUNCATE": // TABLE may be left out: the word that follows may be a name, such as catalog
		st.reason = "TRUNCATE TABLE"
		f.tables(sql)
	case "RENAME", "CREATE", "REPAIR", "ALTER", "DROP", "IMPORT":
		if o := objectOf(w); o == "DATABASE" || o == "SCHEMA" || o == "CATALOG" {
			f.databases(sql)
			break
		}
		if w[0] == "IMPORT" { // names files, not tables
			f.wholeDatabase()
		}
		f.tables(sql)
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "WITH", "MERGE":
		// Statement format. Triggers and views may have changed tables that the
		// text does not name: the session's database, and every other one named.
		st.reason = w[0] + " in statement format"
		f.tables(sql)
		f.wholeDatabase()
		f.databases(sql)
	default:
		st.reason = fmt.Sprintf("a statement that is not understood (%s)", clip(w[0]))
		f.tables(sql)
		f.wholeDatabase()
		f.databases(sql)
	}
	f.uncertainText(sql)
	if st.scopes = f.scopes; len(st.scopes) == 0 {
		st.kind = stmtNothing
	}
	return st
}

func clip(s string) string {
	if s == "" {
		return "no keyword"
	}
	return s[:min(len(s), 20)]
}

// finder collects the scopes of the rules that a statement's text reaches.
type finder struct {
	schema *keys.Schema
	db     string
	scopes []pipeline.Scope
}

func (f *finder) add(s pipeline.Scope) {
	if !slices.Contains(f.scopes, s) {
		f.scopes = append(f.scopes, s)
	}
}

// tables adds every rule whose table the text may name.
func (f *finder) tables(sql string) {
	// A comment may stand between a database, the dot and the table: then what
	// is before a name says nothing.
	anyDB := strings.Contains(sql, "/*") || strings.Contains(sql, "--") || strings.Contains(sql, "#")
	eachName(sql, func(n name) {
		for _, r := range f.schema.Rules() {
			dbGlob, tableGlob := r.TableGlob()
			if !globMatch(tableGlob, n.text) {
				continue
			}
			db := f.db
			if n.qualified {
				db = n.qualifier
			}
			switch {
			case anyDB || db == "":
				f.add(pipeline.Scope{DB: dbGlob, Table: tableGlob})
			case globMatch(dbGlob, db):
				if f.schema.Table(db, n.text) != nil {
					f.add(pipeline.TableScope(db, n.text))
				} else { // written in another case
					f.add(pipeline.Scope{DB: dbGlob, Table: tableGlob})
				}
			}
		}
	})
}

// databases adds all rules of the databases that the text may name.
func (f *finder) databases(sql string) {
	eachName(sql, func(n name) {
		for _, r := range f.schema.Rules() {
			if dbGlob, _ := r.TableGlob(); globMatch(dbGlob, n.text) {
				f.add(pipeline.Scope{DB: dbGlob, Table: "*"})
			}
		}
	})
}

// wholeDatabase adds all rules of the default database.
func (f *finder) wholeDatabase() {
	for _, r := range f.schema.Rules() {
		if dbGlob, _ := r.TableGlob(); f.db == "" || globMatch(dbGlob, f.db) {
			f.add(pipeline.Scope{DB: dbGlob, Table: "*"})
		}
	}
}

// uncertainText: a statement travels in its client's character set. Where that
// is not UTF-8, a name that is not ASCII cannot be recognised.
func (f *finder) uncertainText(sql string) {
	if utf8.ValidString(sql) {
		return
	}
	for _, r := range f.schema.Rules() {
		db, table := r.TableGlob()
		if strings.ContainsFunc(db+table, func(c rune) bool { return c == '*' || c == '?' || c >= utf8.RuneSelf }) {
			f.add(pipeline.Scope{DB: db, Table: table})
		}
	}
}
