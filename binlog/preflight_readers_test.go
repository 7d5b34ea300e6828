package binlog

import (
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const tenMinutes = 10 * time.Minute

// checkReaders runs the preflight and returns findings without the readers' names.
func checkReaders(t testing.TB, source Config, readers ...ReaderConfig) []pipeline.Finding {
	t.Helper()
	findings := PreflightReaders(t.Context(), source, readers, tenMinutes)
	for i, f := range findings {
		if rest, ok := strings.CutPrefix(f.Check, "reader "); ok {
			_, findings[i].Check, _ = strings.Cut(rest, ": ")
		}
	}
	return findings
}

func reader(s *testenv.Server) ReaderConfig { return ReaderConfig{Config: rootConfig(s)} }

// balancer is an address behind which connections are dealt out in turn.
func balancer(t testing.TB, servers ...*testenv.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { _ = l.Close() })
	var turn atomic.Uint32
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", servers[int(turn.Add(1))%len(servers)].Addr)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				})
			}
		}
	})
	return l.Addr().String()
}

// waitShown waits until a reader shows what the source shows now.
func waitShown(t testing.TB, source Config, r Config) {
	t.Helper()
	want, err := newReader(t, source).Ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for asked := newReader(t, r); ; {
		v, err := asked.Ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v.Shown.HasAll(want.Shown) {
			return
		}
		if !pause(t.Context(), 5*time.Millisecond) {
			t.Fatal(t.Context().Err())
		}
	}
}

// A source and its replica are accepted, with the least privileges; without them
// the GRANT is printed.
func TestPreflightReadersAcceptsGoodServers(t *testing.T) {
	for name, c := range map[string]struct {
		start   func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
		grants  string
		without map[pipeline.Severity]string
	}{
		"mysql":   {envtest.MySQL, "REPLICATION CLIENT", map[pipeline.Severity]string{pipeline.Warning: "REPLICATION CLIENT"}},
		"mariadb": {envtest.MariaDB, "BINLOG MONITOR, SLAVE MONITOR, PROCESS", map[pipeline.Severity]string{pipeline.Refusal: "BINLOG MONITOR", pipeline.Warning: "SLAVE MONITOR", pipeline.Note: "PROCESS"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := c.start(t, testenv.MySQLOptions{})
			replica := c.start(t, testenv.MySQLOptions{ReplicaOf: source})
			mustExec(t, mustConnect(t, rootConfig(source)), "CREATE USER r@'%' IDENTIFIED BY 'h1dden'")
			waitShown(t, rootConfig(source), rootConfig(replica))
			readers := []ReaderConfig{reader(source), reader(replica)}
			for i := range readers {
				readers[i].User, readers[i].Password = "r", "h1dden"
			}
			findings := checkReaders(t, rootConfig(source), readers...)
			for sev, privilege := range c.without {
				f := mustFind(t, findings, sev, "grants", privilege)
				if !strings.Contains(f.Fix, "GRANT "+privilege+" ON *.* TO 'r'@'%';") {
					t.Errorf("fix %q", f.Fix)
				}
			}
			mustExec(t, mustConnect(t, rootConfig(source)), "GRANT "+c.grants+" ON *.* TO r@'%'")
			waitShown(t, rootConfig(source), rootConfig(replica))
			findings = checkReaders(t, rootConfig(source), readers...)
			for _, f := range findings {
				if f.Severity != pipeline.Note {
					t.Error(f)
				}
			}
			f := mustFind(t, findings, pipeline.Note, "server", "any server")
			_, uuid, _ := strings.Cut(f.Fix, `server_uuid: "`)
			readers[0].Server = strings.TrimSuffix(uuid, `"}`)
			if findings = checkReaders(t, rootConfig(source), readers[0]); len(findings) != 0 {
				t.Errorf("with its identity given:\n%s", lines(findings))
			}
		})
	}
}

