package wire

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

// write puts the files into a folder and returns the configuration's path.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "doubletap.yaml")
}

// command is one that runs in this process.
type command struct {
	t    *testing.T
	base string
	log  *lines
	stop func()
}

// lines is a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// run starts a command; stop ends it, or the test does.
func run(t *testing.T, c Command, config string) *command {
	t.Helper()
	addr := envtest.FreeAddr(t)
	log := &lines{}
	a, err := newApp(options{config: config, admin: addr}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- c.run(ctx, a) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if code := <-ended; code != ExitOK {
			t.Errorf("%s ended with %d", c.Name, code)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	t.Cleanup(stop)
	return &command{t, "http://" + addr, log, stop}
}

// get asks the command; code is 0 where it does not answer.
func (c *command) get(path string) (code int, body string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.base+path, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// await waits until the page answers with the code and the text.
func (c *command) await(path string, code int, want string) string {
	c.t.Helper()
	var got int
	var body string
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got, body = c.get(path); got == code && strings.Contains(body, want) {
			return body
		}
	}
	c.t.Fatalf("%s: %d %s, want %d with %q", path, got, body, code, want)
	return ""
}

func one(t *testing.T, db *sql.DB, query string) (text string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&text); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return text
}

// TestReadersOfAPipeline: a replica that stops is named and refused while it
// lags, holds up no first delete, and is welcome again when it has caught up.
func TestReadersOfAPipeline(t *testing.T) {
	source := envtest.MySQL(t, testenv.MySQLOptions{})
	replica := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source})
	redis := envtest.Redis(t)
	db, behind := envtest.DB(t, source), envtest.DB(t, replica)
	envtest.Exec(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(20))")
	config := write(t, map[string]string{
		"keys.yaml": "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'wired:{id}'}\n",
		"doubletap.yaml": fmt.Sprintf(`
source: {name: shop, addr: "%s", user: root}
log: {embedded: {dir: data}}
redis: {addrs: ["%s"]}
keys: keys.yaml
second_delete: {fill: 200ms, max_wait: 1s, readers: ["%s", {addr: "%s", server_uuid: "%s"}]}
`, source.Addr, redis.Addr, source.Addr, replica.Addr, one(t, behind, "SELECT @@server_uuid")),
	})
	c := run(t, Invalidator, config)
	c.await("/readyz", 200, `"warnings": []`)
	if !strings.Contains(c.log.String(), "preflight: reader "+source.Addr) {
		t.Error("the readers were not looked at before the start")
	}
	name := "/readers?name=" + replica.Addr
	c.await(name, 200, `"may_serve": true`)
	var all struct{ Readers []admin.Reader }
	if err := json.Unmarshal([]byte(c.await("/readers", 200, source.Addr)), &all); err != nil || len(all.Readers) != 2 {
		t.Errorf("/readers: %v, %+v", err, all)
	}

	envtest.Exec(t, behind, "STOP REPLICA SQL_THREAD")
	envtest.Exec(t, db, "INSERT INTO shop.item VALUES (1, 'one')")
	written := url.QueryEscape(one(t, db, "SELECT @@global.gtid_executed"))
	c.await("/wait?timeout=10s&gtid="+written, 200, `"done": true`)
	c.await("/wait?timeout=0s&pass=second&gtid="+written, 504, "partition 0: 1 of")
	c.await(name, 503, `"late": true`)
	c.await("/readyz", 200, "reader "+replica.Addr+" is late")
	c.await(name, 503, `"embedded/0"`)
	c.await("/readyz", 200, "reader "+replica.Addr+" is out")
	c.await("/metrics", 200, fmt.Sprintf(`doubletap_reader_out{partition="embedded/0",reader="%s"} 1`, replica.Addr))
	c.await("/wait?timeout=10s&pass=second&gtid="+written, 200, `"done": true`)
	c.await("/readers?name="+source.Addr, 200, `"may_serve": true`)
	if !strings.Contains(c.log.String(), `level=ERROR msg="a reader is later`) {
		t.Error("the log does not say that the reader is late")
	}

	c.stop()
	c = run(t, Invalidator, config)
	c.await("/readyz", 200, "reader "+replica.Addr+" is out")
	c.await(name, 503, `"embedded/0"`)

	envtest.Exec(t, behind, "START REPLICA SQL_THREAD")
	c.await(name, 200, `"may_serve": true`)
	c.await("/readyz", 200, `"warnings": []`)
	for _, want := range []string{"level=ERROR msg=\"a reader is out", "msg=\"a reader is back"} {
		if !strings.Contains(c.log.String(), want) {
			t.Errorf("the log has no %s", want)
		}
	}
}

