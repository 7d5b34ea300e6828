package binlog

import (
	"testing"
)

func TestRowsOfMixedDML(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t)
			db := envDatabase(t, s)
			c := mustConnect(t, rootConfig(s))
			mustExec(t, c, "USE "+db,
				"CREATE TABLE item (id INT PRIMARY KEY, pad TEXT, cat INT, sku VARCHAR(20)) ",
				"CREATE TABLE other (id INT PRIMARY KEY)",
				"CREATE TABLE ord (id BIGINT UNSIGNED PRIMARY KEY, item INT)")
			w := newTail(t, tailConfig(t, s, DriverReplication,
				rule("item", db+".item", "id")+rule("cat", db+".item", "cat")+rule("order", db+".ord", "id")))
			w.run()
			mustExec(t, c,
				"INSERT INTO item VALUES (1, 'x', 10, 'a'), (2, NULL, NULL, 'b')",
				"UPDATE item SET cat = 11 WHERE id = 1",
				"UPDATE item SET id = 3 WHERE id = 2",
				"INSERT INTO other VALUES (1)",
				"BEGIN", "DELETE FROM item WHERE id = 1", "INSERT INTO ord VALUES (18446744073709551615, 3)", "COMMIT",
				"BEGIN", "DELETE FROM item", "ROLLBACK")
			expect(t, w.catchUp(),
				"item: - -> (1, 10)", "item: - -> (2, NULL)",
				"item: (1, 10) -> (1, 11)",
				"item: (2, NULL) -> (3, NULL)",
				"item: (1, 11) -> -", "ord: - -> (18446744073709551615)")
		})
	}
}
