package integration

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// prepareXA runs statements as an XA transaction and leaves it prepared, without its session.
func (r *rig) prepareXA(xid string, stmts ...string) {
	r.t.Helper()
	db := openSQL(r.t, r.o.source, r.db)
	conn, err := db.Conn(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	xid = r.xid(xid)
	envtest.Exec(r.t, conn, slices.Concat([]string{"XA START " + xid}, stmts, []string{"XA END " + xid, "XA PREPARE " + xid})...)
	if err := db.Close(); err != nil {
		r.t.Fatal(err)
	}
	_ = conn.Close()
}

// xid is one that only this test uses.
func (r *rig) xid(name string) string { return "'" + r.db + "','" + name + "'" }

// endXA commits or rolls back what was prepared, as soon as the server has noticed that its session is gone.
func (r *rig) endXA(verb, name string) {
	r.t.Helper()
	eventually(r.t, stalled, verb+" "+name, func() bool {
		_, err := r.sql.ExecContext(r.t.Context(), "XA "+verb+" "+r.xid(name))
		return err == nil
	})
}

// purge removes all binlogs but the newest, which is empty.
func (r *rig) purge() {
	r.t.Helper()
	r.exec("FLUSH BINARY LOGS")
	r.exec("PURGE BINARY LOGS TO '" + r.newestBinlog() + "'")
}

// deleted returns those of some keys that were deleted.
func (r *rig) deleted(keys ...string) (found []string) {
	for _, k := range keys {
		if len(r.mon.times(k)) > 0 {
			found = append(found, k)
		}
	}
	return found
}

// TestXAWaits: the keys of an XA transaction are deleted twice after its XA COMMIT, and not before, though in between the
// pipeline is killed, the server restarted and the binlog of its PREPARE purged; a ROLLBACK deletes nothing.
func TestXAWaits(t *testing.T) {
	for name, o := range map[string]func(t *testing.T) options{
		"kafka": func(t *testing.T) options { return options{source: envtest.MySQL(t, testenv.MySQLOptions{})} },
		"embedded": func(t *testing.T) options {
			return options{source: envtest.MySQL(t, testenv.MySQLOptions{}), embedded: true}
		},
		"mariadb": func(t *testing.T) options {
			return options{source: envtest.MariaDB(t, testenv.MySQLOptions{}), embedded: true}
		},
		"canal": func(t *testing.T) options {
			return options{source: envtest.MySQL(t, testenv.MySQLOptions{}), embedded: true, driver: "canal"}
		},
	} {
		t.Run(name, func(t *testing.T) { testXAWaits(t, o(t)) })
	}
}

func testXAWaits(t *testing.T, o options) {
	o.fill = 500 * time.Millisecond
	r := newRig(t, o)
	tailer, _ := r.pipeline(1)
	r.exec("INSERT INTO item VALUES (1, 1, 'sku', 5, 'draft', NULL), (4, 4, 'sku', 5, 'draft', NULL)")
	r.settle()
	changed := []string{"item:1", "category:1:items", "category:2:items", "item:2", "category:3:items"}
	undone := []string{"item:4", "category:4:items", "category:5:items"}
	others := []string{"item:77", "order:77"}
	r.mon.forget()
	set(t, r.cache(), others...)

	r.prepareXA("kept", "UPDATE item SET category = 2 WHERE id = 1", "INSERT INTO item VALUES (2, 3, 'new', 5, 'draft', NULL)")
	r.prepareXA("undone", "UPDATE item SET category = 5 WHERE id = 4")
	r.settle()
	tailer.Kill()
	tailer = r.again(tailer)
	tailer.ready()
	r.purge()
	if err := r.o.source.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.o.source.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.settle()
	r.purge()
	tailer.Kill()
	tailer = r.again(tailer)
	tailer.ready()
	r.settle()
	if early := r.deleted(append(changed, undone...)...); len(early) > 0 {
		t.Errorf("deleted before the XA COMMIT: %q", early)
	}

	began := time.Now().UnixMicro()
	r.endXA("COMMIT", "kept")
	r.endXA("ROLLBACK", "undone")
	r.settle()
	for _, k := range changed {
		at := r.mon.times(k)
		if len(at) != 2 || at[0] < began || at[1]-at[0] < r.o.fill.Microseconds()*9/10 {
			t.Errorf("%s was deleted at %v, want twice after %d", k, at, began)
		}
	}
	if undone := r.deleted(undone...); len(undone) > 0 {
		t.Errorf("deleted after an XA ROLLBACK: %q", undone)
	}
	if left := existing(t, r.cache(), others...); len(left) != len(others) {
		t.Errorf("more was invalidated than the XA transaction has changed: left are %q", left)
	}
}

// TestXAOfBeforeTheStart: where the PREPARE was never seen, everything is invalidated at the XA COMMIT.
func TestXAOfBeforeTheStart(t *testing.T) {
	for name, source := range map[string]*testenv.Server{"mysql": envtest.MySQL(t), "mariadb": envtest.MariaDB(t)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, options{source: source, embedded: true, fill: 300 * time.Millisecond})
			r.prepareXA("old", "INSERT INTO item VALUES (1, 1, 'sku', 5, 'draft', NULL)")
			r.pipeline(0)
			r.settle()
			keys := []string{"item:1", "category:1:items", "order:7"}
			set(t, r.cache(), append(keys, "sess:1")...)
			r.endXA("COMMIT", "old")
			r.settle()
			if left := existing(t, r.cache(), append(keys, "sess:1")...); !slices.Equal(left, []string{"sess:1"}) {
				t.Errorf("these keys are left: %q", left)
			}
		})
	}
}

