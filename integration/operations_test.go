package integration

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"strings"
)

// writer makes the operations of one connection.
type writer struct {
	ctx  context.Context
	rng  *rand.Rand
	tx   *sql.Tx
	db   string
	base int // of the ids that only this writer inserts
	err  error
}

// do runs a statement; $ stands for the database. After an error the rest of the operation does nothing.
func (w *writer) do(stmt string, args ...any) {
	if w.err == nil {
		_, w.err = w.tx.ExecContext(w.ctx, strings.ReplaceAll(stmt, "$", w.db), args...)
	}
}

func (w *writer) item() int     { return 1 + w.rng.IntN(400) } // shared by all writers
func (w *writer) own() int      { return w.base + w.rng.IntN(900_000) }
func (w *writer) category() any { return w.maybe(w.rng.IntN(20)) }

// maybe returns v, or now and then NULL.
func (w *writer) maybe(v any) any {
	if w.rng.IntN(8) == 0 {
		return nil
	}
	return v
}

func choose[T any](w *writer, of []T) T { return of[w.rng.IntN(len(of))] }

var statuses = []string{"draft", "on_sale", "sold, out", "it's"}

// hostile are texts that must neither forge a key nor change its slot.
var hostile = []string{
	"", " ", "a:b", "{a}", "}{", "{", "}", "line\nbreak", "tab\tand\rreturn", "nul\x00byte", "%41", "%", "*", "item:[a-z]?", `back\slash`, `"quoted"`,
	"it's", "Grün", "Ελληνικά", "漢字", "🙂 face", "\u0085", "\u00a0", "\ufeff", "\ufffe", "\U0001ffff", "\u202eright to left", "all", "!null", "%-", "%~", "a/b#c",
	strings.Repeat("x", 199), strings.Repeat("x", 201), strings.Repeat("ü", 100), strings.Repeat("ü", 101), strings.Repeat("{", 67), strings.Repeat("long ", 100),
}

func (w *writer) hostile() string {
	s := choose(w, hostile)
	if w.rng.IntN(3) > 0 {
		s += fmt.Sprint(w.rng.IntN(50)) + choose(w, hostile)
	}
	if r := []rune(s); len(r) > 600 {
		s = string(r[:600])
	}
	return s
}

func (w *writer) short() string {
	r := []rune(w.hostile())
	return string(r[:min(len(r), 70)])
}

func (w *writer) price() string { return fmt.Sprintf("%d.%02d", w.rng.IntN(40), w.rng.IntN(100)) }

func (w *writer) insertItem(id int) {
	w.do("INSERT INTO $.item VALUES (?,?,?,?,?,?)", id, w.category(), w.maybe(w.short()), w.price(), choose(w, statuses), w.maybe("note"))
}

// operation does something; keep is false where it is to be rolled back.
func (w *writer) operation() (keep bool, err error) {
	ops := []func(){
		func() { w.insertItem(w.item()) },
		func() { w.insertItem(w.own()) },
		func() { w.do("UPDATE $.item SET price = ? WHERE id = ?", w.price(), w.item()) },
		func() {
			w.do("UPDATE $.item SET category = ?, status = ? WHERE id = ?", w.category(), choose(w, statuses), w.item())
		},
		func() { w.do("UPDATE $.item SET sku = ? WHERE id = ?", w.maybe(w.short()), w.item()) },
		func() { w.do("UPDATE $.item SET note = ? WHERE id = ?", w.short(), w.item()) }, // no key column
		func() { w.do("UPDATE $.item SET note = note WHERE id < 50") },                  // changes nothing
		func() { w.do("UPDATE $.item SET id = ? WHERE id = ?", w.own(), w.item()) },
		func() {
			w.do("UPDATE $.item SET price = price + 1, status = ? WHERE id BETWEEN ? AND ?", choose(w, statuses), w.item(), w.item())
		},
		func() { w.do("DELETE FROM $.item WHERE id = ?", w.item()) },
		func() { w.do("DELETE FROM $.item WHERE category = ? LIMIT 5", w.rng.IntN(20)) },
		func() {
			w.do("REPLACE INTO $.item VALUES (?,?,?,?,?,?)", w.item(), w.category(), w.short(), w.price(), choose(w, statuses), nil)
		},
		func() {
			w.do("INSERT INTO $.item VALUES (?,?,?,?,?,?) ON DUPLICATE KEY UPDATE price = VALUES(price), sku = VALUES(sku)",
				w.item(), w.category(), w.short(), w.price(), "draft", nil)
		},
		w.order, w.order, w.savepoints, w.account, w.account, w.kind, w.kind, w.kind, w.event,
		func() { w.do("INSERT INTO $.audit (what) VALUES (?)", w.hostile()) }, // no rule is about it
		func() { w.do("UPDATE $.bulk SET grp = grp + 1 WHERE id BETWEEN ? AND ? + 20", w.item(), w.item()) },
	}
	choose(w, ops)()
	if w.rng.IntN(12) == 0 { // several in one transaction
		choose(w, ops)()
		choose(w, ops)()
	}
	return w.rng.IntN(12) > 0, w.err
}

