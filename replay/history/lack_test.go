package history

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

const todaySchema = `
version: 1
keys:
  - name: item
    table: shop.item
    key: "item:{id}:{sku}"
  - name: orders
    table: shop.orders_*
    key: "orders:{id}"
`

// event makes a record of one row.
func event(n int, schema, table string, columns ...string) string {
	names := make([]string, len(columns))
	values := make([]string, len(columns))
	for i, c := range columns {
		names[i], values[i] = fmt.Sprintf("%q", c), fmt.Sprint(i)
	}
	return fmt.Sprintf(`{"v":1,"kind":"changes","source":"shop","gtid":"%s:%d","seq":0,"committed_us":%d,"schema":%q,"tables":[{"db":"shop","table":%q,"columns":[%s],"rows":[{"after":[%s]}]}]}`,
		testUUID, n, lackStart.Add(time.Duration(n)*time.Second).UnixMicro(), schema, table, strings.Join(names, ","), strings.Join(values, ","))
}

var lackStart = time.Now().Add(-time.Hour).Truncate(time.Second)

func TestLacks(t *testing.T) {
	schema := parseSchema(t, todaySchema)
	today, set := schema.Hash(), func(from, to int) string { return fmt.Sprintf("%s:%d-%d", testUUID, from, to) }
	all := LogRange{AllPartitions, -1, -1}
	for _, c := range []struct {
		name    string
		records []string
		spec    LogSpec
		want    []Lack
	}{
		{"nothing", []string{event(1, today, "item", "sku", "ID"), progressed(1, today)}, LogSpec{}, nil},
		{"columns of two tables", []string{
			progressed(4, today), event(5, "old", "item", "id"), event(6, "old", "orders_1", "id"), event(7, "old", "item", "x"),
			event(8, "old", "orders_2"), event(9, today, "item", "id", "sku"), progressed(9, today),
		}, LogSpec{}, []Lack{
			{DB: "shop", Table: "item", Columns: []string{"sku", "id"}, Events: 2, Schema: "old", Set: set(5, 7)},
			{DB: "shop", Table: "orders_2", Columns: []string{"id"}, Events: 1, Schema: "old", Set: testUUID + ":8"},
			{DB: "shop", Table: "orders_*", Events: 4, Schema: "old", Set: set(5, 8), After: set(1, 4)},
		}},
		{"one of the tables of a glob", []string{progressed(4, today), event(6, "old", "item", "id", "sku"), event(7, "old", "orders_1", "id"), progressed(8, "old"), progressed(9, today)},
			LogSpec{}, []Lack{{DB: "shop", Table: "orders_*", Events: 2, Schema: "old", Set: set(1, 8), After: set(1, 4)}}},
		{"a table that was not published", []string{
			event(3, today, "orders_1", "id"), progressed(4, today), event(6, "old", "item", "id", "sku"), progressed(8, "old"), event(9, "old", "item", "id", "sku"), progressed(12, "old"),
			progressed(13, today), event(20, today, "orders_1", "id"),
		}, LogSpec{}, []Lack{{DB: "shop", Table: "orders_*", Events: 2, Schema: "old", Set: set(1, 12), After: set(1, 4)}}},
		{"a schema that published nothing in the range", []string{progressed(4, today), progressed(5, "old"), progressed(6, "old"), progressed(7, today)}, LogSpec{}, []Lack{
			{DB: "shop", Table: "item", Schema: "old", Set: set(1, 6), After: set(1, 4)}, {DB: "shop", Table: "orders_*", Schema: "old", Set: set(1, 6), After: set(1, 4)},
		}},
		{"a range inside", []string{progressed(2, "old"), progressed(4, "old"), event(6, "old", "item", "id", "sku"), progressed(8, "old"), event(9, "old", "item", "id", "sku"), progressed(12, "old")},
			LogSpec{Ranges: []LogRange{{0, 2, 3}}}, []Lack{{DB: "shop", Table: "orders_*", Events: 1, Schema: "old", Set: set(1, 8), After: set(1, 4)}}},
		{"a range from the start on", []string{event(6, "old", "item", "id", "sku"), progressed(8, "old")}, LogSpec{Ranges: []LogRange{all}},
			[]Lack{{DB: "shop", Table: "orders_*", Events: 1, Schema: "old", Set: set(1, 8)}}},
		{"what came again", []string{progressed(8, today), event(5, "old", "item", "id", "sku"), progressed(9, "old")}, LogSpec{},
			[]Lack{{DB: "shop", Table: "orders_*", Events: 1, Schema: "old", Set: set(1, 9), After: testUUID + ":1-4:6-8"}}},
		{"a time", []string{
			event(1, "older", "item"), progressed(1, "older"), event(2, today, "item", "id", "sku"), progressed(3, "old"), event(4, "old", "item", "id", "sku"), progressed(5, "old"),
			event(300, today, "item", "id", "sku"), progressed(300, today), progressed(301, "later"), event(302, "later", "item"),
		}, LogSpec{Since: lackStart.Add(4 * time.Second), Until: lackStart.Add(100 * time.Second)}, []Lack{
			{DB: "shop", Table: "orders_*", Events: 1, Schema: "old", Set: set(1, 5), After: testUUID + ":1"}}},
		{"a time before which the schema had changed", []string{event(1, "old", "item"), progressed(1, "old"), progressed(2, today), event(200, today, "item", "id", "sku")},
			LogSpec{Since: lackStart.Add(100 * time.Second)}, nil},
		{"no known transaction", []string{strings.Replace(event(1, "old", "item"), testUUID+":1", "", 1)}, LogSpec{}, []Lack{
			{DB: "shop", Table: "item", Columns: []string{"id", "sku"}, Events: 1, Schema: "old"}, {DB: "shop", Table: "orders_*", Events: 1, Schema: "old"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			deps := LogDeps{Log: &memoryLog{records: c.records}, Schema: schema}
			s, err := OpenLog(deps, c.spec)
			plan := planLog(t, s, err)
			if !reflect.DeepEqual(s.Lacks(), c.want) {
				t.Errorf("lacks %+v\nwant %+v", s.Lacks(), c.want)
			}
			if len(plan.Warnings) != len(c.want) {
				t.Errorf("warnings %q", plan.Warnings)
			}
			for i, l := range c.want {
				for _, part := range slices.Concat([]string{l.DB + "." + l.Table, l.Set, l.After}, l.Columns) {
					if !strings.Contains(plan.Warnings[i], part) {
						t.Errorf("the warning %q does not say %q", plan.Warnings[i], part)
					}
				}
				if _, err := OpenBinlog(BinlogDeps{Source: nil}, BinlogSpec{Set: l.Set, After: l.After}); err != nil && strings.Contains(err.Error(), "GTID") && !strings.Contains(err.Error(), "does not tell") {
					t.Errorf("the binlog cannot be replayed by it: %v", err)
				}
			}
		})
	}
}

// Of a schema that is known, quiet tables are not reported, but new ones are.
func TestLacksOfAKnownSchema(t *testing.T) {
	schema := parseSchema(t, todaySchema)
	for what, text := range map[string]string{
		"item":                strings.ReplaceAll(todaySchema, "item:{id}", "was:{id}"),
		"item shop.orders_*":  "version: 1\nkeys:\n  - name: item\n    table: shop.item\n    key: \"item:{id}:{sku}\"\n",
		"item shop.orders_* ": "version: 1\nkeys:\n  - name: some\n    table: shop.orders_1\n    key: \"was:{id}\"\n",
	} {
		old := parseSchema(t, text)
		log := &memoryLog{records: []string{progressed(1, old.Hash()), event(2, old.Hash(), "item", "id", "sku"), event(3, old.Hash(), "orders_1", "id"), progressed(4, old.Hash())}}
		s, err := OpenLog(LogDeps{Log: log, Schema: schema, Old: old}, LogSpec{})
		planLog(t, s, err)
		got := "item"
		for _, l := range s.Lacks() {
			got += " " + l.DB + "." + l.Table
		}
		if got != strings.TrimSpace(what) {
			t.Errorf("lacks %q, want %q", got, what)
		}
	}
}

func TestGTIDSpan(t *testing.T) {
	other := strings.Replace(testUUID, "3", "4", 1)
	for _, c := range []struct {
		ids                []string
		set, after, before string
		spare              string
	}{
		{[]string{testUUID + ":9", testUUID + ":5"}, testUUID + ":5-9", "", testUUID + ":1-7," + other + ":1", testUUID + ":1-4," + other + ":1"},
		{[]string{testUUID + ":tag:9", strings.ToUpper(testUUID) + ":3"}, testUUID + ":3:tag:9", "", testUUID + ":1-3", testUUID + ":1-2"},
		{[]string{"0-1-9", "0-2-5", "3-1-1"}, "0-1-9,3-1-1", "0-1-4", "0-1-3,7-1-1", "0-1-3,7-1-1"},
		{[]string{"0-1-9", "0-2-5"}, "0-1-9", "0-1-4", "0-1-6,7-1-1", "0-1-4,7-1-1"},
		{[]string{"0-1-9", ""}, "", "", "", ""},
		{[]string{testUUID + ":1-9"}, "", "", "", ""},
	} {
		var s gtidSpan
		for _, id := range c.ids {
			s.add(id)
		}
		if set, after := s.sets(); set != c.set || after != c.after {
			t.Errorf("%v: %q after %q, want %q after %q", c.ids, set, after, c.set, c.after)
		}
		if s.unknown {
			continue
		}
		before, err := gtid.Parse(c.before)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.spare(before, c.after); got != c.spare {
			t.Errorf("%v: spare of %q is %q, want %q", c.ids, c.before, got, c.spare)
		}
	}
}
