package replay

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// update is a change of a row of shop.item with the columns id, sku and kind.
func update(gtid, id, sku1, sku2 string) pipeline.Event {
	image := func(sku string) []keys.Value {
		return []keys.Value{{Kind: keys.Number, Text: id}, {Kind: keys.Text, Text: sku}, {Kind: keys.Null}}
	}
	return pipeline.Event{Version: pipeline.Version, Kind: pipeline.KindChanges, Source: "shop", GTID: gtid, Tables: []pipeline.TableRows{{
		DB: "shop", Table: "item", Columns: []string{"id", "sku", "kind"}, Rows: []pipeline.Row{{Before: image(sku1), After: image(sku2)}},
	}}}
}

func TestOldKeys(t *testing.T) {
	const (
		bySKU   = `{name: sku, table: shop.item, key: "sku:{sku}"}`
		bySize  = `{name: size, table: shop.item, key: "size:{size}"}`
		kind    = `{name: kind, table: shop.item, key: "kind:{kind}"}`
		nulled  = `{name: kind, table: shop.item, key: "kind:{kind}", null: "!none"}`
		renamed = `{name: by_sku, table: shop.item, key: "sku:{sku}"}`
		moved   = `{name: sku, table: shop.item, key: "sku:{sku}", when: "op == 'update' && before.sku != after.sku"}`
		few     = `{name: sku, table: shop.item, key: "sku:{sku}", when: "id > 5"}`
		grown   = `{name: size, table: shop.item, key: "size:{size}", when: "op == 'update'"}`
		shards  = `{name: sku, table: "shop*.item", key: "sku:{sku}"}`
	)
	events := []pipeline.Event{update(uuid+":7", "1", "a", "b"), update(uuid+":8", "2", "b", "b")}
	walked := []pipeline.Event{update(uuid+":7", "1", "a", "b"), update(uuid+":8", "2", "c", "d")}
	walked[0].Tables[0].Rows[0].Before = nil
	everything := []pipeline.Event{{Kind: pipeline.KindInvalidate, Source: "shop", GTID: uuid + ":9", Scopes: []pipeline.Scope{pipeline.Everything}}}
	for _, c := range []struct {
		name       string
		old, today []string
		blind      bool
		events     []pipeline.Event
		keys       string // of the extra event
		gtid       string
		patterns   string // owed
	}{
		{"the same schema", []string{itemRule, bySKU}, []string{itemRule, bySKU}, false, events, "", "", ""},
		{"a rule that has gone", []string{itemRule, bySKU}, []string{itemRule}, false, events, "sku:a sku:b", uuid + ":7", ""},
		{"a template that changed", []string{`{name: item, table: shop.item, key: "i:{id}"}`}, []string{itemRule}, false, events, "i:1 i:2", uuid + ":7-8", ""},
		{"only renamed", []string{itemRule, bySKU}, []string{itemRule, renamed}, false, events, "", "", ""},
		{"a new rule", []string{itemRule}, []string{itemRule, bySKU}, false, events, "", "", ""},
		{"a column that is missing", []string{itemRule, bySize}, []string{itemRule}, false, events, "", "", "size:*"},
		{"missing in both", []string{itemRule, bySize}, []string{itemRule, bySize}, false, events, "", "", ""},
		{"another text for NULL", []string{itemRule, nulled}, []string{itemRule, kind}, false, events, "kind:!none", uuid + ":7", ""},
		{"whole tables", []string{itemRule, bySKU}, []string{itemRule}, false, everything, "", "", "sku:*"},
		{"whole tables, the same", []string{itemRule, bySKU}, []string{itemRule, bySKU}, false, everything, "", "", ""},
		{"other tables", []string{itemRule, shards}, []string{itemRule, bySKU}, false, events, "", "", ""},
		{"blind: a rule that has gone", []string{itemRule, bySKU}, []string{itemRule}, true, events, "", "", ""},
		{"blind: only when: differs", []string{itemRule, bySKU}, []string{itemRule, `{name: sku, table: shop.item, key: "sku:{sku}", when: "id > 5"}`}, true, events, "sku:a sku:b", uuid + ":7", ""},
		{"a condition on a change", []string{itemRule, moved}, []string{itemRule, few}, false, walked, "sku:c sku:d", uuid + ":8", ""},
		{"blind: a condition on a change", []string{itemRule, moved}, []string{itemRule, few}, true, walked, "sku:b sku:c sku:d", uuid + ":7-8", ""},
		{"blind: a condition on a change, today none", []string{itemRule, moved}, []string{itemRule, bySKU}, true, walked, "", "", ""},
		{"blind: a condition on a change, a rule that has gone", []string{itemRule, moved}, []string{itemRule}, true, walked, "", "", ""},
		{"blind: a condition on a change, a column that is missing", []string{itemRule, grown}, []string{itemRule, `{name: size, table: shop.item, key: "size:{size}", when: "id > 5"}`}, true, walked[:1], "", "", "size:*"},
		{"blind: a condition on a change, no key for NULL", []string{itemRule, `{name: kind, table: shop.item, key: "kind:{kind}", when: "op == 'update'"}`},
			[]string{itemRule, `{name: kind, table: shop.item, key: "kind:{kind}", when: "id > 5"}`}, true, walked[:1], "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			old, today := parse(t, c.old...), parse(t, c.today...)
			o, has, debt := newOldKeys(old, today, c.blind), make(keySet), owed{}
			has.add(newKeyer(today), c.events)
			e := o.chunk(c.events, has, &debt)
			if e == nil {
				e = &pipeline.Event{}
			} else if e.Kind != pipeline.KindKeys || e.Source != "shop" || e.Schema != today.Hash() {
				t.Errorf("%+v", e)
			}
			if got := strings.Join(e.Keys, " "); got != c.keys || e.GTID != c.gtid {
				t.Errorf("keys %q of %q, want %q of %q", got, e.GTID, c.keys, c.gtid)
			}
			if got := strings.Join(debt.Patterns, " "); got != c.patterns {
				t.Errorf("patterns %q, want %q", got, c.patterns)
			}
			if ev := debt.event(today.Hash()); ev != nil {
				if _, err := pipeline.AppendRecords(nil, *ev); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestOldKeyHostile: whatever a row holds, an event can hold the old key.
func TestOldKeyHostile(t *testing.T) {
	old, today := parse(t, itemRule, `{name: sku, table: shop.item, key: "sku:{sku}"}`), parse(t, itemRule)
	for _, sku := range []string{strings.Repeat("x", 4<<20), "\xff", "", "a\nb*"} {
		debt := owed{}
		e := newOldKeys(old, today, false).chunk([]pipeline.Event{update(uuid+":7", "1", "a", sku)}, keySet{"item:1": {}}, &debt)
		if e == nil || len(e.Keys) != 2 || !slices.Contains(e.Keys, "sku:a") {
			t.Fatalf("%+v", e)
		}
		if _, err := pipeline.AppendRecords(nil, *e); err != nil {
			t.Error(err)
		}
	}
}

// TestOldSweptOnce: what must be swept is swept once, at the end, also when
// processes are killed in between; and waits for all that the chunks saw.
func TestOldSweptOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := func() *world {
			w := newWorld(t, 5)
			w.old = parse(t, `{name: item, table: shop.item, key: "old:{id}"}`, `{name: other, table: shop.other, key: "other:{id}"}`)
			w.sweepOld = []pipeline.Scope{pipeline.TableScope("shop", "item")}
			return w
		}
		whole := &life{}
		if _, err := world().live(t.Context(), whole); err != nil {
			t.Fatal(err)
		}
		for at := range whole.ops {
			w := world()
			if at > 0 {
				_, _ = w.live(t.Context(), &life{dieAt: at, after: at%2 == 0})
			}
			sum, err := w.live(t.Context(), &life{})
			if err != nil {
				t.Fatal(err)
			}
			w.check()
			sweeps := 0
			for i, events := range w.published {
				for _, e := range events {
					if len(e.Patterns) == 0 {
						continue
					}
					sweeps++
					if !slices.Equal(e.Patterns, []string{"old:*"}) || e.GTID != uuid+":1-5" || len(e.Keys) > 0 || i < w.said() {
						t.Errorf("killed at %d: publication %d: %+v", at, i, e)
					}
				}
			}
			if sweeps == 0 || sweeps > 2 || !slices.Equal(sum.OldPatterns, []string{"old:*"}) {
				t.Errorf("killed at %d: %d sweeps, %+v", at, sweeps, sum)
			}
		}
	})
}

// TestOwedUnnamed: a sweep whose transactions are not all known names none, so
// that it waits for the fixed delay.
func TestOwedUnnamed(t *testing.T) {
	for _, gtids := range [][]string{{uuid + ":1", ""}, {"", uuid + ":1"}, {"what"}} {
		d := owed{GTIDs: uuid + ":5"}
		d.need(gtids)
		d.need([]string{uuid + ":2"})
		if d.GTIDs != "" || !d.Unnamed {
			t.Errorf("%q: %+v", gtids, d)
		}
	}
	d := owed{}
	d.need([]string{uuid + ":1", uuid + ":3"})
	d.need([]string{uuid + ":2"})
	if d.GTIDs != uuid+":1-3" || d.Unnamed {
		t.Errorf("%+v", d)
	}
}

func TestOldWarnings(t *testing.T) {
	old := parse(t, itemRule, `{name: was, table: shop.item, key: "was:{id}"}`, `{name: wide, table: shop.item, key: "item:{id}:{sku}"}`, `{name: other, table: shop.other, key: "other:{id}"}`)
	got := OldWarnings(old, parse(t, itemRule, `{name: sub, table: shop.item, key: "item:{id}:{kind}"}`), []pipeline.Scope{pipeline.TableScope("shop", "item")})
	if len(got) != 2 || !strings.Contains(got[0], "like was:* is deleted") || strings.Contains(got[0], "today's rules") ||
		!strings.Contains(got[1], "like item:*:* is deleted") || !strings.HasSuffix(got[1], "go with them: item, sub.") {
		t.Errorf("%q", got)
	}
	if got := OldWarnings(old, old, []pipeline.Scope{pipeline.Everything}); len(got) != 0 {
		t.Errorf("the same schema: %q", got)
	}
	if got := OldWarnings(old, parse(t, itemRule), nil); len(got) != 0 {
		t.Errorf("a source that has old values: %q", got)
	}
}
