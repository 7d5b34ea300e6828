package integration

import (
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// options are what the pipelines of these tests differ in; the zero value is Kafka, with the shared servers.
type options struct {
	source   *testenv.Server // default: the shared MySQL
	embedded bool
	kafka    *testenv.Server // default: the shared Kafka
	redis    string          // what stands between the braces of redis: {}; default: the shared Redis
	monitors []string        // Redis servers to watch; default: the shared one
	keys     string          // the key schema; default schemaYAML
	more     string          // further lines of the configuration
	onGap    string
	fill     time.Duration // default 1 s
	second   string        // further fields of second_delete
	lag      time.Duration // how far a reader is behind: second deletes come that much later
	driver   string        // default auto
	user     string        // default cdc
}

// rig is a pipeline's surroundings: servers, a database with the tests' tables, and a configuration file.
type rig struct {
	t      *testing.T
	o      options
	db     string
	sql    *sql.DB // as root
	mon    *monitor
	dir    string
	config string
	topic  string
	marks  int64
	seed   uint64
	from   binlogPlace // where the oracle begins to read
	procs  []*process  // all that were ever started
}

const testUser = "cdc"

func newRig(t *testing.T, o options) *rig {
	t.Helper()
	command(t, "invalidator") // compile before the clock of any wait runs
	if o.source == nil {
		o.source = envtest.MySQL(t)
	}
	if !o.embedded && o.kafka == nil {
		o.kafka = envtest.Kafka(t)
	}
	if o.redis == "" {
		server := envtest.Redis(t)
		o.redis = fmt.Sprintf("addrs: [%q]", server.Addr)
		o.monitors = []string{server.Addr}
		flush(t, server)
	}
	if o.fill == 0 {
		o.fill = time.Second
	}
	if o.user == "" {
		o.user = testUser
	}
	r := &rig{t: t, o: o, dir: t.TempDir(), topic: envtest.Topic(t), seed: newSeed(t)}
	r.db = envtest.Database(t, o.source)
	r.sql = openSQL(t, o.source, r.db)
	for _, table := range tables {
		r.exec(table.create(r.db))
	}
	createUser(t, r.sql, o.user)
	r.mon = watchRedis(t, o.monitors...)
	if o.keys == "" {
		o.keys = schemaYAML(r.db)
	}
	r.write("keys.yaml", o.keys)
	r.config = r.write("doubletap.yaml", r.yaml())
	return r
}

func flush(t *testing.T, s *testenv.Server) {
	t.Helper()
	c := testenv.OpenRedis(s)
	defer c.Close()
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
}

// openSQL is envtest.DB without a round trip for each parameter.
func openSQL(t *testing.T, s *testenv.Server, name string) *sql.DB {
	t.Helper()
	cfg := mysql.NewConfig()
	cfg.Net, cfg.Addr, cfg.User, cfg.DBName = "tcp", s.Addr, "root", name
	cfg.MultiStatements, cfg.InterpolateParams = true, true
	cfg.Timeout, cfg.ReadTimeout = 5*time.Second, 60*time.Second
	cfg.Logger = &mysql.NopLogger{}
	cfg.Params = map[string]string{"time_zone": "'+00:00'"}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// createUser makes the user that the documentation asks for, with the password of all tests.
func createUser(t *testing.T, db *sql.DB, user string) {
	t.Helper()
	quoted := "'" + strings.ReplaceAll(secret, "'", "''") + "'"
	envtest.Exec(t, db,
		fmt.Sprintf("CREATE USER IF NOT EXISTS %s@'%%' IDENTIFIED BY %s", user, quoted),
		fmt.Sprintf("GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO %s@'%%'", user))
}

func (r *rig) exec(stmt string, args ...any) {
	r.t.Helper()
	if _, err := r.sql.ExecContext(r.t.Context(), stmt, args...); err != nil {
		r.t.Fatalf("%.200s: %v", stmt, err)
	}
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// yaml is the configuration, in the form that the documentation shows.
func (r *rig) yaml() string {
	log := "log:     {embedded: {dir: ./data}}"
	if !r.o.embedded {
		log = fmt.Sprintf("log:     {kafka: {brokers: [%q], topic: %s, partitions: 8}}", r.o.kafka.Addr, r.topic)
	}
	source := fmt.Sprintf("name: shop, addr: %q, user: %s, password: \"${MYSQL_PASSWORD}\", start: current", r.o.source.Addr, r.o.user)
	if r.o.onGap != "" {
		source += ", on_gap: " + r.o.onGap
	}
	if r.o.driver != "" {
		source += ", driver: " + r.o.driver
	}
	return strings.Join([]string{
		"source:  {" + source + "}",
		log,
		"redis:   {" + r.o.redis + "}",
		"keys:    keys.yaml",
		fmt.Sprintf("second_delete: {fill: %s%s}", r.o.fill, r.o.second),
		`admin:   {listen: "127.0.0.1:9400"}`,
		r.o.more,
	}, "\n") + "\n"
}

// run starts a command on an admin port of its own.
func (r *rig) run(name string) *process {
	r.t.Helper()
	p := start(r.t, name, r.config, commands.Serve)
	r.procs = append(r.procs, p)
	return p
}

// again starts another run of a process that has ended.
func (r *rig) again(p *process) *process { return r.run(p.Name()) }

// pipeline starts the whole pipeline and waits until it is ready: a tailer and n invalidators, or with the embedded log
// one invalidator, which is everything.
func (r *rig) pipeline(invalidators int) (tailer *process, others []*process) {
	r.t.Helper()
	if r.o.embedded {
		p := r.run("invalidator")
		p.ready()
		return p, nil
	}
	tailer = r.run("binlog-tailer")
	tailer.ready()
	for range invalidators {
		others = append(others, r.run("invalidator"))
	}
	for _, p := range others {
		p.ready()
	}
	return tailer, others
}

// settle returns once both passes have handled all that was committed before.
//
// It writes rows to a table of their own, so many that every partition gets some. A partition's passes are each in
// order: once a row's key was deleted twice, both passes are done with all that came before it. A first delete that was
// late enough to be the second one is not told apart from a missing second one here; then another round of rows decides,
// which finds the pipeline idle.
func (r *rig) settle() {
	r.t.Helper()
	const rows = 200
	for range 5 {
		values := make([]string, rows)
		keys := make([]string, rows)
		for i := range rows {
			r.marks++
			values[i], keys[i] = fmt.Sprintf("(%d)", r.marks), fmt.Sprintf("marker:%d", r.marks)
		}
		r.exec("INSERT INTO " + r.db + ".marker VALUES " + strings.Join(values, ","))
		patience := stalled
		twice := func() bool {
			once := true
			for _, k := range keys {
				at := r.mon.times(k)
				if len(at) == 0 {
					return false
				}
				once = once && at[len(at)-1]-at[0] >= (r.o.fill/2+r.o.lag).Microseconds()
			}
			return once
		}
		if r.mon.wait(r.t, patience, func() bool {
			return !slices.ContainsFunc(keys, func(k string) bool { return len(r.mon.times(k)) == 0 })
		}) && r.mon.wait(r.t, r.o.fill+r.o.lag+5*time.Second, twice) {
			return
		}
		if slices.ContainsFunc(keys, func(k string) bool { return len(r.mon.times(k)) == 0 }) {
			break
		}
	}
	for _, p := range r.procs {
		if p.running() { // its goroutines, into its log
			p.Signal(syscall.SIGQUIT)
			<-p.Ended()
		}
	}
	r.t.Fatalf("the pipeline does not catch up:\n%s", r.state())
}

// state is for failures: the last lines of every process.
func (r *rig) state() string {
	var b strings.Builder
	for _, p := range r.procs {
		if p.running() {
			fmt.Fprintf(&b, "--- %s (running)\n%s\n", p.Name(), tail(p.Log(), 15))
		}
	}
	return b.String()
}

// tool is one of the vendors' command line tools, aimed at the source.
func (r *rig) tool(name string, args ...string) *exec.Cmd {
	r.t.Helper()
	argv, err := envtest.Shared(r.t).Tool(name)
	if err != nil {
		r.t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(r.o.source.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	argv = append(argv, "--no-defaults", "--host="+host, "--port="+port, "--user=root")
	argv = append(argv, args...)
	cmd := exec.CommandContext(r.t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TZ=")
	return cmd
}
