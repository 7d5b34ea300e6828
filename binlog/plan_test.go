package binlog

import "testing"

// A statement may write several tables, whose maps come before all of its rows:
// what is forgotten for room is not of the statement at hand.
func TestPlansOfAStatementAreKept(t *testing.T) {
	ps := plans{schema: parseSchema(t, rule("item", "shop.item", "id"))}
	tableMap := func(id int) {
		t.Helper()
		body := fuzzTableMap()
		body[0], body[1], body[2] = byte(id), byte(id>>8), byte(id>>16)
		if err := ps.tableMap(body); err != nil {
			t.Fatal(err)
		}
	}
	const statement = 3 // tables
	for i := range 3 * maxPlans {
		tableMap(100_000 + i) // of other statements
		for id := range statement {
			tableMap(1000*(i/900) + id) // ids change now and then
		}
		for id := range statement {
			if _, ok := ps.find(uint64(1000*(i/900) + id)); !ok {
				t.Fatalf("round %d: table %d of %d is forgotten", i, id, statement)
			}
		}
		if n := len(ps.byID) + len(ps.older); n > 2*maxPlans {
			t.Fatalf("%d plans are kept", n)
		}
	}
}
