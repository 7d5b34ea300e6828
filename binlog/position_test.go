package binlog

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
)

const uuidA, uuidB = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"

func TestAdvance(t *testing.T) {
	tests := []struct {
		flavor, from string
		add          []string
		want         string // "" is an error
	}{
		{mysql.MySQLFlavor, "", []string{uuidA + ":1"}, uuidA + ":1"},
		{mysql.MySQLFlavor, uuidA + ":1-5", []string{uuidA + ":6", uuidA + ":7"}, uuidA + ":1-7"},
		{mysql.MySQLFlavor, uuidA + ":1-5", []string{uuidA + ":5"}, uuidA + ":1-5"},
		{mysql.MySQLFlavor, uuidA + ":1-5", []string{"", uuidA + ":7"}, uuidA + ":1-5:7"},
		{mysql.MySQLFlavor, uuidA + ":1-5:7", []string{uuidA + ":6"}, uuidA + ":1-7"},
		{mysql.MySQLFlavor, uuidA + ":1-5", []string{uuidA + ":red:1", uuidA + ":red:2", uuidB + ":9"}, uuidA + ":1-5:red:1-2," + uuidB + ":9"},
		{mysql.MySQLFlavor, uuidA + ":1-5:red:1", []string{uuidA + ":6"}, uuidA + ":1-6:red:1"},
		{mysql.MySQLFlavor, "", []string{"0-1-2"}, ""},
		{mysql.MySQLFlavor, "", []string{uuidA + ":0"}, ""},
		{mysql.MySQLFlavor, "", []string{uuidA + ":a:b:1"}, ""},
		{mysql.MariaDBFlavor, "", []string{"0-1-2"}, "0-1-2"},
		{mysql.MariaDBFlavor, "0-1-2", []string{"0-1-3", "5-2-1", "0-2-4"}, "0-2-4,5-2-1"},
		{mysql.MariaDBFlavor, "0-1-2", []string{uuidA + ":1"}, ""},
	}
	for _, tt := range tests {
		var h history
		p := position{Flavor: tt.flavor, Set: tt.from, Server: "s"}.encode()
		next, err := h.Advance(p, tt.add)
		if (err == nil) != (tt.want != "") {
			t.Errorf("%s + %s: %v", tt.from, tt.add, err)
			continue
		}
		if err != nil {
			continue
		}
		if pos, _ := parsePosition(next); pos.Set != tt.want || pos.Server != "s" {
			t.Errorf("%s + %s = %s, want %s", tt.from, tt.add, pos.Set, tt.want)
		}
	}
}

func TestPositionOfAnotherKindIsRefused(t *testing.T) {
	var h history
	for _, p := range []pipeline.Position{"", "x", `{"flavor":"postgres","gtid":""}`, `{"flavor":"mysql","gtid":"nonsense"}`} {
		if _, err := h.Advance(p, nil); err == nil {
			t.Errorf("%q was taken", p)
		}
	}
}

