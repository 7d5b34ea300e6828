package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

// built is the command, built once, beside the test binary; the invalidator is
// beside it.
var built = sync.OnceValues(func() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), "commands-"+strconv.Itoa(os.Getpid()), "replay")
	out, err := exec.Command("go", "build", "-o", filepath.Dir(path)+string(filepath.Separator), ".", "../invalidator").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// rig is a Redis with keys, and a configuration with the embedded log.
type rig struct {
	t      *testing.T
	redis  *redis.Client
	source *testenv.Server
	db     string // of the tests that have one
	dir    string
	config string
	state  string
}

const schema = `version: 1
keys:
  - {name: item, table: "shop.item", key: 'item:{id}'}
`

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, source: envtest.MySQL(t), dir: t.TempDir()}
	server := envtest.Redis(t)
	r.redis = testenv.OpenRedis(server)
	t.Cleanup(func() { _ = r.redis.Close() })
	if err := r.redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	r.state = filepath.Join(r.dir, "state")
	r.write("keys.yaml", schema)
	r.config = r.write("doubletap.yaml", fmt.Sprintf(`
source: {name: shop, addr: %q, user: root}
log: {embedded: {dir: log}}
redis: {addrs: [%q]}
keys: keys.yaml
second_delete: {fill: 300ms}
`, r.source.Addr, server.Addr))
	return r
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// fill stores n keys, and returns their list.
func (r *rig) fill(n int) (list string) {
	r.t.Helper()
	var b strings.Builder
	pipe := r.redis.Pipeline()
	for i := range n {
		key := fmt.Sprintf("item:%d", i)
		pipe.Set(r.t.Context(), key, "x", 0)
		b.WriteString(key + "\n")
	}
	pipe.Set(r.t.Context(), "other", "x", 0)
	if _, err := pipe.Exec(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return b.String()
}

// left is how many keys there are of those that fill stored.
func (r *rig) left() (n int) {
	r.t.Helper()
	it := r.redis.Scan(r.t.Context(), 0, "item:*", 1000).Iterator()
	for it.Next(r.t.Context()) {
		n++
	}
	if err := it.Err(); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// run is a run of the command.
type run struct {
	t           *testing.T
	cmd         *exec.Cmd
	out, errors bytes.Buffer
}

func (r *rig) start(stdin string, args ...string) *run {
	r.t.Helper()
	path, err := built()
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 60*time.Second)
	r.t.Cleanup(cancel)
	c := &run{t: r.t, cmd: exec.CommandContext(ctx, path, args...)}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = strings.NewReader(stdin), &c.out, &c.errors
	if err := c.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// end waits, and returns the exit code.
func (c *run) end() int {
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode()
}

func (c *run) want(code int) {
	c.t.Helper()
	if got := c.end(); got != code {
		c.t.Fatalf("%v: exit code %d, want %d\n%s%s", c.cmd.Args, got, code, &c.errors, &c.out)
	}
}

type summary struct {
	Result string `json:"result"`
	Keys   int64  `json:"keys"`
	Chunks int64  `json:"chunks"`
	Redone int64  `json:"chunks_redone"`
}

func (c *run) summary() (s summary) {
	c.t.Helper()
	if err := json.Unmarshal(c.out.Bytes(), &s); err != nil {
		c.t.Fatalf("the summary: %v: %s", err, &c.out)
	}
	return s
}

// chunks waits until so many chunks are stored.
func (r *rig) chunks(n int64) {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(30 * time.Second)
	for {
		var s struct {
			Counts struct{ Chunks int64 }
		}
		text, err := os.ReadFile(filepath.Join(r.state, "state.json"))
		if err == nil && json.Unmarshal(text, &s) == nil && s.Counts.Chunks >= n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no %d chunks within 30 s: %s", n, text)
		}
		<-tick.C
	}
}

const many = 6000

func (r *rig) line(more ...string) []string {
	return append([]string{"keys", "-config", r.config, "-state", r.state, "-chunk", "200", "-rate", "2000", "-yes"}, more...)
}

func TestKilledInTheMiddle(t *testing.T) {
	r := newRig(t)
	list := r.fill(many)
	for i, stdin := range []string{list, "", ""} { // the same line goes on, without the list
		c := r.start(stdin, r.line()...)
		r.chunks(int64(3 + 3*i))
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		c.end()
	}
	if n := r.left(); n == 0 || n == many {
		t.Fatalf("%d keys are left in the middle of %d", n, many)
	}
	other := r.start("item:1\n", r.line("-max-live-lag", "2s", "-old-keys", r.write("old.yaml", strings.Replace(schema, "item:{id}", "i:{id}", 1)))...)
	other.want(2)
	if text := other.errors.String(); !strings.Contains(text, "holds a replay that is not done") {
		t.Errorf("another replay in its folder: %s", text)
	}
	c := r.start("", "resume", "-state", r.state, "-rate", "100000")
	c.want(0)
	s := c.summary()
	if n := r.left(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	if s.Result != "done" || s.Redone > 3 || s.Keys < many || s.Keys > many+200*s.Redone {
		t.Errorf("%+v", s)
	}
	if r.redis.Exists(t.Context(), "other").Val() != 1 {
		t.Error("a key was deleted that nobody named")
	}
	if _, err := os.Stat(filepath.Join(r.state, "spool")); err == nil {
		t.Error("the spool is still there")
	}
	r.start("", "resume", "-state", r.state).want(0) // it says that it is done
}

func TestInterrupted(t *testing.T) {
	r := newRig(t)
	c := r.start(r.fill(many), r.line("-summary", filepath.Join(r.dir, "sum mary.json"))...)
	r.chunks(3)
	if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	c.want(1)
	_, line, ok := strings.Cut(c.errors.String(), "go on with: ")
	if !ok {
		t.Fatalf("no command to go on with:\n%s", &c.errors)
	}
	line, _, _ = strings.Cut(line, "\n")
	sh := exec.CommandContext(t.Context(), "sh", "-c", line)
	sh.Dir = t.TempDir()
	if out, err := sh.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	if n := r.left(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "sum mary.json"))
	if err != nil || !strings.Contains(string(text), `"result": "done"`) || !strings.Contains(string(text), `"chunks_redone": 0`) {
		t.Errorf("the summary: %v %s", err, text)
	}
}

func TestDryRunDeletesNothing(t *testing.T) {
	r := newRig(t)
	c := r.start(r.fill(500)+"nowhere\nitem:1\n", r.line("-dry-run")...)
	c.want(0)
	if s := c.summary(); s.Keys != 501 || s.Result != "dry run" {
		t.Errorf("%+v", s)
	}
	if n := r.left(); n != 500 {
		t.Errorf("%d of 500 keys are left", n)
	}
	if !strings.Contains(c.errors.String(), "500 of 501 sampled keys are in Redis now") {
		t.Error(c.errors.String())
	}
}

// table makes the table of the schema, with so many rows, while the invalidator
// runs by a key schema.
func (r *rig) table(keys string, rows int) {
	r.t.Helper()
	r.write("keys.yaml", keys)
	path, err := built()
	if err != nil {
		r.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(r.dir, "invalidator.log"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.CommandContext(r.t.Context(), filepath.Join(filepath.Dir(path), "invalidator"), "-config", r.config)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.until("the pipeline is ready", func() bool { return r.redis.Exists(r.t.Context(), "doubletap:{shop}:trusted:0").Val() == 1 })
	db := envtest.DB(r.t, r.source)
	for i := range rows {
		if _, err := db.ExecContext(r.t.Context(), "INSERT INTO "+r.db+".item VALUES (?, ?)", i, fmt.Sprintf("s%d", i)); err != nil {
			r.t.Fatal(err)
		}
	}
	// What says that all of it was handled is a key of the last row.
	if err := r.redis.Set(r.t.Context(), "item:end", "x", 0).Err(); err != nil {
		r.t.Fatal(err)
	}
	if _, err := db.ExecContext(r.t.Context(), "INSERT INTO "+r.db+".end VALUES ('end')"); err != nil {
		r.t.Fatal(err)
	}
	r.until("the rows are handled", func() bool { return r.redis.Exists(r.t.Context(), "item:end").Val() == 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		r.t.Fatalf("invalidator: %v: %s", err, readFile(r.t, log.Name()))
	}
}

func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within 30 s: %s\n%s", what, readFile(r.t, filepath.Join(r.dir, "invalidator.log")))
		}
	}
}

// TestSwitch is about a log whose events lack a column that the key schema needs
// by now: the binlog has it.
func TestSwitch(t *testing.T) {
	r := newRig(t)
	r.db = envtest.Database(t, r.source)
	db := envtest.DB(t, r.source)
	for _, ddl := range []string{"CREATE TABLE %s.item (id INT PRIMARY KEY, sku VARCHAR(20) COLLATE utf8mb4_bin)", "CREATE TABLE %s.end (id VARCHAR(20) PRIMARY KEY)"} {
		if _, err := db.ExecContext(t.Context(), fmt.Sprintf(ddl, r.db)); err != nil {
			t.Fatal(err)
		}
	}
	since := time.Now().UTC().Format(time.RFC3339)
	end := fmt.Sprintf("  - {name: end, table: '%s.end', key: 'item:{id}'}\n", r.db)
	of := func(column string) string {
		return fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: '%s.item', key: 'item:{%s}'}\n%s", r.db, column, end)
	}
	r.table(of("id"), 20)
	r.write("keys.yaml", of("sku"))

	set := func(keys ...string) {
		for _, key := range keys {
			if err := r.redis.Set(t.Context(), key, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	has := func(key string) bool { return r.redis.Exists(t.Context(), key).Val() == 1 }
	line := func(more ...string) []string {
		return append([]string{"log", "-config", r.config, "-state", filepath.Join(t.TempDir(), "state"), "-yes"}, more...)
	}
	for _, c := range []struct {
		name string
		more []string
		says string
		kept bool // keys of rows that did not change
	}{
		{"binlog", []string{"-since", since}, "the binlog of the same time is read instead", true},
		{"by offsets", []string{"-from", "0"}, "the binlog of the same time is read instead", true},
		{"no switch", []string{"-since", since, "-no-switch"}, "lack the column sku", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			set("item:s3", "item:elsewhere")
			p := r.start("", line(c.more...)...)
			p.want(0)
			if text := strings.Join(strings.Fields(p.errors.String()), " "); !strings.Contains(text, c.says) {
				t.Errorf("it says %s", text)
			}
			if has("item:s3") || has("item:elsewhere") != c.kept {
				t.Errorf("of a row that changed: %t, of another: %t, want %t\n%s", has("item:s3"), has("item:elsewhere"), c.kept, &p.errors)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	r := newRig(t)
	r.fill(1)
	gone := r.write("gone.yaml", strings.Replace(readFile(t, r.config), "redis: {", "redis: {mode: standalone, ", 1))
	for _, c := range []struct {
		name, stdin string
		args        []string
		code        int
		says        string
	}{
		{"no yes, no terminal", "item:0\n", []string{"keys", "-config", r.config}, 2, "add -yes"},
		{"no such configuration", "", []string{"dead", "-config", "nowhere.yaml"}, 2, "nowhere.yaml"},
		{"topic with the embedded log", "", []string{"keys", "-config", r.config, "-target", "topic"}, 2, "leave -target out"},
		{"an empty list", "", []string{"keys", "-config", r.config, "-yes"}, 2, "no keys"},
		{"nothing to resume", "", []string{"resume"}, 2, "there is no replay in"},
		{"an unknown table", "", []string{"table", "-config", gone, "-table", "shop.items", "-yes"}, 2, "shop.items"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := r.start(c.stdin, append(c.args, "-state", filepath.Join(t.TempDir(), "state"))...)
			p.want(c.code)
			if !strings.Contains(p.errors.String(), c.says) {
				t.Errorf("it says %s", p.errors.String())
			}
		})
	}
	if r.left() != 1 {
		t.Error("something was deleted")
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
