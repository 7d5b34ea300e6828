package binlog

import (
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
)

// TestSince: the position is the beginning of the newest file that was begun
// before the time, and all that was committed since is behind it.
func TestSince(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true})
			cfg := tailConfig(t, s, DriverReplication, rule("item", "shop.item", "id"))
			c := mustConnect(t, cfg)
			mustExec(t, c, "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
			srv, err := Detect(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			executed := func() string {
				state := mustState(t, cfg, srv)
				return state.executed.String()
			}
			one := executed()
			mustExec(t, c, "INSERT INTO shop.item VALUES (1)", "FLUSH BINARY LOGS", "INSERT INTO shop.item VALUES (2)")
			since := func(at time.Time) (string, time.Time) {
				pos, begun, err := Since(t.Context(), cfg, srv, at)
				if err != nil {
					t.Fatal(err)
				}
				p, err := parsePosition(pos)
				if err != nil || p.Server != srv.UUID {
					t.Fatalf("position %s: %v", pos, err)
				}
				return p.Set, begun
			}
			// All files were begun within the slack: the oldest one is right.
			now := time.Now()
			if set, begun := since(now); set != "" || now.Sub(begun) > time.Hour || begun.After(now) {
				t.Errorf("now: %q, begun at %s", set, begun)
			}
			// By a clock that is ahead, the newest file is.
			set, _ := since(now.Add(time.Hour))
			if two := executed(); set == "" || set == one || set == two || !mustSet(t, srv, two).contains(mustSet(t, srv, set)) {
				t.Errorf("in an hour: %q, with %q after the first file", set, one)
			}
			if set, begun := since(now.Add(-24 * time.Hour)); set != "" || begun.Before(now.Add(-time.Hour)) {
				t.Errorf("a day ago: %q, begun at %s", set, begun)
			}
			mustExec(t, c, "FLUSH BINARY LOGS")
			purgeAll(t, cfg)
			if set, _ := since(now.Add(-24 * time.Hour)); set != executed() {
				t.Errorf("all older files are purged: %q, executed are %q", set, executed())
			}
			bad := cfg
			bad.User = "nobody"
			if _, _, err := Since(t.Context(), bad, srv, now); err == nil || !strings.Contains(err.Error(), "find the binlog file") {
				t.Errorf("without a login: %v", err)
			}
		})
	}
}

func mustSet(t testing.TB, srv Server, text string) gtidSet {
	t.Helper()
	set, err := parseSet(srv.Flavor, text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func mustState(t testing.TB, cfg Config, srv Server) state {
	t.Helper()
	s, err := openSession(t.Context(), cfg, readTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	now, err := readState(t.Context(), s, srv.Flavor)
	if err != nil {
		t.Fatal(err)
	}
	return now
}

// purgeAll leaves the newest binlog file only. A server keeps a file, and says
// nothing, as long as a replica that has hung up has not been noticed.
func purgeAll(t testing.TB, cfg Config) {
	t.Helper()
	s, err := openSession(t.Context(), cfg, readTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	for limit := time.Now().Add(tailPatience); time.Now().Before(limit); {
		logs, err := s.query(t.Context(), "SHOW BINARY LOGS")
		if err != nil || len(logs) == 0 {
			t.Fatal(logs, err)
		}
		if len(logs) == 1 {
			return
		}
		if _, err := s.query(t.Context(), "PURGE BINARY LOGS TO "+quote(logs[len(logs)-1][0])); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("old binlog files stay")
}
