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
	c.cmd.Dir = r.dir
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
	// It does not come back: without this, each replay waits for that.
	if err := os.Remove(filepath.Join(r.dir, "log", "admin.addr")); err != nil {
		r.t.Fatal(err)
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
