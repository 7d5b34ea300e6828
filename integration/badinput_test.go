package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// runOnce runs a command to its end and returns its exit code and all that it printed.
func (r *rig) runOnce(name string, env []string, args ...string) (code int, output string) {
	r.t.Helper()
	p, err := commands.Start(commands.Spec{
		Path: command(r.t, name), Args: args, Env: slices.Concat(passwords, env), Log: filepath.Join(r.t.TempDir(), "output"),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	defer p.Kill()
	x := &process{Process: p, t: r.t}
	return x.endsWithin(90 * time.Second), p.Log()
}

// TestBadInput gives the commands what they must refuse. Each error names the thing and says what to do; nothing prints a
// password; -check and a start agree.
func TestBadInput(t *testing.T) {
	r := newRig(t, options{})
	good := r.yaml()
	schema := schemaYAML(r.db)
	replace := func(from, to string) string {
		t.Helper()
		if !strings.Contains(good, from) {
			t.Fatalf("%q is not in the configuration:\n%s", from, good)
		}
		return strings.Replace(good, from, to, 1)
	}
	r.exec("CREATE TABLE floats (id INT PRIMARY KEY, f DOUBLE)")
	const nobody = "127.0.0.1:1"
	protected := passwordRedis(t)
	for _, c := range []struct {
		name    string
		config  string
		keys    string
		env     []string
		command string // default binlog-tailer
		want    []string
	}{
		{name: "broken schema", keys: strings.Replace(schema, "table:", "tabel:", 1), want: []string{"keys.yaml:", `unknown field "tabel"`, "table"}},
		{name: "template without a prefix", keys: strings.Replace(schema, "'item:{id}'", "'{id}'", 1), want: []string{"keys.yaml:", `rule "item"`, "literal text"}},
		{name: "not YAML", config: "source: {name: shop\n", want: []string{"doubletap.yaml"}},
		{name: "unknown field", config: good + "redsi: {}\n", want: []string{"redsi", "redis"}},
		{name: "unknown table", keys: strings.Replace(schema, ".orders\"", ".order\"", 1), want: []string{`rule "order"`, r.db + ".order", "orders"}},
		{name: "unknown column", keys: strings.Replace(schema, "{user_id}", "{usr_id}", 1), want: []string{`rule "user-orders"`, "usr_id", "user_id"}},
		{name: "column of a type that has no text", keys: schema + "  - {name: f, table: " + r.db + ".floats, key: 'f:{f}'}\n", want: []string{`rule "f"`, "DOUBLE"}},
		{name: "wrong MySQL password", env: []string{"MYSQL_PASSWORD=nobody knows"}, want: []string{"password", r.o.source.Addr, "cdc"}},
		{name: "variable not set", config: replace("${MYSQL_PASSWORD}", "${NOT_SET}"), want: []string{"NOT_SET", "source.password"}},
		{name: "unreachable MySQL", config: replace(r.o.source.Addr, nobody), want: []string{nobody, "source"}},
		{name: "unreachable broker", config: replace(r.o.kafka.Addr, nobody), want: []string{nobody, "broker"}},
		{name: "unreachable Redis", config: replace(r.o.monitors[0], nobody), command: "invalidator", want: []string{nobody, "edis"}},
		{name: "Redis wants a password", config: replace(r.o.redis, "addrs: [\""+protected+"\"]"), command: "invalidator", want: []string{"password", protected}},
		{
			name: "wrong Redis password", config: replace(r.o.redis, "addrs: [\""+protected+"\"], password: \"${REDIS_PASSWORD}\""),
			env: []string{"REDIS_PASSWORD=nobody knows"}, command: "invalidator", want: []string{"password", protected},
		},
		{name: "protected pattern", config: replace(r.o.redis, r.o.redis+", protect: ['item:4*']"), want: []string{"item:4*", `rule "item"`, "overlap"}},
		{name: "embedded log and a tailer", config: replace(r.logLine(), "log: {embedded: {dir: ./data}}"), want: []string{"embedded", "invalidator"}},
		{name: "two logs", config: replace(r.logLine(), "log: {embedded: {dir: ./data}, kafka: {brokers: [\"a:1\"], topic: x}}"), want: []string{"log", "kafka", "embedded"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			if c.config == "" {
				c.config = good
			}
			if c.keys == "" {
				c.keys = schema
			}
			if c.command == "" {
				c.command = "binlog-tailer"
			}
			config := r.write("doubletap.yaml", c.config)
			r.write("keys.yaml", c.keys)
			for _, args := range [][]string{{"-config", config, "-check"}, {"-config", config, "-admin", "127.0.0.1:0"}} {
				r.refused(c.command, c.env, args, c.want)
			}
		})
	}
}

// refused runs a command that must end with code 2 and say all of want.
func (r *rig) refused(name string, env, args, want []string) {
	r.t.Helper()
	code, out := r.runOnce(name, env, args...)
	if code != 2 {
		r.t.Errorf("%s %q: exit code %d, not 2:\n%s", name, args, code, tail(out, 30))
		return
	}
	plain := strings.ReplaceAll(out, `\"`, `"`) // the log quotes its values
	for _, w := range want {
		if !strings.Contains(plain, w) {
			r.t.Errorf("%s %q does not say %q:\n%s", name, args, w, tail(out, 30))
		}
	}
	if strings.Contains(plain, secret) || strings.Contains(out, "nobody knows") {
		r.t.Errorf("%s %q prints a password", name, args)
	}
}

// logLine is the configuration's log section.
func (r *rig) logLine() string {
	for line := range strings.Lines(r.yaml()) {
		if strings.HasPrefix(line, "log:") {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// passwordRedis starts a Redis that wants the tests' password.
func passwordRedis(t *testing.T) string {
	t.Helper()
	s := envtest.Redis(t, testenv.RedisOptions{})
	c := testenv.OpenRedis(s)
	defer c.Close()
	if err := c.ConfigSet(t.Context(), "requirepass", secret).Err(); err != nil {
		t.Fatal(err)
	}
	return s.Addr
}

// TestBadSource starts the pipeline on servers with settings that it cannot work with.
func TestBadSource(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"no GTID", []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, []string{
			"gtid_mode", "SET PERSIST gtid_mode = ON;", "SET PERSIST enforce_gtid_consistency = ON;",
		}},
		{"several settings", []string{"--binlog-row-image=MINIMAL", "--binlog-row-metadata=MINIMAL", "--binlog-row-value-options=PARTIAL_JSON"}, []string{
			"binlog_row_image", "binlog_row_metadata", "binlog_row_value_options",
		}},
		{"no binlog", []string{"--skip-log-bin", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}, []string{"log_bin"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, options{embedded: true, source: envtest.MySQL(t, testenv.MySQLOptions{Args: c.args, Fast: true})})
			for _, args := range [][]string{{"-config", r.config, "-check"}, {"-config", r.config, "-admin", "127.0.0.1:0"}} {
				r.refused("invalidator", nil, args, c.want)
			}
		})
	}
}

// TestCheckSaysAll has three things wrong at a time, in three servers.
func TestCheckSaysAll(t *testing.T) {
	r := newRig(t, options{keys: "version: 1\nkeys:\n  - {name: a, table: nowhere.a, key: 'a:{id}'}\n  - {name: b, table: nowhere.b, key: 'b:{id}'}\n"})
	r.makeTopic(t, 3, "compact")
	config := r.write("doubletap.yaml", r.yaml())
	r.refused("binlog-tailer", nil, []string{"-config", config, "-check"}, []string{
		`rule "a"`, `rule "b"`, r.topic, "cleanup.policy", "partitions",
	})
	config = r.write("doubletap.yaml", strings.Replace(r.yaml(), r.o.monitors[0], "127.0.0.1:1", 1))
	r.refused("invalidator", nil, []string{"-config", config, "-check"}, []string{r.topic, "cleanup.policy", "127.0.0.1:1"})
}

// makeTopic makes the pipeline's topic before the pipeline does.
func (r *rig) makeTopic(t *testing.T, partitions int, policy string) {
	t.Helper()
	client := &kafka.Client{Addr: kafka.TCP(r.o.kafka.Addr), Transport: &kafka.Transport{}}
	defer client.Transport.(*kafka.Transport).CloseIdleConnections()
	resp, err := client.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: r.topic, NumPartitions: partitions, ReplicationFactor: 1,
		ConfigEntries: []kafka.ConfigEntry{{ConfigName: "cleanup.policy", ConfigValue: policy}},
	}}})
	if err == nil {
		err = resp.Errors[r.topic]
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestGap purges the binlog that a stopped tailer has not read.
func TestGap(t *testing.T) {
	for _, onGap := range []string{"stop", "invalidate"} {
		t.Run(onGap, func(t *testing.T) {
			r := newRig(t, options{embedded: true, source: envtest.MySQL(t, testenv.MySQLOptions{Fast: true}), onGap: onGap, fill: 300 * time.Millisecond})
			cache := r.cache()
			p, _ := r.pipeline(0)
			r.settle()
			if code := p.stop(); code != 0 {
				t.Fatalf("exit code %d after SIGTERM", code)
			}
			// A change that nobody will ever read.
			set(t, cache, "item:1", "category:1:items", "sess:1")
			r.exec("INSERT INTO item VALUES (1, 1, 'sku', 5, 'draft', NULL)")
			r.exec("FLUSH BINARY LOGS")
			r.exec("PURGE BINARY LOGS TO '" + r.newestBinlog() + "'")
			p = r.run("invalidator")
			if onGap == "stop" {
				if code := p.endsWithin(60 * time.Second); code != 3 {
					t.Errorf("exit code %d, not 3", code)
				}
				if out := p.Log(); !strings.Contains(out, "purged") || !strings.Contains(out, "on_gap") {
					t.Errorf("the output does not say what happened and what to do:\n%s", tail(out, 10))
				}
				return
			}
			p.ready()
			r.mon.wait(t, 20*time.Second, func() bool { return len(r.mon.times("item:1")) > 0 && len(r.mon.times("category:1:items")) > 0 })
			r.settle() // it goes on
			if left := existing(t, cache, "item:1", "category:1:items", "sess:1"); len(left) != 1 || left[0] != "sess:1" {
				t.Errorf("after a gap these keys are left: %q", left)
			}
			if n, err := p.metric("doubletap_gaps_total"); err != nil || n != 1 {
				t.Errorf("doubletap_gaps_total is %v, %v", n, err)
			}
		})
	}
}

func (r *rig) newestBinlog() (name string) {
	r.t.Helper()
	rows, err := r.sql.QueryContext(r.t.Context(), "SHOW BINARY LOGS")
	if err != nil {
		r.t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	for rows.Next() {
		into := []any{&name}
		for range len(columns) - 1 {
			into = append(into, new(any))
		}
		if err := rows.Scan(into...); err != nil {
			r.t.Fatal(err)
		}
	}
	return name
}
