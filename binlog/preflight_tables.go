package binlog

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
	"github.com/doubletap-cdc/doubletap/keys"
)

// tableInfo is one table or view that a rule may mean.
type tableInfo struct {
	db, name, kind, engine string
	columns                map[string]columnInfo // by lower-case name
	names                  []string              // of the columns, as the server has them
}

func (t *tableInfo) String() string { return t.db + "." + t.name }

// tables checks each rule against the tables and columns that are there.
func (p *preflight) tables(ctx context.Context) error {
	if p.cfg.Schema == nil {
		return nil
	}
	all, err := p.listTables(ctx)
	if err != nil {
		return err
	}
	matched := make(map[*keys.Rule][]*tableInfo)
	var used []*tableInfo
	for _, t := range all {
		kt := p.cfg.Schema.Table(t.db, t.name)
		if kt == nil {
			continue
		}
		used = append(used, t)
		for _, r := range kt.Rules() {
			matched[r] = append(matched[r], t)
		}
	}
	if err := p.loadColumns(ctx, used); err != nil {
		return err
	}
	padded, err := p.paddedCollations(ctx)
	if err != nil {
		return err
	}
	account, err := p.account(ctx)
	if err != nil {
		return err
	}
	for _, r := range p.cfg.Schema.Rules() {
		if len(matched[r]) == 0 {
			p.noTable(r, all, account)
			continue
		}
		tables := p.baseTables(r, matched[r])
		p.ruleColumns(r, tables, account)
		p.ruleCollations(r, tables, padded)
	}
	p.engines(used)
	return p.foreignKeys(ctx, matched)
}

// systemSchemas hold the server's own tables.
const systemSchemas = "('mysql', 'sys', 'performance_schema', 'information_schema')"

// listTables returns the tables and views that the user may see.
func (p *preflight) listTables(ctx context.Context) ([]*tableInfo, error) {
	rows, err := p.s.query(ctx, "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, ENGINE FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN "+systemSchemas)
	if err != nil {
		return nil, err
	}
	all := make([]*tableInfo, len(rows))
	for i, r := range rows {
		all[i] = &tableInfo{db: r[0], name: r[1], kind: r[2], engine: r[3]}
	}
	return all, nil
}

// loadColumns fills in the columns, some hundred tables at a time.
func (p *preflight) loadColumns(ctx context.Context, tables []*tableInfo) error {
	byName := make(map[string]*tableInfo)
	for _, t := range tables {
		byName[t.String()] = t
		t.columns = make(map[string]columnInfo)
	}
	for chunk := range slices.Chunk(tables, 500) {
		list := make([]string, len(chunk))
		for i, t := range chunk {
			list[i] = "(" + quote(t.db) + ", " + quote(t.name) + ")"
		}
		rows, err := p.s.query(ctx, `SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME, PRIVILEGES
			FROM information_schema.COLUMNS WHERE (TABLE_SCHEMA, TABLE_NAME) IN (`+strings.Join(list, ", ")+`) ORDER BY ORDINAL_POSITION`)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if t := byName[r[0]+"."+r[1]]; t != nil {
				t.names = append(t.names, r[2])
				t.columns[strings.ToLower(r[2])] = columnInfo{name: r[2], typ: r[3], charset: r[4], collation: r[5], privileges: r[6]}
			}
		}
	}
	return nil
}

// noTable reports a rule that matches nothing: certainly a mistake where it
// names one table, perhaps one where it is a pattern for tables to come.
func (p *preflight) noTable(r *keys.Rule, all []*tableInfo, account string) {
	db, table := r.TableGlob()
	name := unescape(db) + "." + unescape(table)
	grant := fmt.Sprintf("GRANT SELECT ON %s.* TO %s;", backtick(unescape(db)), account)
	if isGlob(db) || isGlob(table) {
		p.warn("table", fmt.Sprintf("%s: rule %q: no table matches %s.%s yet", r.At(), r.Name(), db, table),
			"correct the rule's table, or let it stand for tables to come; a user without privileges on a table does not see it: GRANT SELECT ON *.* TO "+account+";")
		return
	}
	known := make([]string, len(all))
	for i, t := range all {
		known[i] = t.String()
	}
	hint := nearest.Name(name, known)
	if hint != "" && strings.EqualFold(hint, name) {
		hint = fmt.Sprintf(": names compare letter by letter; did you mean %q?", hint)
	} else if hint != "" {
		hint = fmt.Sprintf(": did you mean %q?", hint)
	}
	p.refuse("table", fmt.Sprintf("%s: rule %q: table %s does not exist, or %s may not see it%s", r.At(), r.Name(), name, account, hint),
		"correct the rule's table; or, where the table is there: "+grant)
}

// baseTables leaves out views, which have no row changes of their own.
func (p *preflight) baseTables(r *keys.Rule, tables []*tableInfo) []*tableInfo {
	db, table := r.TableGlob()
	base := tables[:0:0]
	for _, t := range tables {
		switch {
		case !strings.Contains(t.kind, "VIEW") && t.kind != "SEQUENCE":
			base = append(base, t)
		case !isGlob(db) && !isGlob(table):
			p.refuse("table", fmt.Sprintf("%s: rule %q: %s is a %s, which has no row changes", r.At(), r.Name(), t, strings.ToLower(t.kind)),
				"name the tables that it reads instead, one rule for each")
		}
	}
	return base
}

// engines notes tables whose changes are not transactions.
func (p *preflight) engines(tables []*tableInfo) {
	byEngine := make(map[string][]string)
	for _, t := range tables {
		switch strings.ToUpper(t.engine) {
		case "MYISAM", "ARIA", "MEMORY", "CSV", "ARCHIVE", "MRG_MYISAM":
			byEngine[t.engine] = append(byEngine[t.engine], t.String())
		}
	}
	for _, e := range slices.Sorted(maps.Keys(byEngine)) {
		p.note("engine", fmt.Sprintf("%s: engine %s has no transactions: readers see a statement's rows before it ends, a crash may repair or empty the table without a binlog entry", listed(byEngine[e]), e),
			fmt.Sprintf("ALTER TABLE %s ENGINE = InnoDB; and so on", backtickName(byEngine[e][0])))
	}
}

// listed prints a few names of a list.
func listed(names []string) string {
	const most = 3
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// isGlob says whether half of a rule's table matches more than one name.
func isGlob(half string) bool {
	for i := 0; i < len(half); i++ {
		switch half[i] {
		case '\\':
			i++
		case '*', '?':
			return true
		}
	}
	return false
}

func unescape(half string) string {
	var b strings.Builder
	for i := 0; i < len(half); i++ {
		if half[i] == '\\' && i+1 < len(half) {
			i++
		}
		b.WriteByte(half[i])
	}
	return b.String()
}

func backtick(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func backtickName(dotted string) string {
	db, table, _ := strings.Cut(dotted, ".")
	return backtick(db) + "." + backtick(table)
}
