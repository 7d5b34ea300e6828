package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

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
	*commands.Process
	t    *testing.T
	args []string
	out  bytes.Buffer // complete once it has ended
}

// start starts the command in the rig's folder. It is killed with the test.
func (r *rig) start(stdin string, args ...string) *run {
	r.t.Helper()
	c := &run{t: r.t, args: args}
	c.Process = r.command(commands.Spec{
		Args: args, Dir: r.dir, Stdin: strings.NewReader(stdin), Stdout: &c.out, Log: filepath.Join(r.t.TempDir(), "log"),
	}, commands.Replay)
	return c
}

func (r *rig) command(s commands.Spec, name string) *commands.Process {
	r.t.Helper()
	dir, err := commands.BuildOnce()
	if err != nil {
		r.t.Fatal(err)
	}
	s.Path = filepath.Join(dir, name)
	p, err := commands.Start(s)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(p.Kill)
	return p
}

// want waits for the end, and wants this exit code.
func (c *run) want(code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 60*time.Second)
	defer cancel()
	if err := c.Wait(ctx); ctx.Err() != nil {
		c.t.Fatalf("%v: %v\n%s", c.args, err, c.Log())
	}
	if got := c.ExitCode(); got != code {
		c.t.Fatalf("%v: exit code %d, want %d\n%s%s", c.args, got, code, c.Log(), &c.out)
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

// chunks waits until a run has stored so many chunks.
func (r *rig) chunks(c *run, n int64) {
	r.t.Helper()
	r.until(fmt.Sprintf("%d chunks are stored", n), c.Process, func() bool {
		var s struct {
			Counts struct{ Chunks int64 }
		}
		text, err := os.ReadFile(filepath.Join(r.state, "state.json"))
		return err == nil && json.Unmarshal(text, &s) == nil && s.Counts.Chunks >= n
	})
}

// table makes the table of the schema, with so many rows, while the invalidator
// runs by a key schema.
func (r *rig) table(keys string, rows int) {
	r.t.Helper()
	r.write("keys.yaml", keys)
	p := r.command(commands.Spec{Args: []string{"-config", r.config}, Log: filepath.Join(r.dir, "invalidator.log")}, commands.Invalidator)
	r.until("the pipeline is ready", p, func() bool { return r.redis.Exists(r.t.Context(), "doubletap:{shop}:trusted:0").Val() == 1 })
	db := envtest.DB(r.t, r.source)
	for i := range rows {
		envtest.Exec(r.t, db, fmt.Sprintf("INSERT INTO %s.item VALUES (%d, 's%d')", r.db, i, i))
	}
	// What says that all of it was handled is a key of the last row.
	if err := r.redis.Set(r.t.Context(), "item:end", "x", 0).Err(); err != nil {
		r.t.Fatal(err)
	}
	envtest.Exec(r.t, db, "INSERT INTO "+r.db+".end VALUES ('end')")
	r.until("the rows are handled", p, func() bool { return r.redis.Exists(r.t.Context(), "item:end").Val() == 0 })
	if err := p.Stop(); err != nil {
		r.t.Fatal(err)
	}
	// It does not come back: without this, each replay waits for that.
	if err := os.Remove(filepath.Join(r.dir, "log", "admin.addr")); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) until(what string, p *commands.Process, ok func() bool) {
	r.t.Helper()
	if err := p.Poll(r.t.Context(), ok); err != nil {
		r.t.Fatalf("wait until %s: %v", what, err)
	}
}
