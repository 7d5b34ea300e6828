package integration

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// expected is one delete that a committed change asks for, twice.
type expected struct {
	key, rule string
	rowChange
}

// oracle is what must be deleted, as mysqlbinlog tells it.
type oracle struct {
	byKey   map[string][]expected // in commit order
	rows    int
	unquote func(string) (string, error)
}

// binlogPlace is where a part of the binlog begins.
type binlogPlace struct {
	file string
	pos  uint64
}

// mark makes the oracle begin with what is committed from now on.
func (r *rig) mark() {
	r.t.Helper()
	r.mon.forget()
	stmt := "SHOW BINARY LOG STATUS"
	if r.mariadb() {
		stmt = "SHOW MASTER STATUS"
	}
	rows, err := r.sql.QueryContext(r.t.Context(), stmt)
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil || !rows.Next() {
		r.t.Fatal("the source has no binlog", err)
	}
	into := []any{&r.from.file, &r.from.pos}
	for range len(columns) - len(into) {
		into = append(into, new(any))
	}
	if err := rows.Scan(into...); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) mariadb() bool { return r.o.source.Kind == "mariadbd" }

// ask reads the binlog from the mark on with the vendor's tool. begins says when a transaction's COMMIT was sent, where
// the binlog tells the second only (MariaDB).
func (r *rig) ask(begins map[string]int64) *oracle {
	r.t.Helper()
	name, o := "mysqlbinlog", &oracle{byKey: map[string][]expected{}, unquote: unquoteMySQL}
	if r.mariadb() {
		name, o.unquote = "mariadb-binlog", unquoteMariaDB
	}
	cmd := r.tool(name, "--read-from-remote-server", "--to-last-log", "--verbose", "--verbose", "--base64-output=decode-rows",
		fmt.Sprintf("--start-position=%d", r.from.pos), r.from.file)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	rules := testRules(r.db)
	p := binlogReader{row: func(c rowChange) error {
		if at, ok := begins[c.gtid]; ok {
			c.committed = at
		}
		return o.add(rules, r.db, c)
	}, file: r.from.file}
	if err := p.read(out); err != nil {
		r.t.Fatalf("read the output of %s near %s: %v", name, p.cur.position, err)
	}
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("%s: %v\n%s", name, err, &stderr)
	}
	return o
}

func (o *oracle) add(rules []*rule, db string, c rowChange) error {
	if c.db != db {
		return nil
	}
	t := tableNamed(c.table)
	if t == nil {
		return fmt.Errorf("a table %s that no test has made", c.table)
	}
	before, err := imageOf(t, c.before, o.unquote)
	if err != nil {
		return err
	}
	after, err := imageOf(t, c.after, o.unquote)
	if err != nil {
		return err
	}
	o.rows++
	for _, rule := range rules {
		if !rule.tables(c.db, c.table) {
			continue
		}
		for _, k := range rule.keysOf(before, after) {
			o.byKey[k] = append(o.byKey[k], expected{key: k, rule: rule.name, rowChange: c})
		}
	}
	return nil
}

// verdict is what comparing the oracle with MONITOR brought.
type verdict struct {
	problems []string
	count    int
	single   int // keys with one delete since the last change: right only if it was late enough
}

const shown = 8 // problems in full

func (v *verdict) add(format string, args ...any) {
	if v.count++; v.count <= shown {
		v.problems = append(v.problems, fmt.Sprintf(format, args...))
	}
}

// compare checks that each change's keys were deleted after its commit, and once more, at least fill after the commit.
// Of a key's last change, which no later change can cover up, two deletes must be seen, or it is counted as single. When
// the invalidator saw the event, from where on fill counts, cannot be observed from outside; that the deletes are fill
// apart is what settle looks at, on an idle pipeline.
func (o *oracle) compare(deletes map[string][]int64, fill time.Duration) (v verdict) {
	for _, key := range slices.Sorted(maps.Keys(o.byKey)) {
		at := slices.Clone(deletes[key])
		slices.Sort(at) // several monitors, or a clock that was set back
		changes := o.byKey[key]
		slices.SortStableFunc(changes, func(a, b expected) int { return cmp.Compare(a.committed, b.committed) })
		for _, c := range changes {
			switch {
			case len(at) == 0 || at[len(at)-1] < c.committed:
				v.add("never deleted after its change:\n%s", path(c, at))
			case at[len(at)-1] < c.committed+fill.Microseconds():
				v.add("no second delete:\n%s", path(c, at))
			}
		}
		last := changes[len(changes)-1]
		i, _ := slices.BinarySearch(at, last.committed)
		if len(at)-i == 1 {
			v.single++
		}
	}
	return v
}

// probe is a key that nobody has: the preflight tries with it whether it may delete.
const probe = "doubletap:preflight:none"

// unexpected returns the keys that were deleted and should not have been.
func (o *oracle) unexpected(deletes map[string][]int64) (extra []string) {
	for k := range deletes {
		if len(o.byKey[k]) == 0 && !strings.HasPrefix(k, "marker:") && k != probe {
			extra = append(extra, k)
		}
	}
	return extra
}

// path is all that is known of one expected delete.
func path(c expected, at []int64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  key %q of rule %s\n  change of %s.%s at %s, GTID %s, committed %s\n    before %.300q\n    after  %.300q\n  MONITOR:",
		c.key, c.rule, c.db, c.table, c.position, c.gtid, clock(c.committed), c.before, c.after)
	for _, x := range at {
		fmt.Fprintf(&b, " %s (%+.3f s)", clock(x), float64(x-c.committed)/1e6)
	}
	if len(at) == 0 {
		b.WriteString(" no delete at all")
	}
	return b.String()
}

func clock(micro int64) string { return time.UnixMicro(micro).UTC().Format("15:04:05.000000") }

// require fails the test where deletes are missing, or were made that no change asks for.
func (r *rig) require(o *oracle) {
	r.t.Helper()
	deletes := r.mon.snapshot()
	v := o.compare(deletes, r.o.fill+r.o.lag)
	if v.count > 0 {
		r.t.Errorf("%d of %d keys (%d row changes) are wrong, for example:\n%s\n%s",
			v.count, len(o.byKey), o.rows, strings.Join(v.problems, "\n"), r.state())
	}
	if extra := o.unexpected(deletes); len(extra) > 0 {
		slices.Sort(extra)
		r.t.Errorf("%d keys were deleted that no change asks for, for example %q", len(extra), extra[:min(len(extra), 10)])
	}
	late := 0
	for _, p := range r.procs {
		for _, m := range lateEnough.FindAllStringSubmatch(p.Log(), -1) {
			n, _ := strconv.Atoi(m[1])
			late += n
		}
	}
	if v.single > late {
		r.t.Errorf("%d keys were deleted once only, and the invalidators say of %d keys that the first delete was late enough", v.single, late)
	}
	r.t.Logf("%d row changes, %d keys, %d deletes seen, %d keys with a single delete, %d late enough", o.rows, len(o.byKey), r.mon.count(), v.single, late)
}

// lateEnough is what an invalidator's log says, on level debug, when the first delete counts as the second one too.
var lateEnough = regexp.MustCompile(`msg=deleted .*pass=second .*keys=(\d+) skipped=true`)
