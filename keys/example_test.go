package keys_test

import (
	"fmt"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

const shop = `
version: 1
keys:
  - name: item
    table: shop.item
    key: "item:{id}"
  - name: category-items
    table: shop.item
    key: "category:{category}:items"
  - name: price
    table: shop.item
    key: "price:{sku|lower}"
    columns: [price, sku]
    when: "status = 'on_sale'"
  - name: cart
    table: "shop_*.cart"
    key: "{{user:{user_id}}}:cart"
  - name: sales
    table: shop.sale
    key: "sales:{day|date}"
`

func ExampleSchema_Key() {
	schema, err := keys.Parse("keys.yaml", []byte(shop))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, call := range []struct {
		rule  string
		value any
	}{
		{"item", 42},
		{"category-items", "garden & home"}, // hostile or just unusual: always escaped
		{"price", "AB-7"},
		{"cart", uint64(18446744073709551615)},
		{"sales", keys.DateTime(time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC), 0)},
		{"item", nil},
		{"item", 4.2},
	} {
		key, err := schema.Key(call.rule, call.value)
		if err != nil {
			fmt.Println("error:", err)
			continue
		}
		fmt.Println(key)
	}
	// Output:
	// item:42
	// category:garden%20%26%20home:items
	// price:ab-7
	// {user:18446744073709551615}:cart
	// sales:2026-03-01
	// error: keys: rule "item": id is NULL, and the rule makes no key for NULL (null: skip)
	// error: keys: rule "item": value 1 (id): a float64 has no exact text: use keys.Decimal for a DECIMAL column; FLOAT and DOUBLE columns cannot be in a key
}

func ExampleBinding_Append() {
	schema, err := keys.Parse("keys.yaml", []byte(shop))
	if err != nil {
		fmt.Println(err)
		return
	}
	table := schema.Table("shop", "item")
	fmt.Println(table.Columns())

	// UPDATE item SET category = 'toys' WHERE id = 7
	row := table.Bind([]string{"id", "category", "sku", "price", "status"})
	before := []keys.Value{{Kind: keys.Number, Text: "7"}, {Kind: keys.Text, Text: "books"}, {Kind: keys.Text, Text: "X1"}, {Kind: keys.Number, Text: "9.50"}, {Kind: keys.Text, Text: "on_sale"}}
	after := append([]keys.Value(nil), before...)
	after[1].Text = "toys"
	var result keys.Result
	row.Append(&result, before, after)
	for _, key := range result.Keys {
		fmt.Println(key)
	}
	// Output:
	// [id category sku price status]
	// item:7
	// category:books:items
	// category:toys:items
}

func ExampleParse_errors() {
	_, err := keys.Parse("keys.yaml", []byte(`
version: 1
keys:
  - name: pair
    table: shop.item
    key: "pair:{a}-{b}"
  - name: any
    tabel: shop.item
    key: "{id}"
`))
	fmt.Println(err)
	// Output:
	// keys.yaml:6: rule "pair": key: "-" between {a} and {b} can be part of a value, so different values would make the same key: put one of : / , ; # | ! = there
	// keys.yaml:7: rule "any": table: is missing
	// keys.yaml:8: rule "any": unknown field "tabel": did you mean "table"? (known: name, table, key, null, columns, when, fill, lease, on_untrusted)
	// keys.yaml:9: rule "any": key: the key must begin with literal text, which whole-table invalidation needs: write user:{id}, not {id}
}

func ExampleGlobsOverlap() {
	fmt.Println(keys.GlobsOverlap("item:*", "sess:*"), keys.GlobsOverlap("s*", "sess:*"))
	// Output: false true
}