// TestXAKilledAtAnyMoment kills the tailer again and again while XA transactions are prepared, committed and rolled back.
func TestXAKilledAtAnyMoment(t *testing.T) {
	for _, embedded := range []bool{true, false} {
		t.Run(map[bool]string{false: "kafka", true: "embedded"}[embedded], func(t *testing.T) {
			r := newRig(t, options{embedded: embedded, fill: 500 * time.Millisecond})
			tailer, _ := r.pipeline(1)
			r.settle()
			rng := newRand(r.seed, 3)
			began := map[string]int64{} // when the XA COMMIT of a key's row began
			var undone []string
			for n := range pick(40, 300) {
				xid := strconv.Itoa(n)
				r.prepareXA(xid, fmt.Sprintf("INSERT INTO orders VALUES (%d, %d, 1)", n, n))
				if rng.IntN(3) == 0 {
					r.moment(rng)
				}
				if rng.IntN(3) == 0 {
					tailer.Kill()
					tailer = r.again(tailer)
				}
				if key := "order:" + xid; rng.IntN(4) == 0 {
					r.endXA("ROLLBACK", xid)
					undone = append(undone, key)
				} else {
					began[key] = time.Now().UnixMicro()
					r.endXA("COMMIT", xid)
				}
			}
			tailer.ready()
			r.settle()
			for key, began := range began {
				at := r.mon.times(key)
				// One delete is enough where it was sent long after the commit, by a pipeline that had been away.
				once := len(at) == 1 && at[0]-began >= r.o.fill.Microseconds()
				if len(at) < 2 && !once || len(at) > 0 && at[0] < began {
					t.Errorf("%s was deleted at %v; its commit began at %d", key, at, began)
				}
			}
			if found := r.deleted(undone...); len(found) > 0 {
				t.Errorf("deleted after an XA ROLLBACK: %q", found)
			}
		})
	}
}

const bigKeys = `version: 1
keys:
  - {name: grp, table: "%s.bulk", key: "grp:{grp}"}
  - {name: marker, table: "%[1]s.marker", key: "marker:{id}"}
`

// TestXAOfTwoMillionRows: neither the PREPARE nor the COMMIT of a transaction of any size takes more than a bounded memory.
func TestXAOfTwoMillionRows(t *testing.T) {
	for _, c := range []struct {
		name     string
		embedded bool
		rows     int
		limit    int // MB: of the whole pipeline, or of the tailer
	}{{"embedded", true, 2_000_000, 160}, {"kafka", false, pick(300_000, 2_000_000), 64}} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, options{source: envtest.MySQL(t, testenv.MySQLOptions{Fast: true}), embedded: c.embedded, fill: 300 * time.Millisecond})
			r.write("keys.yaml", fmt.Sprintf(bigKeys, r.db))
			p, _ := r.pipeline(1)
			r.settle()
			before := peakMB(t, p)
			const block = 100_000
			var stmts []string
			for at := 0; at < c.rows; at += block {
				first := strings.Replace(strings.ReplaceAll(bulkInsert, "$", r.db), "?", strconv.Itoa(at), 1)
				stmts = append(stmts, strings.Replace(first, "?", strconv.Itoa(block), 1))
			}
			start := time.Now()
			r.prepareXA("big", stmts...)
			written := time.Now()
			r.settle()
			prepared := time.Now()
			held := peakMB(t, p)
			if early := r.deleted("grp:0", "grp:499"); len(early) > 0 {
				t.Errorf("deleted before the XA COMMIT: %q", early)
			}
			r.endXA("COMMIT", "big")
			committed := time.Now()
			r.settle()
			for g := range 500 {
				if at := r.mon.times(fmt.Sprint("grp:", g)); len(at) < 2 {
					t.Fatalf("grp:%d was deleted at %v", g, at)
				}
			}
			peak := peakMB(t, p)
			t.Logf("%d rows: written in %v, held after %v more, published after %v; peak memory of %s %d MB idle, %d MB at PREPARE, %d MB at COMMIT",
				c.rows, written.Sub(start).Round(time.Second), prepared.Sub(written).Round(time.Second), time.Since(committed).Round(time.Second), p.Name(), before, held, peak)
			if !raceBuild && peak > c.limit {
				t.Errorf("peak memory %d MB, over %d", peak, c.limit)
			}
		})
	}
}

// peakMB is a process's largest resident memory so far.
func peakMB(t *testing.T, p *process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb >> 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
