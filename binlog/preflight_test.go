package binlog

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func find(findings []pipeline.Finding, sev pipeline.Severity, check, problem string) *pipeline.Finding {
	for i, f := range findings {
		if f.Severity == sev && f.Check == check && strings.Contains(f.Problem, problem) {
			return &findings[i]
		}
	}
	return nil
}

func mustFind(t *testing.T, findings []pipeline.Finding, sev pipeline.Severity, check, problem string) pipeline.Finding {
	t.Helper()
	f := find(findings, sev, check, problem)
	if f == nil {
		t.Fatalf("no finding %q of severity %q that says %q; there are:\n%s", check, sev, problem, lines(findings))
	}
	return *f
}

func mustNotRefuse(t *testing.T, findings []pipeline.Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Severity == pipeline.Refusal {
			t.Errorf("%s", f)
		}
	}
}

func lines(findings []pipeline.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		fmt.Fprintf(&b, "  %s\n", f)
	}
	return b.String()
}

// statements returns what a person would paste from a fix.
func statements(fix string) (list []string) {
	fix, _, _ = strings.Cut(fix, "--")
	for one := range strings.SplitSeq(fix, ";") {
		one = strings.TrimSpace(one)
		for _, verb := range []string{"SET ", "GRANT ", "ALTER ", "SELECT "} {
			if i := strings.Index(one, verb); i >= 0 && (i == 0 || strings.HasSuffix(one[:i], ": ")) {
				list = append(list, one[i:])
			}
		}
	}
	return list
}

func schemaOf(t *testing.T, rules ...string) *keys.Schema {
	t.Helper()
	s, err := keys.Parse("keys.yaml", []byte("version: 1\nkeys:\n"+strings.Join(rules, "")))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func keyRule(name, table, key string) string {
	return fmt.Sprintf("  - {name: %q, table: %q, key: %q}\n", name, table, key)
}

func TestPreflightAcceptsGoodServer(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...testenv.MySQLOptions) *testenv.Server{"mysql": envtest.MySQL, "mariadb": envtest.MariaDB} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			db := envtest.Database(t, s)
			cfg := rootConfig(s)
			mustExec(t, mustConnect(t, cfg), "CREATE TABLE "+db+".item (id INT PRIMARY KEY, name VARCHAR(20))")
			cfg.Schema = schemaOf(t, keyRule("item", db+".item", "item:{id}"))
			findings, srv := Preflight(t.Context(), cfg)
			mustNotRefuse(t, findings)
			mustFind(t, findings, pipeline.Warning, "grants", "has ") // root
			if srv.Version == "" || srv.UUID == "" || srv.ServerID == 0 || !srv.FullMetadata || srv.MariaDB() != (name == "mariadb") {
				t.Errorf("server %+v", srv)
			}
		})
	}
}

// Each wrong setting is found, and pasting what is printed mends it.
func TestPreflightSettings(t *testing.T) {
	for _, c := range []struct {
		name     string
		start    func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
		args     []string
		refused  []string
		warnings []string
	}{
		{"mysql", envtest.MySQL,
			[]string{"--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--binlog-format=MIXED", "--binlog-row-image=MINIMAL", "--binlog-row-metadata=MINIMAL",
				"--binlog-row-value-options=PARTIAL_JSON", "--binlog-expire-logs-seconds=3600", "--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"},
			[]string{"gtid_mode", "binlog_format", "binlog_row_image", "binlog_row_metadata", "binlog_row_value_options"},
			[]string{"binlog_expire_logs_seconds", "sync_binlog", "innodb_flush_log_at_trx_commit"}},
		{"mysql, gtid_mode half on", envtest.MySQL, []string{"--gtid-mode=OFF_PERMISSIVE", "--enforce-gtid-consistency=WARN"}, []string{"gtid_mode"}, nil},
		{"mariadb", envtest.MariaDB,
			[]string{"--binlog-format=MIXED", "--binlog-row-image=NOBLOB", "--binlog-row-metadata=NO_LOG", "--expire-logs-days=1", "--sync-binlog=0"},
			[]string{"binlog_format", "binlog_row_image", "binlog_row_metadata"},
			[]string{"sync_binlog", "binlog_expire_logs_seconds"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := rootConfig(c.start(t, testenv.MySQLOptions{Args: c.args}))
			findings, _ := Preflight(t.Context(), cfg)
			admin := mustConnect(t, cfg)
			mend := func(sev pipeline.Severity, checks []string) {
				for _, check := range checks {
					fix := statements(mustFind(t, findings, sev, check, "").Fix)
					if len(fix) == 0 {
						t.Errorf("%s: the fix has no statement", check)
					}
					mustExec(t, admin, fix...)
				}
			}
			mend(pipeline.Refusal, c.refused)
			mend(pipeline.Warning, c.warnings)
			after, _ := Preflight(t.Context(), cfg)
			mustNotRefuse(t, after)
			for _, check := range c.warnings {
				if f := find(after, pipeline.Warning, check, ""); f != nil {
					t.Errorf("after the fix: %s", f)
				}
			}
		})
	}
}