// order writes several tables in one transaction.
func (w *writer) order() {
	id, user := w.own(), w.rng.IntN(200)
	w.do("INSERT INTO $.orders VALUES (?,?,?)", id, user, w.price())
	for n := range 1 + w.rng.IntN(5) {
		w.do("INSERT INTO $.order_line VALUES (?,?,?,?)", id, n, w.item(), 1)
	}
	w.do("INSERT INTO $.audit (what) VALUES ('order')")
	switch w.rng.IntN(4) {
	case 0: // another user, and another number: a parent and its lines
		w.do("UPDATE $.orders o JOIN $.order_line l ON l.order_id = o.id SET o.user_id = ?, l.amount = l.amount + 1 WHERE o.id = ?", user+1, id)
	case 1:
		w.do("DELETE o, l FROM $.orders o JOIN $.order_line l ON l.order_id = o.id WHERE o.id = ?", id)
	case 2:
		w.do("UPDATE $.order_line SET line_no = line_no + 10 WHERE order_id = ? ORDER BY line_no DESC", id)
	}
}

// savepoints undoes a part of a transaction.
func (w *writer) savepoints() {
	w.insertItem(w.own())
	w.do("SAVEPOINT a")
	w.insertItem(w.own())
	w.do("UPDATE $.item SET category = 99 WHERE id < 20")
	w.do("ROLLBACK TO SAVEPOINT a")
	w.insertItem(w.own())
}

// account has hostile text in keys, as primary key too.
func (w *writer) account() {
	switch w.rng.IntN(3) {
	case 0:
		w.do("INSERT INTO $.account VALUES (?,?,?)", w.hostile(), w.maybe(w.short()), w.maybe(fmt.Sprintf("2024-0%d-03 04:05:06.%03d", 1+w.rng.IntN(9), w.rng.IntN(1000))))
	case 1:
		w.do("UPDATE $.account SET name = ? WHERE name <> '' ORDER BY joined LIMIT 1", w.hostile())
	case 2:
		w.do("UPDATE $.account SET ref = ? WHERE name = ?", w.maybe(w.short()), w.hostile())
	}
}

func (w *writer) event() {
	w.do("INSERT INTO $.ev_01 VALUES (?,?)", w.own(), w.rng.IntN(5))
	w.do("INSERT INTO $.ev_02 SELECT id, kind + 1 FROM $.ev_01 ORDER BY id DESC LIMIT 2 ON DUPLICATE KEY UPDATE kind = 9")
}

var (
	bigIDs  = []uint64{0, 1, 127, 128, 1 << 31, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	signed  = []int64{0, -1, 1, -128, 127, -8388608, 8388607, -1 << 31, -1 << 63, 1<<63 - 1}
	latin   = []string{"", "café", "ÿþß", "plain", "a b", "¿%?"}
	bytes6  = []string{"\x00\x00\x00\x00\x00\x00", "\x01\x00\x02\x00\x00\x00", "abcdef", "\xff\xfe{}\x00\x00", "\x00"}
	decimal = []string{"0", "-0.000001", "12.5", "-99999999999999.999999", "99999999999999.999999", "0.1", "-1"}
	clocks  = []string{"00:00:00", "-00:00:00.5", "838:59:59", "-838:59:59", "23:59:59.9", "-12:34:56.7"}
	stamps  = []string{"1970-01-01 00:00:01", "2024-02-29 23:59:59.99", "2038-01-19 03:14:07", "2000-01-01 00:00:00.5"}
	days    = []string{"0001-01-01", "1000-01-01", "2024-02-29", "9999-12-31"}
	times3  = []string{"1000-01-01 00:00:00", "2024-02-29 12:00:00.001", "9999-12-31 23:59:59.999", "2024-01-01 00:00:00.5"}
)

// kind covers every type that can be in a key.
func (w *writer) kind() {
	id := choose(w, bigIDs) ^ uint64(w.rng.IntN(40))
	values := []any{
		w.maybe([]byte(choose(w, bytes6))), w.maybe(w.bytes()), w.maybe(choose(w, []string{"a", "b'c", "d:e", ""})),
		w.maybe(choose(w, []string{"", "x", "x,w", "x,y z,w", "w"})), w.maybe(choose(w, decimal)), w.maybe(choose(w, times3)), w.maybe(choose(w, stamps)),
		w.maybe(choose(w, days)), w.maybe(choose(w, clocks)), w.maybe(choose(w, []int{0, 1901, 2024, 2155})), w.maybe(w.rng.IntN(1024)),
		w.maybe(w.rng.IntN(256) - 128), w.maybe(w.rng.IntN(256)), w.maybe(max(-8388608, min(8388607, choose(w, signed)))), w.maybe(choose(w, signed)),
		w.maybe(w.hostile()), w.maybe(choose(w, latin)), w.maybe(choose(w, []string{"", "ab", "ab  ", "it's {x}", "漢字"})), "padding",
	}
	switch w.rng.IntN(4) {
	case 0, 1:
		w.do("REPLACE INTO $.kinds VALUES (?"+strings.Repeat(",?", len(values))+")", append([]any{id}, values...)...)
	case 2:
		i := w.rng.IntN(len(kindColumns))
		w.do("UPDATE $.kinds SET "+kindColumns[i]+" = ?, padding = 'x' WHERE id = ?", values[i], id)
	case 3:
		w.do("DELETE FROM $.kinds WHERE id = ?", id)
	}
}

// bytes are seldom valid UTF-8.
func (w *writer) bytes() []byte {
	b := make([]byte, w.rng.IntN(41))
	for i := range b {
		b[i] = byte(w.rng.IntN(256))
	}
	return b
}