func TestCannotResume(t *testing.T) {
	set := func(text string) gtidSet {
		flavor := mysql.MySQLFlavor
		if strings.Count(text, "-") == 2 || text == "none" {
			flavor = mysql.MariaDBFlavor
		}
		s, err := parseSet(flavor, strings.TrimPrefix(text, "none"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tests := []struct {
		executed, purged, stored string
		want                     string // a part of the reason
	}{
		{uuidA + ":1-9", uuidA + ":1-3", uuidA + ":1-5", ""},
		{uuidA + ":1-9", uuidA + ":1-3", uuidA + ":1-2", "no longer in the binlogs"},
		{uuidA + ":1-9", uuidA + ":1-3", uuidA + ":2-5", "no longer in the binlogs"},
		{uuidA + ":1-9", "", uuidA + ":1-10", "never executed"},
		{uuidA + ":1-9", "", uuidA + ":1-9:red:1", "never executed"},
		{uuidA + ":1-9", "", uuidB + ":1", "never executed"},
		{"0-1-9", "0-1-3", "0-1-3", ""},
		{"0-1-9", "0-1-3", "0-1-2", "no longer in the binlogs"},
		{"0-1-9", "0-1-3", "none", "no longer in the binlogs"},
		{"0-1-9", "none", "0-2-10", "never executed"},
		{"0-1-9", "none", "1-1-1", "never executed"},
	}
	for _, tt := range tests {
		st := state{executed: set(tt.executed), purged: set(tt.purged)}
		if why := st.cannotResume(set(tt.stored)); (why == "") != (tt.want == "") || !strings.Contains(why, tt.want) {
			t.Errorf("executed %s, purged %s, stored %s: %q", tt.executed, tt.purged, tt.stored, why)
		}
	}
}

func TestOlderCoordinates(t *testing.T) {
	for _, tt := range []struct {
		file, than string
		a, b       uint64
		want       bool
	}{
		{"b.000002", "b.000001", 4, 100, false}, {"b.000001", "b.000002", 100, 4, true}, {"b.000001", "b.000001", 4, 100, true},
		{"b.1000000", "b.999999", 4, 4, false}, {"x.000001", "b.000002", 4, 4, false}, {"b.000001", "", 4, 0, false},
	} {
		if got := older(tt.file, tt.a, tt.than, tt.b); got != tt.want {
			t.Errorf("older(%s:%d, %s:%d) = %v", tt.file, tt.a, tt.than, tt.b, got)
		}
	}
}

func TestStart(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true})
			db := "shop"
			c := mustConnect(t, rootConfig(s))
			mustExec(t, c, "CREATE DATABASE shop", "USE shop", "CREATE TABLE item (id INT PRIMARY KEY, sku VARCHAR(9))", "INSERT INTO item VALUES (1, 'a')", "FLUSH BINARY LOGS", "INSERT INTO item VALUES (2, 'b')")
			cfg := tailConfig(t, s, DriverReplication, itemRules(db))
			from := func(start string, want ...string) (end string) {
				t.Helper()
				w := newTailFrom(t, cfg, start)
				stop := w.run()
				defer stop()
				expect(t, w.catchUp(), want...)
				pos, err := parsePosition(w.position())
				if err != nil {
					t.Fatal(err)
				}
				return pos.Set
			}
			end := from("earliest", `item: - -> (1, "a")`, `item: - -> (2, "b")`)
			from("current")
			mustExec(t, c, "INSERT INTO item VALUES (3, 'c')")
			from(end, `item: - -> (3, "c")`)
			purgeTo(t, c, "binlog.000002")
			from("earliest", `item: - -> (2, "b")`, `item: - -> (3, "c")`)

			w := newTail(t, cfg)
			for _, bad := range []string{"nonsense", "2020-01-01T00:00:00Z", uuidB + ":1", "7-7-7", "0-1"} {
				if _, err := w.source.Start(t.Context(), bad); !errors.Is(err, pipeline.ErrFatal) {
					t.Errorf("start at %q: %v", bad, err)
				}
			}
		})
	}
}

// purgeTo removes binlogs. MariaDB keeps one for a moment after it was closed.
func purgeTo(t *testing.T, c *client.Conn, file string) {
	t.Helper()
	for range 200 {
		mustExec(t, c, "PURGE BINARY LOGS TO '"+file+"'")
		res, err := c.Execute("SHOW BINARY LOGS")
		if err != nil {
			t.Fatal(err)
		}
		if first, _ := res.GetString(0, 0); first == file {
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	t.Fatalf("the binlogs before %s were not purged", file)
}

func TestCheckFindsGaps(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true})
			c := mustConnect(t, rootConfig(s))
			mustExec(t, c, "CREATE DATABASE shop", "USE shop", "CREATE TABLE item (id INT PRIMARY KEY, sku VARCHAR(9))")
			w := newTail(t, tailConfig(t, s, DriverReplication, itemRules("shop")))
			old := w.position()
			if err := w.source.Check(t.Context(), old); err != nil {
				t.Fatal(err)
			}
			mustExec(t, c, "INSERT INTO item VALUES (1, 'a')", "FLUSH BINARY LOGS", "INSERT INTO item VALUES (2, 'b')", "FLUSH BINARY LOGS")
			purgeTo(t, c, "binlog.000003")
			gap := func(p pipeline.Position, want string) *pipeline.GapError {
				t.Helper()
				err := w.source.Check(t.Context(), p)
				gap, ok := errors.AsType[*pipeline.GapError](err)
				if !ok || !strings.Contains(gap.Reason, want) {
					t.Fatalf("check %s: %v, want a gap: %s", p, err, want)
				}
				if err := w.source.Check(t.Context(), gap.Next); err != nil {
					t.Fatalf("check behind the gap: %v", err)
				}
				return gap
			}
			gap(old, "no longer in the binlogs")
			// Running into it without a check first ends, and says why at the next check.
			if err := w.source.Run(t.Context(), old, w.batch); err == nil || serverCode(err) != 1236 {
				t.Errorf("run from a purged position: %v (%d)", err, serverCode(err))
			}
			gap(old, "no longer in the binlogs")

			w = newTail(t, w.cfg)
			pos, _ := parsePosition(w.position())
			pos.Server = "another"
			if g := gap(pos.encode(), "another server answers"); !strings.Contains(string(g.Next), pos.Set[:8]) {
				t.Errorf("the position behind a change of server is %s", g.Next)
			}
			pos, _ = parsePosition(w.position())
			ahead := mysql.MySQLFlavor
			pos.Set = uuidB + ":1"
			if f.name == "mariadb" {
				ahead, pos.Set = mysql.MariaDBFlavor, "9-9-9"
			}
			if pos.Flavor != ahead {
				t.Errorf("flavor %s", pos.Flavor)
			}
			gap(position{Flavor: pos.Flavor, Set: pos.Set}.encode(), "never executed")
			other := map[string]string{mysql.MySQLFlavor: mysql.MariaDBFlavor, mysql.MariaDBFlavor: mysql.MySQLFlavor}[pos.Flavor]
			gap(position{Flavor: other}.encode(), "the position is one of")
		})
	}
}

