package pipeline

import (
	"context"
	"fmt"
	"testing"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// Events that a progress record does not cover may stand before it.
func TestKnownFrom(t *testing.T) {
	const uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	for _, c := range []struct {
		name string
		log  []int // numbers of transactions; -n is progress up to n
		has  int
		want int64
	}{
		{"in order", []int{1, 2, -2, 3, 4, -4}, 3, 0},
		{"events before their progress", []int{4, 5, 6, -3, 7, -4, 8, -8}, 3, -1},
		{"the first that is covered", []int{5, 6, 2, 3, 4, -3, 5, 6, -6}, 3, 2},
		{"covered by a later record", []int{4, 5, -2, 6, -5}, 5, 0},
		{"no progress", []int{1, 2, 3}, 3, -1},
		{"only progress", []int{-1, -2, -3}, 3, -1},
		{"progress beyond", []int{1, -4}, 3, -1},
		{"nothing", nil, 3, -1},
	} {
		var msgs []Message
		for i, n := range c.log {
			e := &Event{Version: Version, Kind: KindInvalidate, GTID: fmt.Sprintf("%s:%d", uuid, n), Scopes: []Scope{Everything}}
			data := encodeInvalidate(e)
			if n < 0 {
				data = encodeProgress(&Event{GTID: fmt.Sprintf("%s:1-%d", uuid, -n), Partitions: 1})
			}
			msgs = append(msgs, Message{Offset: int64(i), Data: data})
		}
		has, err := gtid.Parse(fmt.Sprintf("%s:1-%d", uuid, c.has))
		if err != nil {
			t.Fatal(err)
		}
		got, ok := knownFrom(append(msgs, Message{Data: []byte("junk")}), has)
		if ok != (c.want >= 0) || ok && got != c.want {
			t.Errorf("%s: from %d, %v, want %d", c.name, got, ok, c.want)
		}
	}
}

// What is stored comes back as it was; what does not fit is shortened.
func TestMarksAreStored(t *testing.T) {
	var servers []Reader
	for i := range 30 {
		servers = append(servers, name(fmt.Sprintf("replica-%02d.a-rather-long-name-of-a-datacentre.example.org:3306", i)))
	}
	all := standings(servers, "", 0, false)
	for i, st := range all {
		st.server = fmt.Sprintf("3e11fa47-71ca-11e1-9e33-c80aa94295%02d", i)
	}
	all[3].putOut(7)
	for _, n := range []int{5, 30} {
		text, err := marksOf(all[:n])
		if err != nil || len(text) > MaxMarks {
			t.Fatalf("%d bytes, %v", len(text), err)
		}
		back := standings(servers[:n], text, 9, true)
		if !back[3].out || back[3].from != 7 || back[2].out || back[2].fresh || n == 5 && back[2].server != all[2].server {
			t.Errorf("%d readers: back %+v %+v", n, back[2], back[3])
		}
		if back := standings(servers[:n], text, 5, true); back[3].from != 5 {
			t.Errorf("owed from %d though the second cursor was stored as 5", back[3].from)
		}
	}
	for _, stored := range []string{"", "{", `{"readers":{}}`} {
		if st := standings(servers[:1], stored, 9, true)[0]; !st.out || st.from != owesAll || !st.fresh {
			t.Errorf("%q: %+v", stored, st)
		}
	}
	if st := standings(servers[:1], "", 0, false)[0]; st.out {
		t.Errorf("at the first start: %+v", st)
	}
}

type name string // a Reader that is never asked

func (n name) Name() string { return string(n) }

func (n name) Ask(context.Context) (View, error) { panic("asked") }
