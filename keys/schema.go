package keys

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// maxTables bounds the cache of [Schema.Table]. When it is full it starts
// anew: a server with more tables than this pays for matching again.
const maxTables = 16384

// Schema is a parsed key schema. It does not change after [Parse] and is safe
// for concurrent use.
type Schema struct {
	rules  []*Rule
	byName map[string]*Rule
	hash   string

	mu     sync.RWMutex
	tables map[tableName]*Table // nil values are tables without rules
	shared map[string]*Table    // by the rules that match: shards share one
}

type tableName struct{ db, table string }

func newSchema(rules []*Rule) *Schema {
	s := &Schema{rules: rules, byName: make(map[string]*Rule, len(rules))}
	for _, r := range rules {
		s.byName[r.name] = r
	}
	s.hash = hashRules(rules)
	s.forget()
	return s
}

// forget empties the cache of tables.
func (s *Schema) forget() {
	s.tables = make(map[tableName]*Table)
	s.shared = make(map[string]*Table)
}

// hashRules hashes what the rules mean. Each part has its length before it.
func hashRules(rules []*Rule) string {
	h := sha256.New()
	put := func(parts ...string) {
		for _, p := range parts {
			fmt.Fprintf(h, "%d:%s", len(p), p)
		}
	}
	put("doubletap keys 1")
	for _, r := range rules {
		t := r.template
		put("rule", r.name, r.dbGlob, r.tableGlob, t.prefix, r.null)
		for _, hole := range t.holes {
			put("hole", strings.ToLower(t.cols[hole.col]), hole.after)
			for _, f := range hole.filters {
				put("filter", f.name)
			}
		}
		watched := strings.Split(strings.ToLower(strings.Join(r.watched, "\x00")), "\x00")
		slices.Sort(watched)
		put("columns", strings.Join(watched, "\x00"))
		if r.when != nil {
			put("when", r.when.canonical)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Hash returns 16 hex digits that depend on the keys that the schema makes and
// the columns it needs, not on who fills them (fill, lease, on_untrusted), nor on
// comments, whitespace or the order of a rule's fields. Two schemas with the
// same hash build the same keys.
func (s *Schema) Hash() string { return s.hash }

// With returns a schema that has the rules of both, for those who read rows on
// behalf of both: its tables have the columns that either needs. Names of rules
// may be there twice.
func (s *Schema) With(other *Schema) *Schema {
	return newSchema(slices.Concat(s.rules, other.rules))
}

// Rules returns all rules in file order. The caller must not change the slice.
func (s *Schema) Rules() []*Rule { return s.rules }

// Rule returns the rule called name, nil if there is none.
func (s *Schema) Rule(name string) *Rule { return s.byName[name] }

// Key builds the key of the rule called name: the same bytes that the
// invalidators delete. Values are given in the order of the template's
// distinct placeholders: {a}:{b}:{a} takes two values.
//
// A value may be any Go integer, string, []byte (a BINARY column, becomes
// lower-case hex), bool (1 or 0), nil (SQL NULL; so are nil pointers and nil
// slices of bytes), [Value], a named type of these kinds, or a pointer to one.
// Text must be what the row holds, not what a query asked for: 'alice' may
// find the row 'Alice'. time.Time, time.Duration and floats are refused: their
// text depends on the column; the error names the helper to use.
//
// It is an error if the rule is unknown, the number of values is wrong, or a
// value is NULL and the rule skips NULL. Errors hold no values.
func (s *Schema) Key(name string, values ...any) (string, error) {
	r := s.byName[name]
	if r == nil {
		return "", fmt.Errorf("keys: no rule %q in the schema%s", name, didYouMean(name, s.names()))
	}
	cols := r.template.cols
	if len(values) != len(cols) {
		return "", fmt.Errorf("keys: rule %q: got %d values for the %d columns (%s) of %s",
			name, len(values), len(cols), strings.Join(cols, ", "), r.template.source)
	}
	var few [4]Value
	vals := append(few[:0], make([]Value, len(cols))...)
	for i, v := range values {
		var err error
		if vals[i], err = valueOf(v); err != nil {
			return "", fmt.Errorf("keys: rule %q: value %d (%s): %w", name, i+1, cols[i], err)
		}
	}
	var buf [128]byte
	key, bad := r.append(buf[:0], vals)
	switch {
	case bad.null:
		return "", fmt.Errorf("keys: rule %q: %s is NULL, and the rule makes no key for NULL (null: skip)", name, cols[bad.col])
	case bad.failed():
		return "", fmt.Errorf("keys: rule %q: %s: %w", name, cols[bad.col], bad.err)
	}
	return string(key), nil
}

func (s *Schema) names() []string {
	names := make([]string, len(s.rules))
	for i, r := range s.rules {
		names[i] = r.name
	}
	return names
}

// Table returns what the schema says about one table, nil if no rule matches.
// Names are compared exactly, byte for byte. The answer is cached (bounded);
// a [Table] and its bindings stay valid when the cache lets go of them.
func (s *Schema) Table(db, table string) *Table {
	s.mu.RLock()
	t, ok := s.tables[tableName{db, table}]
	s.mu.RUnlock()
	if ok {
		return t
	}
	var rules []*Rule
	var id []byte
	for i, r := range s.rules {
		if r.matches(db, table) {
			rules = append(rules, r)
			id = append(strconv.AppendInt(id, int64(i), 36), ',')
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tables) >= maxTables {
		s.forget()
	}
	if len(rules) > 0 {
		if t = s.shared[string(id)]; t == nil {
			t = newTable(rules)
			s.shared[string(id)] = t
		}
	}
	// The names may be parts of a large packet: keep copies.
	s.tables[tableName{strings.Clone(db), strings.Clone(table)}] = t
	return t
}

// Scope returns the rules whose tables may lie in the scope, in file order:
// globs (* and ?) on both sides, so a rule is returned if some table could
// match both. An empty glob means "*".
func (s *Schema) Scope(dbGlob, tableGlob string) []*Rule {
	db, table := scopeTokens(dbGlob), scopeTokens(tableGlob)
	var rules []*Rule
	for _, r := range s.rules {
		if overlap(db, r.db) && overlap(table, r.table) {
			rules = append(rules, r)
		}
	}
	return rules
}

func scopeTokens(glob string) []token {
	if glob == "" {
		glob = "*"
	}
	return nameTokens(glob)
}

// Protect returns an error that lists each rule whose pattern may overlap one
// of the protected Redis globs (such as "sess:*"), nil if none does.
func (s *Schema) Protect(patterns []string) error {
	var problems []error
	for _, r := range s.rules {
		for _, p := range patterns {
			if GlobsOverlap(r.pattern, p) {
				problems = append(problems, r.errorf("its keys %q overlap the protected %q: give the key another literal beginning, or narrow what is protected", r.pattern, p))
			}
		}
	}
	return errors.Join(problems...)
}

// Warnings names, with file:line, what is allowed and yet likely a mistake:
// pairs of rules whose templates differ but can make the same key, such as
// user:{name} and user:all, where a user called "all" gets the list's key.
func (s *Schema) Warnings() []string {
	var out []string
	for i, a := range s.rules {
		for _, b := range s.rules[:i] {
			if a.template.canMeet(b.template) {
				out = append(out, fmt.Sprintf("%s: rule %q: some value makes its key %s the same as a key %s of rule %q (%s): give one of them another beginning",
					a.at, a.name, a.template.source, b.template.source, b.name, b.at))
			}
		}
	}
	return out
}

// canMeet reports whether values exist for which two templates of different
// shape make the same key.
func (t *template) canMeet(o *template) bool {
	n := min(len(t.prefix), len(o.prefix))
	return t.prefix[:n] == o.prefix[:n] && !t.sameShape(o) && overlap(t.language(), o.language())
}

// sameShape reports whether two templates have the same literals, and so are
// meant to make the same keys.
func (t *template) sameShape(o *template) bool {
	return t.prefix == o.prefix && slices.EqualFunc(t.holes, o.holes, func(a, b hole) bool { return a.after == b.after })
}