func TestPreflightSettingsThatNeedRestart(t *testing.T) {
	off := envtest.MySQL(t, testenv.MySQLOptions{Args: []string{"--skip-log-bin", "--gtid-mode=OFF", "--enforce-gtid-consistency=OFF", "--innodb-native-foreign-keys=ON"}})
	findings, _ := Preflight(t.Context(), rootConfig(off))
	mustFind(t, findings, pipeline.Refusal, "log_bin", "no binlog")

	source := envtest.MySQL(t)
	replica := envtest.MySQL(t, testenv.MySQLOptions{ReplicaOf: source, Args: []string{"--log-replica-updates=OFF", "--binlog-ignore-db=logs"}})
	findings, _ = Preflight(t.Context(), rootConfig(replica))
	mustFind(t, findings, pipeline.Refusal, "log_replica_updates", "is a replica")
	mustFind(t, findings, pipeline.Warning, "binlog_ignore_db", "logs")

	scheduling := envtest.MariaDB(t, testenv.MySQLOptions{Args: []string{"--binlog-optimize-thread-scheduling=OFF"}})
	findings, _ = Preflight(t.Context(), rootConfig(scheduling))
	mustFind(t, findings, pipeline.Refusal, "binlog_optimize_thread_scheduling", "OFF")
}

func TestPreflightGrants(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...testenv.MySQLOptions) *testenv.Server{"mysql": envtest.MySQL, "mariadb": envtest.MariaDB} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			db := envtest.Database(t, s)
			admin := mustConnect(t, rootConfig(s))
			mustExec(t, admin, "CREATE TABLE "+db+".item (id INT PRIMARY KEY)",
				"CREATE USER 'pre-flight'@'127.0.0.1' IDENTIFIED BY 'it''s a secret'")
			t.Cleanup(func() { _, _ = admin.Execute("DROP USER 'pre-flight'@'127.0.0.1'") })
			cfg := rootConfig(s)
			cfg.User, cfg.Password = "pre-flight", "it's a secret"
			cfg.Schema = schemaOf(t, keyRule("item", db+".item", "item:{id}"))
			findings, _ := Preflight(t.Context(), cfg)
			for _, check := range []string{"grants", "table"} {
				f := mustFind(t, findings, pipeline.Refusal, check, "'pre-flight'@'127.0.0.1'")
				mustExec(t, admin, statements(f.Fix)...)
			}
			findings, _ = Preflight(t.Context(), cfg)
			mustNotRefuse(t, findings)
			if f := find(findings, pipeline.Warning, "grants", ""); f != nil {
				t.Errorf("a user without power: %s", f)
			}
			if _, release, err := LeaseServerID(t.Context(), cfg); err != nil {
				t.Errorf("lease a server id with these grants: %v", err)
			} else {
				release()
			}
		})
	}
}

func TestPreflightConnection(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{})
	admin := mustConnect(t, rootConfig(s))
	mustExec(t, admin, "CREATE USER 'cdc'@'%' IDENTIFIED WITH caching_sha2_password BY 'open sesame'", "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'cdc'@'%'")
	good := Config{Addr: s.Addr, User: "cdc", Password: "open sesame"}

	// The first time the server has no digest in its cache and wants the password itself: encrypted, or through TLS.
	for _, secure := range []*tls.Config{nil, {InsecureSkipVerify: true}} {
		mustExec(t, admin, "FLUSH PRIVILEGES")
		for range 2 {
			cfg := good
			cfg.TLS = secure
			findings, _ := Preflight(t.Context(), cfg)
			mustNotRefuse(t, findings)
		}
	}

	wrong := good
	wrong.Password = "not to be printed"
	unknownCA := good
	unknownCA.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	closed := good
	closed.Addr = envtest.FreeAddr(t)
	for _, c := range []struct {
		name, problem, fix string
		cfg                Config
	}{
		{"wrong password", "Access denied", "source.password", wrong},
		{"unreachable", "connection refused", "source.addr", closed},
		{"unknown CA", "certificate", "source.tls", unknownCA},
	} {
		findings, srv := Preflight(t.Context(), c.cfg)
		f := mustFind(t, findings, pipeline.Refusal, "connection", c.problem)
		if !strings.Contains(f.Fix, c.fix) || len(findings) != 1 || srv != (Server{}) {
			t.Errorf("%s: %s", c.name, lines(findings))
		}
		if strings.Contains(f.String(), c.cfg.Password) {
			t.Errorf("%s: the finding shows the password: %s", c.name, f)
		}
	}
	mustExec(t, admin, "SET GLOBAL require_secure_transport = ON")
	findings, _ := Preflight(t.Context(), good)
	if f := mustFind(t, findings, pipeline.Refusal, "connection", "insecure"); !strings.Contains(f.Fix, "source.tls") {
		t.Errorf("%s", f)
	}
}

// Every check has its line in the documentation.
func TestPreflightIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/preflight.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("preflight*.go")
	if err != nil {
		t.Fatal(err)
	}
	check := regexp.MustCompile(`[pc]\.(?:refuse|warn|note)\("([^"]+)"|\{"(\w+)", "[A-Z]+", "|name[,:a-z ]*= "(\w+)"`)
	found := 0
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		for _, m := range check.FindAllStringSubmatch(string(src), -1) {
			found++
			if name := m[1] + m[2] + m[3]; !strings.Contains(string(doc), "`"+name+"`") {
				t.Errorf("%s: check %q is not in docs/preflight.md", f, name)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d checks found in the source", found)
	}
}
