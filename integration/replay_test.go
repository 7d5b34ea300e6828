package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// A replay must delete what its source names, all of it, twice, and nothing else.
const replaySchema = `version: 1
keys:
  - {name: item, table: "*.item", key: 'item:{id}'}
  - {name: category, table: "*.item", key: 'category:{category}:items'}
  - {name: marker, table: "*.marker", key: 'marker:{id}'}
`

// moment is a point in the source's history.
type moment struct {
	at   string // RFC 3339
	gtid string
}

// replayRig is a pipeline whose log and binlog hold three times ten items.
type replayRig struct {
	*rig
	running bool
	moments [2]moment // between the first and the second ten, and between the second and the third
	files   string    // a copy of the binlog
	runs    int
}

// keysOfItems are the keys of items [first, last].
func keysOfItems(first, last int) []string {
	keys := map[string]bool{}
	for id := first; id <= last; id++ {
		keys[fmt.Sprintf("item:%d", id)] = true
		keys[fmt.Sprintf("category:%d:items", id/3)] = true
	}
	return slices.Sorted(maps.Keys(keys))
}

func newReplayRig(t *testing.T, embedded, running bool) *replayRig {
	t.Helper()
	r := &replayRig{rig: newRig(t, options{embedded: embedded, keys: replaySchema, fill: 200 * time.Millisecond}), running: running}
	command(t, "replay")
	tailer, others := r.pipeline(2)
	for part := range 3 {
		for id := part*10 + 1; id <= part*10+10; id++ {
			r.exec("INSERT INTO item (id, category, price, status) VALUES (?, ?, 1, 'draft')", id, id/3)
		}
		if part < 2 {
			r.moments[part] = r.moment()
		}
	}
	r.settle()
	r.files = r.copyBinlog()
	if !running {
		for _, p := range append(others, tailer) {
			p.stop()
		}
		// As where none ever ran: a replay does not wait 30 s for one that restarts.
		_ = os.Remove(filepath.Join(r.dir, "data", "admin.addr"))
	}
	return r
}

// moment returns the time and the GTID set after all that was committed. Commit
// times are known to the microsecond, the arguments to the second.
func (r *replayRig) moment() (m moment) {
	r.t.Helper()
	time.Sleep(time.Second - time.Duration(time.Now().Nanosecond()) + 50*time.Millisecond) // the next second; it is what is named
	m.at = time.Now().UTC().Format(time.RFC3339)
	if err := r.sql.QueryRowContext(r.t.Context(), "SELECT REPLACE(@@global.gtid_executed, '\n', '')").Scan(&m.gtid); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// between is the GTIDs that the second moment has and the first lacks.
func (r *replayRig) between() (set string) {
	r.t.Helper()
	err := r.sql.QueryRowContext(r.t.Context(), "SELECT GTID_SUBTRACT(?, ?)", r.moments[1].gtid, r.moments[0].gtid).Scan(&set)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.ReplaceAll(set, "\n", "")
}

// copyBinlog fetches the binlog's files, as an archive has them.
func (r *replayRig) copyBinlog() string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "archive")
	if err := os.Mkdir(dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	rows, err := r.sql.QueryContext(r.t.Context(), "SHOW BINARY LOGS")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name, size, encrypted string
		if err := rows.Scan(&name, &size, &encrypted); err != nil {
			r.t.Fatal(err)
		}
		names = append(names, name)
	}
	cmd := r.tool("mysqlbinlog", append([]string{"--read-from-remote-server", "--raw", "--result-file=" + dir + "/"}, names...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("mysqlbinlog: %v: %s", err, text)
	}
	return dir
}

// summary is what the command says of itself.
type summary struct {
	Result string `json:"result"`
	Keys   int64  `json:"keys"`
}

// replay runs the command to its end.
func (r *replayRig) replay(t *testing.T, stdin string, args ...string) (s summary, output string) {
	t.Helper()
	r.runs++
	name := filepath.Join(r.dir, fmt.Sprintf("replay-%d", r.runs))
	args = append(args, "-config", r.config, "-state", name, "-summary", name+".json", "-yes")
	if !r.running && !r.o.embedded {
		args = append(args, "-target", "redis") // nobody reads the topic
	}
	cmd := exec.CommandContext(t.Context(), command(t, "replay"), args...)
	cmd.Env = append(os.Environ(), "MYSQL_PASSWORD="+secret, "REDIS_PASSWORD="+secret)
	cmd.Stdin = strings.NewReader(stdin)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("replay %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	if strings.Contains(string(text), secret) {
		t.Error("replay printed a password")
	}
	raw, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return s, string(text)
}

