package integration

import (
	"fmt"
	"strings"
)

// column is a column of the tests' tables: its SQL, and what is needed to make canonical text of what mysqlbinlog prints.
type column struct {
	name, sql string
	kind      string // int, uint, decimal, text, latin1, binary, enum, set, date, datetime, timestamp, time, year, bit
	size      int    // BINARY(n): n; TIMESTAMP(n): digits of the fraction
	members   []string
}

// table is a table of the tests.
type table struct {
	name    string
	columns []column
	primary string
}

func (t *table) create(db string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE TABLE %s.%s (", db, t.name)
	for _, c := range t.columns {
		fmt.Fprintf(&b, "%s %s, ", c.name, c.sql)
	}
	fmt.Fprintf(&b, "PRIMARY KEY (%s)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin", t.primary)
	return b.String()
}

func intCol(name string) column  { return column{name: name, sql: "INT NOT NULL", kind: "int"} }
func intNull(name string) column { return column{name: name, sql: "INT NULL", kind: "int"} }

var tables = []*table{
	{"item", []column{
		intCol("id"), intNull("category"),
		{name: "sku", sql: "VARCHAR(100) NULL", kind: "text"},
		{name: "price", sql: "DECIMAL(10,2) NOT NULL", kind: "decimal"},
		{name: "status", sql: "ENUM('draft','on_sale','sold, out','it''s') NOT NULL", kind: "enum", members: []string{"draft", "on_sale", "sold, out", "it's"}},
		{name: "note", sql: "VARCHAR(200) NULL", kind: "text"},
	}, "id"},
	{"account", []column{
		{name: "name", sql: "VARCHAR(600) NOT NULL", kind: "text"},
		{name: "ref", sql: "VARCHAR(80) NULL", kind: "text"},
		{name: "joined", sql: "DATETIME(3) NULL", kind: "datetime"},
	}, "name"},
	{"kinds", []column{
		{name: "id", sql: "BIGINT UNSIGNED NOT NULL", kind: "uint"},
		{name: "bin", sql: "BINARY(6) NULL", kind: "binary", size: 6},
		{name: "vbin", sql: "VARBINARY(40) NULL", kind: "binary"},
		{name: "en", sql: "ENUM('a','b''c','d:e','') NULL", kind: "enum", members: []string{"a", "b'c", "d:e", ""}},
		{name: "st", sql: "SET('x','y z','w') NULL", kind: "set", members: []string{"x", "y z", "w"}},
		{name: "de", sql: "DECIMAL(20,6) NULL", kind: "decimal"},
		{name: "dt", sql: "DATETIME(3) NULL", kind: "datetime"},
		{name: "ts", sql: "TIMESTAMP(2) NULL", kind: "timestamp", size: 2},
		{name: "da", sql: "DATE NULL", kind: "date"},
		{name: "ti", sql: "TIME(1) NULL", kind: "time"},
		{name: "ye", sql: "YEAR NULL", kind: "year"},
		{name: "bi", sql: "BIT(10) NULL", kind: "bit"},
		{name: "tiny", sql: "TINYINT NULL", kind: "int"},
		{name: "tinyu", sql: "TINYINT UNSIGNED NULL", kind: "uint"},
		{name: "med", sql: "MEDIUMINT NULL", kind: "int"},
		{name: "big", sql: "BIGINT NULL", kind: "int"},
		{name: "tx", sql: "TEXT NULL", kind: "text"},
		{name: "la", sql: "VARCHAR(40) CHARACTER SET latin1 NULL", kind: "latin1"},
		{name: "ch", sql: "CHAR(20) NULL", kind: "text"},
		{name: "padding", sql: "VARCHAR(100) NULL", kind: "text"}, // no rule wants it
	}, "id"},
	{"orders", []column{intCol("id"), intCol("user_id"), {name: "total", sql: "DECIMAL(12,2) NOT NULL", kind: "decimal"}}, "id"},
	{"order_line", []column{intCol("order_id"), intCol("line_no"), intCol("item_id"), intCol("amount")}, "order_id, line_no"},
	{"ev_01", []column{intCol("id"), intCol("kind")}, "id"},
	{"ev_02", []column{intCol("id"), intCol("kind")}, "id"},
	{"bulk", []column{intCol("id"), intCol("grp"), {name: "pad", sql: "VARCHAR(40) NOT NULL", kind: "text"}}, "id"},
	{"audit", []column{{name: "id", sql: "BIGINT NOT NULL AUTO_INCREMENT", kind: "int"}, {name: "what", sql: "VARCHAR(600)", kind: "text"}}, "id"},
	{"marker", []column{{name: "id", sql: "BIGINT NOT NULL", kind: "int"}}, "id"},
}

func tableNamed(name string) *table {
	for _, t := range tables {
		if t.name == name {
			return t
		}
	}
	return nil
}

// kindColumns are the columns of table kinds that have a rule of their own.
var kindColumns = []string{"bin", "vbin", "en", "st", "de", "dt", "ts", "da", "ti", "ye", "bi", "tiny", "tinyu", "med", "big", "tx", "la", "ch"}

// schemaYAML is the key schema for the tables above in database db. testRules says the same in Go.
func schemaYAML(db string) string {
	var b strings.Builder
	b.WriteString("version: 1\nkeys:\n")
	add := func(name, table, key, more string) {
		fmt.Fprintf(&b, "  - name: %s\n    table: \"%s.%s\"\n    key: '%s'\n%s", name, db, table, key, more)
	}
	add("item", "item", "item:{id}", "")
	add("category-items", "item", "category:{category}:items", "")
	add("price", "item", "price:{sku|lower}", "    columns: [price, sku]\n")
	add("on-sale", "item", "sale:{category}:{id}", "    when: \"status = 'on_sale' AND price >= 10\"\n")
	add("account", "account", "acct:{name}", "")
	add("account-cart", "account", "cart:{{{name}}}:all", "")
	add("account-ref", "account", "ref:{ref}/{joined|date}", "    null: \"!null\"\n")
	add("order", "orders", "order:{id}", "")
	add("user-orders", "orders", "user:{user_id}:orders", "")
	add("order-count", "orders", "orders:count", "    columns: [id]\n")
	add("order-lines", "order_line", "order:{order_id}:lines", "")
	add("order-line", "order_line", "line:{order_id}/{line_no}", "")
	add("event", "ev_*", "event:{kind}:{id}", "")
	add("bulk", "bulk", "bulk:{id}", "")
	add("bulk-group", "bulk", "grp:{grp}", "")
	add("marker", "marker", "marker:{id}", "")
	add("kind", "kinds", "kind:{id}", "")
	add("kind-many", "kinds", "kinds:{en}:{st}/{de}#{dt}", "    null: \"!none\"\n")
	for _, c := range kindColumns {
		add("kind-"+c, "kinds", "k:"+c+":{"+c+"}", "")
	}
	return b.String()
}

// testRules is schemaYAML in Go.
func testRules(db string) []*rule {
	is := func(table string) func(string, string) bool {
		return func(d, t string) bool { return d == db && t == table }
	}
	rules := []*rule{
		{name: "item", tables: is("item"), parts: []string{"item:", "@id"}},
		{name: "category-items", tables: is("item"), parts: []string{"category:", "@category", ":items"}},
		{name: "price", tables: is("item"), parts: []string{"price:", "@sku|lower"}, columns: []string{"price", "sku"}},
		{name: "on-sale", tables: is("item"), parts: []string{"sale:", "@category", ":", "@id"}, when: onSale},
		{name: "account", tables: is("account"), parts: []string{"acct:", "@name"}},
		{name: "account-cart", tables: is("account"), parts: []string{"cart:{", "@name", "}:all"}},
		{name: "account-ref", tables: is("account"), parts: []string{"ref:", "@ref", "/", "@joined|date"}, null: "!null"},
		{name: "order", tables: is("orders"), parts: []string{"order:", "@id"}},
		{name: "user-orders", tables: is("orders"), parts: []string{"user:", "@user_id", ":orders"}},
		{name: "order-count", tables: is("orders"), parts: []string{"orders:count"}, columns: []string{"id"}},
		{name: "order-lines", tables: is("order_line"), parts: []string{"order:", "@order_id", ":lines"}},
		{name: "order-line", tables: is("order_line"), parts: []string{"line:", "@order_id", "/", "@line_no"}},
		{
			name:   "event",
			tables: func(d, t string) bool { return d == db && strings.HasPrefix(t, "ev_") },
			parts:  []string{"event:", "@kind", ":", "@id"},
		},
		{name: "bulk", tables: is("bulk"), parts: []string{"bulk:", "@id"}},
		{name: "bulk-group", tables: is("bulk"), parts: []string{"grp:", "@grp"}},
		{name: "marker", tables: is("marker"), parts: []string{"marker:", "@id"}},
		{name: "kind", tables: is("kinds"), parts: []string{"kind:", "@id"}},
		{name: "kind-many", tables: is("kinds"), parts: []string{"kinds:", "@en", ":", "@st", "/", "@de", "#", "@dt"}, null: "!none"},
	}
	for _, c := range kindColumns {
		rules = append(rules, &rule{name: "kind-" + c, tables: is("kinds"), parts: []string{"k:" + c + ":", "@" + c}})
	}
	return rules
}

// onSale is the condition of the rule on-sale. Prices have two digits after the point: below 10 they are four characters.
func onSale(img image) bool {
	return img["status"] == "on_sale" && !strings.HasPrefix(img["price"], "-") && len(img["price"]) >= len("10.00")
}
