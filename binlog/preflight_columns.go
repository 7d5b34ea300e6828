package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
	"github.com/doubletap-cdc/doubletap/keys"
)

// columnInfo is one column as information_schema describes it.
type columnInfo struct {
	name, typ          string
	charset, collation string
	privileges         string // of this user: "select,insert"
}

// ruleColumns checks that each table of a rule has the columns that the rule
// needs, with types that can be used. What many sharded tables share is said once.
func (p *preflight) ruleColumns(r *keys.Rule, tables []*tableInfo, account string) {
	type problem struct{ text, fix string }
	var order []problem
	where := make(map[problem][]string)
	say := func(t *tableInfo, text, fix string) {
		one := problem{text, fix}
		if where[one] == nil {
			order = append(order, one)
		}
		where[one] = append(where[one], t.String())
	}
	inKey := len(r.KeyColumns())
	for _, t := range tables {
		unseen := false
		for i, name := range r.Columns() {
			c, ok := t.columns[strings.ToLower(name)]
			if !ok {
				hint := nearest.Name(name, t.names)
				if hint != "" {
					hint = fmt.Sprintf(": did you mean %q?", hint)
				}
				say(t, fmt.Sprintf("column %q does not exist%s", name, hint), "correct the rule, or add the column")
				continue
			}
			unseen = unseen || !strings.Contains(c.privileges, "select")
			check := keys.CheckType
			if i >= inKey {
				check = keys.CheckConditionType
			}
			if err := check(c.typ); err != nil {
				say(t, fmt.Sprintf("column %q: %v", name, err), "choose another column")
			} else if c.charset != "" && !charsetKnown(c.charset) {
				say(t, fmt.Sprintf("column %q has character set %s, whose text cannot be turned into UTF-8 with certainty", name, c.charset),
					fmt.Sprintf("convert it: ALTER TABLE … MODIFY %s %s CHARACTER SET utf8mb4", backtick(c.name), c.typ))
			}
		}
		if unseen {
			say(t, account+" may not read it", fmt.Sprintf("GRANT SELECT ON %s.* TO %s;", backtick(t.db), account))
		}
	}
	for _, one := range order {
		p.refuse("column", fmt.Sprintf("%s: rule %q: table %s: %s", r.At(), r.Name(), listed(where[one]), one.text), one.fix)
	}
}

// ruleCollations warns of key columns in which the server takes for equal what
// makes different keys.
func (p *preflight) ruleCollations(r *keys.Rule, tables []*tableInfo, padded map[string]bool) {
	for _, name := range r.KeyColumns() {
		folds, trims := templateFilters(r.Template(), name)
		var where, same []string
		var collation string
		for _, t := range tables {
			c := t.columns[strings.ToLower(name)]
			if c.collation == "" || strings.HasPrefix(c.typ, "enum") || strings.HasPrefix(c.typ, "set") {
				continue
			}
			var equal []string
			if !folds && strings.Contains(c.collation, "_ci") {
				equal = append(equal, "'Alice' and 'alice'")
			}
			// CHAR gives no trailing blanks back, so both make one key.
			if !trims && padded[c.collation] && !strings.HasPrefix(c.typ, "char") {
				equal = append(equal, "'a' and 'a '")
			}
			if len(equal) > 0 {
				where, same, collation = append(where, t.String()), equal, c.collation
			}
		}
		if len(where) == 0 {
			continue
		}
		p.warn("collation", fmt.Sprintf("%s: rule %q: column %q of %s has collation %s: %s are one value for the server, but two keys", r.At(), r.Name(), name, listed(where), collation, strings.Join(same, ", and ")),
			fmt.Sprintf("let applications build the key from the row that they read, not from what they searched for; or fold in the template: {%s%s}", name, suggestFilters(same)))
	}
}

func suggestFilters(same []string) (filters string) {
	for _, s := range same {
		if strings.Contains(s, "Alice") {
			filters += "|lower"
		} else {
			filters += "|trim"
		}
	}
	return filters
}

// templateFilters says whether every place of a column in a template folds its
// case, and whether every one trims it.
func templateFilters(template, column string) (folds, trims bool) {
	folds, trims = true, true
	for _, piece := range strings.Split(template, "{")[1:] {
		hole, _, _ := strings.Cut(piece, "}")
		parts := strings.Split(hole, "|")
		if !strings.EqualFold(strings.Trim(strings.TrimSpace(parts[0]), "`"), column) {
			continue
		}
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		folds = folds && (slices.Contains(parts, "lower") || slices.Contains(parts, "upper"))
		trims = trims && slices.Contains(parts, "trim")
	}
	return folds, trims
}

// paddedCollations returns the collations that ignore blanks at the end.
func (p *preflight) paddedCollations(ctx context.Context) (map[string]bool, error) {
	sql := "SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE PAD_ATTRIBUTE = 'PAD SPACE'"
	rows, err := p.s.query(ctx, sql)
	if serverCode(err) == codeNoColumn { // MariaDB, and MySQL 5.7, which has no other ones
		rows, err = p.s.query(ctx, "SELECT FULL_COLLATION_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY WHERE FULL_COLLATION_NAME NOT LIKE '%nopad%'")
		if serverCode(err) == codeNoColumn { // before MariaDB 10.10
			rows, err = p.s.query(ctx, "SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE COLLATION_NAME NOT LIKE '%nopad%'")
		}
	}
	padded := make(map[string]bool, len(rows))
	for _, r := range rows {
		padded[r[0]] = true
	}
	return padded, err
}

// foreignKeys warns of child tables whose rows the server changes without
// writing them to the binlog (H4).
func (p *preflight) foreignKeys(ctx context.Context, matched map[*keys.Rule][]*tableInfo) error {
	fix := "delete or change the child rows in the application, before the parent's; or give the keys a short time to live"
	switch {
	case p.is("innodb_native_foreign_keys", "OFF"):
		return nil // MySQL 9.6 and newer write them
	case p.is("innodb_native_foreign_keys", "ON"):
		fix = config("innodb_native_foreign_keys", "OFF") + "; or " + fix
	}
	rows, err := p.s.query(ctx, `SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, REFERENCED_TABLE_NAME, DELETE_RULE, UPDATE_RULE
		FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA NOT IN `+systemSchemas+` ORDER BY 1, 2, 3`)
	if err != nil {
		return err
	}
	rules := make(map[string][]string)
	for _, r := range p.cfg.Schema.Rules() {
		for _, t := range matched[r] {
			rules[t.String()] = append(rules[t.String()], fmt.Sprintf("%q", r.Name()))
		}
	}
	for _, r := range rows {
		child := r[0] + "." + r[1]
		var acts []string
		for i, verb := range []string{"ON DELETE ", "ON UPDATE "} {
			switch act := r[4+i]; act {
			case "CASCADE", "SET NULL", "SET DEFAULT":
				acts = append(acts, verb+act)
			}
		}
		if len(acts) == 0 || rules[child] == nil {
			continue
		}
		p.warn("foreign key", fmt.Sprintf("%s changes with its parent %s (%s, %s), and such changes are not in the binlog: keys of rule %s that they make stale are not deleted",
			child, r[3], r[2], strings.Join(acts, ", "), listed(rules[child])), fix)
	}
	return nil
}