// TestReadersOfTwoInvalidators: each of two that share the partitions says of a
// replica that it may serve while it lags by less than max_wait, although the
// second passes of other partitions are past what it lacks; and that it may not
// once it is out, in whosever partition.
func TestReadersOfTwoInvalidators(t *testing.T) {
	source := envtest.MySQL(t, testenv.MySQLOptions{})
	replica := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source})
	kafka, redis := envtest.Kafka(t), envtest.Redis(t)
	db, behind := envtest.DB(t, source), envtest.DB(t, replica)
	envtest.Exec(t, db, "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY)")
	config := write(t, map[string]string{
		"keys.yaml": "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'two:{id}'}\n",
		"doubletap.yaml": fmt.Sprintf(`
source: {name: shop, addr: "%s", user: root}
log: {kafka: {brokers: ["%s"], topic: %s, partitions: 4}}
redis: {addrs: ["%s"]}
keys: keys.yaml
second_delete: {fill: 200ms, max_wait: 5s, readers: ["%s"]}
`, source.Addr, kafka.Addr, envtest.Topic(t), redis.Addr, replica.Addr),
	})
	run(t, Tailer, config).await("/readyz", 200, `"ready": true`)
	both := []*command{run(t, Invalidator, config), run(t, Invalidator, config)}
	name := "/readers?name=" + replica.Addr
	for _, c := range both {
		c.await("/readyz", 200, `"warnings": []`)
		c.await(name, 200, `"may_serve": true`)
	}

	envtest.Exec(t, behind, "STOP REPLICA SQL_THREAD")
	envtest.Exec(t, db, "INSERT INTO shop.item VALUES (1)")
	both[0].await("/wait?timeout=10s&gtid="+url.QueryEscape(one(t, db, "SELECT @@global.gtid_executed")), 200, `"done": true`)
	for lag := 0.0; lag < 3.5; {
		for _, c := range both {
			code, body := c.get(name)
			var r admin.Reader
			if err := json.Unmarshal([]byte(body), &r); err != nil {
				t.Fatal(err, body)
			}
			if lag = r.LagSeconds; code != 200 && !r.Late {
				t.Fatalf("it lags by less than max_wait: %d %s", code, body)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, c := range both {
		c.await(name, 503, `"late": true`)
	}
	both[0].await("/wait?timeout=30s&pass=second&gtid="+url.QueryEscape(one(t, db, "SELECT @@global.gtid_executed")), 200, `"done": true`)
	for _, c := range both {
		if code, body := c.get(name); code != 503 {
			t.Errorf("second deletes went on without it: %d %s", code, body)
		}
	}
	envtest.Exec(t, behind, "START REPLICA SQL_THREAD")
	for _, c := range both {
		c.await(name, 200, `"may_serve": true`)
	}
}

// TestSourceOutOfReach: an invalidator with Kafka between it and the source can
// start where it cannot reach the source, and says what that costs.
func TestSourceOutOfReach(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := newApp(options{config: write(t, map[string]string{
		"keys.yaml":      "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'item:{id}'}\n",
		"doubletap.yaml": strings.Replace(plain, "127.0.0.1:3306", nobody, 1),
	})}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	findings := a.checkLag(t.Context())
	if len(findings) != 1 || findings[0].Severity != pipeline.Warning || !strings.Contains(findings[0].Problem, nobody) {
		t.Errorf("%v", findings)
	}
}