func TestSetWithoutOne(t *testing.T) {
	for _, tt := range []struct{ set, gtid, want string }{
		{uuidA + ":1-5", uuidA + ":5", uuidA + ":1-4"}, {uuidA + ":1-5", uuidA + ":1", uuidA + ":2-5"},
		{uuidA + ":1-5", uuidA + ":3", uuidA + ":1-2:4-5"}, {uuidA + ":7", uuidA + ":7", ""},
		{uuidA + ":1-5:red:2", uuidA + ":red:2", uuidA + ":1-5"}, {uuidA + ":1-5:red:2-3", uuidA + ":red:2", uuidA + ":1-5:red:3"},
	} {
		set, err := parseSet(mysql.MySQLFlavor, tt.set)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := set.(*mysqlSet).without(tt.gtid)
		if !ok || got.String() != tt.want || set.String() != tt.set {
			t.Errorf("%s without %s = %s, %v; the set itself is %s", tt.set, tt.gtid, got, ok, set)
		}
	}
	set, _ := parseSet(mysql.MySQLFlavor, uuidA+":1-5")
	if _, ok := set.(*mysqlSet).without(uuidB + ":1"); ok {
		t.Error("a GTID that is not in the set was taken out")
	}
}

// TestRefusalsEndInAGap: 1236 has many reasons. One that Check cannot explain is
// tried once more, and then is a gap instead of an endless loop.
func TestRefusalsEndInAGap(t *testing.T) {
	s := flavors[0].start(t)
	w := newTail(t, tailConfig(t, s, DriverReplication, itemRules("shop")))
	h := &w.source.(*replicationSource).history
	check := func() error { return w.source.Check(t.Context(), w.position()) }
	refusal := &mysql.MyError{Code: 1236, Message: "log event entry exceeded max_allowed_packet"}
	for i := range 2 {
		if err := check(); err != nil {
			t.Fatalf("check %d: %v", i, err)
		}
		_ = h.classify(refusal)
	}
	if err := check(); !isGap(err) || !strings.Contains(err.Error(), "max_allowed_packet") {
		t.Fatalf("after two refusals: %v", err)
	}
	if err := check(); err != nil {
		t.Fatalf("behind the gap: %v", err)
	}
	_ = h.classify(refusal)
	h.progress()
	_ = h.classify(refusal)
	if err := check(); err != nil {
		t.Fatalf("a transaction came between the refusals: %v", err)
	}
	same := h.classify(&mysql.MyError{Code: 1236, Message: "a replica with the same server_uuid/server_id as this replica has connected"})
	if !strings.Contains(same.Error(), "server id") {
		t.Errorf("a duplicate server id is not explained: %v", same)
	}
}

func TestGTIDSetOfAPosition(t *testing.T) {
	h := &history{}
	const set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
	p := position{Flavor: mysql.MySQLFlavor, Set: set, Server: "x"}.encode()
	if got := h.GTIDSet(p); got != set {
		t.Errorf("got %q, want %q", got, set)
	}
}