// TestReplay runs each source against real servers, through Kafka and with the
// embedded log, with the pipeline running and with it stopped. Redis itself says
// what was deleted.
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		name              string
		embedded, running bool
	}{{"kafka, running", false, true}, {"kafka, stopped", false, false}, {"embedded, running", true, true}, {"embedded, stopped", true, false}} {
		t.Run(c.name, func(t *testing.T) {
			r := newReplayRig(t, c.embedded, c.running)
			r.addDeadLetter(t, 23)
			since, until := r.moments[0].at, r.moments[1].at
			for _, s := range []struct {
				name, stdin string
				args        []string
				first, last int
				only        []string // instead of items first to last
				more        bool     // more may be deleted besides
			}{
				{name: "log by time", args: []string{"log", "-since", since, "-until", until}, first: 11, last: 20},
				{name: "log by offsets", args: []string{"log", "-from", "0"}, first: 1, last: 30, more: true},
				{name: "binlog by GTIDs", args: []string{"binlog", "-gtids", r.between()}, first: 11, last: 20},
				{name: "binlog by time", args: []string{"binlog", "-since", since, "-until", until}, first: 11, last: 20},
				{name: "binlog files", args: []string{"binlog", "-gtids", r.between(), "-files", r.files}, first: 11, last: 20},
				{name: "table", args: []string{"table", "-table", r.db + ".item"}, first: 1, last: 30},
				{name: "table in small chunks", args: []string{"table", "-table", r.db + ".item", "-chunk", "4"}, first: 1, last: 30},
				{name: "where", args: []string{"table", "-table", r.db + ".item", "-where", "id BETWEEN 5 AND 9"}, first: 5, last: 9},
				{name: "primary keys", stdin: "7\n8\n", args: []string{"keys", "-table", r.db + ".item"}, first: 7, last: 8},
				{name: "cache keys", stdin: "item:3\nelsewhere:4\n", args: []string{"keys"}, only: []string{"elsewhere:4", "item:3"}},
				{name: "dead letters", args: []string{"dead"}, first: 23, last: 23},
			} {
				t.Run(s.name, func(t *testing.T) {
					want := s.only
					if want == nil {
						want = keysOfItems(s.first, s.last)
					}
					r.mon.forget()
					sum, text := r.replay(t, s.stdin, s.args...)
					got := r.mon.snapshot()
					maps.DeleteFunc(got, func(key string, _ []int64) bool { return strings.HasPrefix(key, "doubletap:") }) // the preflight's
					for _, key := range want {
						if n := len(got[key]); n < 2 {
							t.Errorf("%s was deleted %d times, want twice", key, n)
						}
					}
					if all := slices.Sorted(maps.Keys(got)); !s.more && !slices.Equal(all, want) {
						t.Errorf("deleted %q, want %q", all, want)
					}
					if sum.Result != "done" || !s.more && sum.Keys < int64(len(want)) {
						t.Errorf("summary %+v, want %d keys", sum, len(want))
					}
					if t.Failed() {
						t.Logf("replay printed:\n%s", text)
					}
				})
			}
		})
	}
}

// addDeadLetter puts an item's change into the dead-letter log.
func (r *replayRig) addDeadLetter(t *testing.T, id int) {
	t.Helper()
	d := pipeline.DeadLetter{Partition: "by hand", Reason: "a test", Data: []byte(fmt.Sprintf(
		`{"v":1,"kind":"changes","source":"shop","gtid":"","seq":0,"schema":"0","tables":[{"db":%q,"table":"item","columns":["id","category"],"rows":[{"after":[%d,%d]}]}]}`,
		r.db, id, id/3))}
	if r.o.embedded {
		text, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(filepath.Join(r.dir, "data", "dead.jsonl"), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if _, err := file.Write(append(text, '\n')); err != nil {
			t.Fatal(err)
		}
		return
	}
	k, err := bus.NewKafka(bus.KafkaConfig{Brokers: []string{r.o.kafka.Addr}, Topic: r.topic, Partitions: 8})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close(t.Context()) //nolint:errcheck // what was added is durable
	if err := k.DeadLetters().Add(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

// TestReplayDryRun: the count is exact for a quiet table, within 1 % beside
// writes, and nothing is deleted.
func TestReplayDryRun(t *testing.T) {
	r := &replayRig{rig: newRig(t, options{embedded: true, keys: replaySchema}), running: true}
	command(t, "replay")
	r.pipeline(0)
	r.exec("SET SESSION cte_max_recursion_depth = 20000; INSERT INTO item (id, category, price, status) " +
		"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i, i % 700, 1, 'draft' FROM n")
	r.settle()
	truth := func() (n int64) {
		if err := r.sql.QueryRowContext(t.Context(), "SELECT COUNT(*) + COUNT(DISTINCT category) FROM item").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	dryRun := func() int64 {
		s, _ := r.replay(t, "", "table", "-table", r.db+".item", "-dry-run")
		return s.Keys
	}
	deletes := r.mon.count()
	if got, want := dryRun(), truth(); got != want {
		t.Errorf("%d keys in a quiet table, want %d", got, want)
	}
	if n := r.mon.count() - deletes; n > 1 { // one of the preflight's
		t.Errorf("the dry run made %d deletes", n)
	}

	ctx, stop := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	writing.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, err := r.sql.ExecContext(ctx, "INSERT INTO item (id, category, price, status) VALUES (?, ?, 1, 'draft'); DELETE FROM item WHERE id = ?; UPDATE item SET category = ? WHERE id = ?",
				20_001+i, i%700, 7*(i%2000), i%900, i%20_000)
			if err != nil && ctx.Err() == nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	})
	before := truth()
	got := dryRun()
	after := truth()
	stop()
	writing.Wait()
	if low, high := min(before, after)*99/100, max(before, after)*101/100; got < low || got > high {
		t.Errorf("%d keys beside writes; there were %d before and %d after", got, before, after)
	}
	t.Logf("%d keys beside writes; there were %d before and %d after", got, before, after)
}
