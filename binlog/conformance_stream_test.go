package binlog

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
)

func TestResetIsNoticed(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			s := f.start(t, testenv.MySQLOptions{Fast: true})
			inLab(t, s, f.name == "mariadb", DriverReplication, itemRules, func(l *lab) {
				l.exec(createItem)
				l.catchUp()
				reset := "RESET BINARY LOGS AND GTIDS"
				if l.maria {
					reset = "RESET MASTER"
				}
				l.exec(reset)
				l.wait("the gap", func() bool { return slices.ContainsFunc(l.errs, isGap) })
				l.exec("INSERT INTO item VALUES (3, 2, 'c')")
				expect(l, l.catchUp(), `item: - -> (3, "c")`)
			})
		})
	}
}

func isGap(err error) bool { return err != nil && strings.HasPrefix(err.Error(), "gap in") }

// TestReusedNumbersAreNoticed: binlogs and GTIDs are reset while nobody reads,
// and the numbers are used again. GTID sets look as if nothing had happened.
func TestReusedNumbersAreNoticed(t *testing.T) {
	s := flavors[0].start(t, testenv.MySQLOptions{Fast: true})
	inLab(t, s, false, DriverReplication, itemRules, func(l *lab) {
		l.exec(createItem, "INSERT INTO item VALUES (1, 2, 'a')", "INSERT INTO item VALUES (2, 2, 'a')")
		l.catchUp()
		// The same history: nothing comes twice, nothing is a gap.
		l.killDump()
		l.check([]string{"INSERT INTO item VALUES (3, 2, 'c')"}, `item: - -> (3, "c")`)
		l.stop()
		l.exec("RESET BINARY LOGS AND GTIDS")
		for i := range 20 {
			l.exec(fmt.Sprintf("INSERT INTO item VALUES (%d, 2, 'n')", 10+i))
		}
		l.run()
		l.wait("the gap", func() bool {
			return slices.ContainsFunc(l.errs, func(err error) bool { return isGap(err) && strings.Contains(err.Error(), "was committed at") })
		})
		l.exec("INSERT INTO item VALUES (99, 2, 'z')")
		expect(l, l.catchUp(), `item: - -> (99, "z")`)
	})
}

// TestHeldStream: the gate may hold a transaction for longer than any time
// limit of the stream.
func TestHeldStream(t *testing.T) {
	for _, driver := range []string{DriverReplication, DriverCanal} {
		t.Run(driver, func(t *testing.T) {
			inLab(t, flavors[0].start(t), false, driver, itemRules, func(l *lab) {
				l.exec(createItem)
				l.catchUp()
				hold := make(chan struct{})
				l.hold(hold)
				l.exec("INSERT INTO item VALUES (1, 2, 'a')", "INSERT INTO item VALUES (2, 2, 'b')")
				time.AfterFunc(streamTimeout+2*time.Second, func() { close(hold) })
				expect(l, l.catchUp(), `item: - -> (1, "a")`, `item: - -> (2, "b")`)
				if len(l.errs) > 0 {
					l.Errorf("the source ended: %v", l.errs)
				}
			})
		})
	}
}

// TestFrozenServer: a server that is stopped but not dead sends nothing and
// closes nothing; the stream must end by itself.
func TestFrozenServer(t *testing.T) {
	for _, driver := range []string{DriverReplication, DriverCanal} {
		t.Run(driver, func(t *testing.T) {
			s := flavors[0].start(t, testenv.MySQLOptions{Fast: true})
			mustExec(t, mustConnect(t, rootConfig(s)), "CREATE DATABASE first")
			inLab(t, s, false, driver, itemRules, func(l *lab) {
				l.exec(createItem)
				l.catchUp()
				if err := s.Pause(); err != nil {
					t.Fatal(err)
				}
				l.wait("the end of the stream", func() bool { return len(l.errs) > 0 })
				if err := s.Resume(); err != nil {
					t.Fatal(err)
				}
				l.check([]string{"INSERT INTO item VALUES (1, 2, 'a')"}, `item: - -> (1, "a")`)
			})
		})
	}
}

func TestTLS(t *testing.T) {
	for _, driver := range []string{DriverReplication, DriverCanal} {
		for _, f := range flavors {
			t.Run(driver+" "+f.name, func(t *testing.T) {
				s := f.start(t)
				db := envDatabase(t, s)
				cfg := tailConfig(t, s, driver, itemRules(db))
				cfg.TLS = &tls.Config{InsecureSkipVerify: true} // the server makes its own certificate
				w := newTail(t, cfg)
				w.run()
				c := mustConnect(t, rootConfig(s))
				mustExec(t, c, "USE "+db, createItem, "INSERT INTO item VALUES (1, 2, 'a')")
				expect(t, w.catchUp(), `item: - -> (1, "a")`)
			})
		}
	}
}
