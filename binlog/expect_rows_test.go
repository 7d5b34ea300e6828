package binlog

import (
	"slices"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// describe is all row changes and stale tables of some transactions.
func describe(txns []seenTxn) (all []string) {
	for _, x := range txns {
		all = append(all, x.changes...)
		for _, s := range x.scopes {
			all = append(all, "stale "+s)
		}
		if x.xa != "" {
			all = append(all, string(x.xa)+" "+x.xid)
		}
	}
	return all
}

func expect(t testing.TB, got []seenTxn, want ...string) {
	t.Helper()
	if all := describe(got); !slices.Equal(all, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(all, "\n  "), strings.Join(want, "\n  "))
		for _, x := range got {
			if x.reason != "" {
				t.Logf("reason in %s: %s", x.GTID, x.reason)
			}
		}
	}
}

// flavor is a kind of server that a test runs on.
type flavor struct {
	name  string
	start func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
}

var flavors = []flavor{{"mysql", envtest.MySQL}, {"mariadb", envtest.MariaDB}}

func envDatabase(t testing.TB, s *testenv.Server) string { return envtest.Database(t, s) }