func TestPreflightReadersOfSeveralServers(t *testing.T) {
	source := envtest.MySQL(t)
	replica, other := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source}), envtest.MySQL(t, testenv.MySQLOptions{})
	for name, s := range map[string]*testenv.Server{"here": source, "elsewhere": other} {
		mustExec(t, mustConnect(t, rootConfig(s)), "CREATE DATABASE IF NOT EXISTS "+name, "DROP DATABASE "+name)
	}
	for name, c := range map[string]struct {
		readers []ReaderConfig
		sev     pipeline.Severity
		check   string
		problem string
	}{
		"load-balanced":       {[]ReaderConfig{{Config: Config{Addr: balancer(t, source, replica), User: "root"}}, reader(source), reader(replica)}, pipeline.Refusal, "server", "load-balanced"},
		"one behind a proxy":  {[]ReaderConfig{{Config: Config{Addr: balancer(t, replica), User: "root"}}}, pipeline.Note, "server", "any server"},
		"named twice":         {[]ReaderConfig{reader(replica), {Config: Config{Addr: balancer(t, replica), User: "root"}}}, pipeline.Warning, "server", "same server as " + replica.Addr},
		"another server":      {[]ReaderConfig{{Config: rootConfig(replica), Server: "3e11fa47-71ca-11e1-9e33-c80aa9429562"}}, pipeline.Refusal, "server", "not 3e11fa47"},
		"not of the source":   {[]ReaderConfig{reader(other)}, pipeline.Refusal, "source", "no transaction in common"},
		"a wrong password":    {[]ReaderConfig{{Config: Config{Addr: replica.Addr, User: "root", Password: "h1dden"}}}, pipeline.Refusal, "connection", "denied"},
		"the source's login":  {[]ReaderConfig{{Config: Config{Addr: replica.Addr, User: "root", Password: "h1dden"}, SourceLogin: true}}, pipeline.Refusal, "connection", "denied"},
		"nothing answers":     {[]ReaderConfig{{Config: Config{Addr: "127.0.0.1:1", User: "root"}}}, pipeline.Warning, "connection", "go on without it after 10m"},
		"no server of SQL":    {[]ReaderConfig{{Config: Config{Addr: balancer(t, envtest.Redis(t)), User: "root"}}}, pipeline.Warning, "connection", ""},
		"another kind":        {[]ReaderConfig{reader(envtest.MariaDB(t))}, pipeline.Refusal, "source", "cannot be found on the other"},
		"no GTIDs":            {[]ReaderConfig{reader(envtest.MySQL(t, testenv.MySQLOptions{Args: []string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"}}))}, pipeline.Refusal, "gtid_mode", "OFF"},
		"snapshots run ahead": {[]ReaderConfig{reader(envtest.MariaDB(t, testenv.MySQLOptions{Args: []string{"--binlog-optimize-thread-scheduling=OFF"}}))}, pipeline.Refusal, "binlog_optimize_thread_scheduling", "OFF"},
	} {
		t.Run(name, func(t *testing.T) {
			findings := checkReaders(t, rootConfig(source), c.readers...)
			f := mustFind(t, findings, c.sev, c.check, c.problem)
			if strings.Contains(lines(findings), "h1dden") {
				t.Error("the password is printed")
			}
			if c.sev != pipeline.Refusal {
				mustNotRefuse(t, findings)
			}
			if f.Fix == "" {
				t.Errorf("%s: no fix", f)
			}
			if c.readers[0].SourceLogin && !strings.Contains(f.Fix, "correct source.user and source.password") {
				t.Errorf("the fix names settings that are not used: %s", f.Fix)
			}
			if name == "load-balanced" && strings.Contains(lines(findings), "same server") {
				t.Errorf("one of several servers is compared with others:\n%s", lines(findings))
			}
		})
	}
	t.Run("the source is down", func(t *testing.T) {
		findings := checkReaders(t, Config{Addr: "127.0.0.1:1", User: "root"}, reader(replica))
		mustFind(t, findings, pipeline.Warning, "source", "not known")
		mustNotRefuse(t, findings)
	})
}

// What makes a replica pass over a change is refused, what makes it late is a
// warning, and pasting the fix mends it.
func TestPreflightReadersReplication(t *testing.T) {
	for name, c := range map[string]struct {
		start   func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
		args    []string
		make    []string
		refused [][2]string
		warned  [][2]string
		mend    []string // checks whose fix is pasted
	}{
		"mysql, in my.cnf": {envtest.MySQL,
			[]string{"--replicate-ignore-table=a.b", "--replica-skip-errors=1062", "--replica-exec-mode=IDEMPOTENT", "--read-only=OFF"},
			nil,
			[][2]string{{"filters", "Replicate_Ignore_Table is a.b"}, {"replica_skip_errors", "1062"}, {"replica_exec_mode", "IDEMPOTENT"}},
			[][2]string{{"read_only", "OFF"}},
			[]string{"filters", "replica_exec_mode", "read_only"}},
		"mysql, at run time": {envtest.MySQL, nil,
			[]string{"STOP REPLICA", "CHANGE REPLICATION FILTER REPLICATE_WILD_IGNORE_TABLE = ('shop.%')", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 600", "CREATE DATABASE errant"},
			[][2]string{{"filters", "Replicate_Wild_Ignore_Table is shop.%"}, {"delay", "always be out"}},
			[][2]string{{"replication", "does not receive"}, {"replication", "does not apply"}, {"source", "1 transactions of its own"}},
			[]string{"filters", "delay", "replication"}},
		"mysql, a short delay": {envtest.MySQL, nil, []string{"STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 20", "START REPLICA"}, nil,
			[][2]string{{"delay", "waits for that long"}}, []string{"delay"}},
		"mysql, none": {envtest.MySQL, nil, []string{"STOP REPLICA", "RESET REPLICA ALL"}, nil, [][2]string{{"source", "replicates from no server and lacks"}}, nil},
		"mariadb": {envtest.MariaDB,
			[]string{"--slave-skip-errors=1062", "--slave-exec-mode=IDEMPOTENT", "--read-only=OFF"},
			[]string{"STOP SLAVE", "SET GLOBAL replicate_wild_ignore_table = 'shop.%'", "CHANGE MASTER TO MASTER_DELAY = 600, IGNORE_DOMAIN_IDS = (7)", "SET GLOBAL sql_slave_skip_counter = 3"},
			[][2]string{{"filters", "Replicate_Wild_Ignore_Table is shop.%"}, {"filters", "Replicate_Ignore_Domain_Ids is 7"}, {"slave_skip_errors", "1062"}, {"slave_exec_mode", "IDEMPOTENT"}, {"delay", "always be out"}},
			[][2]string{{"replication", "does not apply"}, {"read_only", "OFF"}},
			[]string{"filters", "delay", "slave_exec_mode", "read_only", "replication"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source := c.start(t, testenv.MySQLOptions{})
			mustExec(t, mustConnect(t, rootConfig(source)), "CREATE DATABASE d1")
			replica := c.start(t, testenv.MySQLOptions{ReplicaOf: source, Args: c.args})
			waitShown(t, rootConfig(source), rootConfig(replica))
			conn := mustConnect(t, rootConfig(replica))
			mustExec(t, conn, c.make...)
			mustExec(t, mustConnect(t, rootConfig(source)), "CREATE DATABASE d2")
			findings := checkReaders(t, rootConfig(source), reader(replica))
			t.Logf("\n%s", lines(findings))
			var mend []pipeline.Finding
			for _, want := range c.refused {
				mend = append(mend, mustFind(t, findings, pipeline.Refusal, want[0], want[1]))
			}
			for _, want := range c.warned {
				mend = append(mend, mustFind(t, findings, pipeline.Warning, want[0], want[1]))
			}
			for _, f := range mend {
				if f.Fix == "" {
					t.Errorf("%s: no fix", f)
				}
			}
			pasted := make(map[string]bool)
			for _, check := range c.mend {
				for _, f := range mend {
					if f.Check != check {
						continue
					}
					for _, sql := range pastable(f.Fix) {
						mustExec(t, conn, sql)
						pasted[check] = true
					}
				}
				if !pasted[check] {
					t.Errorf("%s: nothing to paste", check)
				}
			}
			var left []pipeline.Finding
			for range 100 { // it takes a while to connect to the source
				left = slices.DeleteFunc(checkReaders(t, rootConfig(source), reader(replica)), func(f pipeline.Finding) bool {
					return !pasted[f.Check] || f.Severity == pipeline.Note
				})
				if len(left) == 0 || !pause(t.Context(), 100*time.Millisecond) {
					return
				}
			}
			t.Errorf("still there:\n%s", lines(left))
		})
	}
}

// pastable returns the statements of a fix about replication.
func pastable(fix string) (list []string) {
	for one := range strings.SplitSeq(fix, ";") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "mend its cause, then ")
		for _, verb := range []string{"STOP ", "START ", "CHANGE ", "SET "} {
			if strings.HasPrefix(one, verb) {
				list = append(list, one)
			}
		}
	}
	return list
}
