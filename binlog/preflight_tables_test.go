package binlog

import (
	"fmt"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestPreflightTables(t *testing.T) {
	s := envtest.MySQL(t)
	db := envtest.Database(t, s)
	mustExec(t, mustConnect(t, rootConfig(s)),
		"CREATE TABLE "+db+".item (id INT PRIMARY KEY, price FLOAT, doc JSON, name VARCHAR(20), code VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_swedish_ci, old VARCHAR(9) CHARACTER SET dec8)",
		"CREATE TABLE "+db+".item_1 (id INT PRIMARY KEY)", "CREATE TABLE "+db+".item_2 (no INT PRIMARY KEY)",
		"CREATE TABLE "+db+".notes (id INT) ENGINE=MyISAM", "CREATE VIEW "+db+".v AS SELECT id FROM "+db+".item")
	cfg := rootConfig(s)
	cfg.Schema = schemaOf(t,
		keyRule("fine", db+".item", "a:{id}"),
		keyRule("no-table", db+".itme", "b:{id}"),
		keyRule("no-column", db+".item", "c:{nmae}"),
		keyRule("float", db+".item", "d:{price}"),
		keyRule("json", db+".item", "e:{doc}"),
		keyRule("charset", db+".item", "f:{old}"),
		keyRule("ci", db+".item", "g:{name}"),
		keyRule("padded", db+".item", "h:{code|lower}"),
		keyRule("folded", db+".item", "i:{name|lower}:{code|lower|trim}"),
		keyRule("nothing-yet", db+".shard_*", "j:{id}"),
		keyRule("one-differs", db+".item_?", "k:{id}"),
		keyRule("view", db+".v", "l:{id}"),
		keyRule("myisam", db+".notes", "m:{id}"),
		keyRule("case", strings.ToUpper(db)+".item", "n:{id}"),
	)
	findings, _ := Preflight(t.Context(), cfg)
	for _, want := range []struct {
		sev                 pipeline.Severity
		check, rule, saying string
	}{
		{pipeline.Refusal, "table", "no-table", `did you mean "` + db + `.item"?`},
		{pipeline.Refusal, "column", "no-column", `did you mean "name"?`},
		{pipeline.Refusal, "column", "float", "FLOAT"},
		{pipeline.Refusal, "column", "json", "JSON"},
		{pipeline.Refusal, "column", "charset", "dec8"},
		{pipeline.Warning, "collation", "ci", "'Alice' and 'alice' are one value"},
		{pipeline.Warning, "collation", "padded", `rule "padded"`},
		{pipeline.Warning, "table", "nothing-yet", "no table matches"},
		{pipeline.Refusal, "column", "one-differs", db + `.item_2: column "id" does not exist`},
		{pipeline.Refusal, "table", "view", "no row changes"},
		{pipeline.Note, "engine", "", db + ".notes"},
		{pipeline.Refusal, "table", "case", "letter by letter"},
	} {
		f := mustFind(t, findings, want.sev, want.check, want.saying)
		if want.rule != "" && (!strings.Contains(f.Problem, `rule "`+want.rule+`"`) || !strings.Contains(f.Problem, "keys.yaml:")) {
			t.Errorf("does not name rule %q and its place: %s", want.rule, f)
		}
	}
	for _, f := range findings {
		for _, good := range []string{"fine", "folded"} {
			if strings.Contains(f.Problem, fmt.Sprintf("rule %q", good)) {
				t.Errorf("%s", f)
			}
		}
	}
}

func TestPreflightForeignKeys(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(testing.TB, ...testenv.MySQLOptions) *testenv.Server
		args  []string
		warns bool
	}{
		{"mysql", envtest.MySQL, nil, false},
		{"mysql, native foreign keys", envtest.MySQL, []string{"--innodb-native-foreign-keys=ON"}, true},
		{"mariadb", envtest.MariaDB, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.start(t, testenv.MySQLOptions{Args: c.args})
			db, cfg := envtest.Database(t, s), rootConfig(s)
			mustExec(t, mustConnect(t, cfg), "CREATE TABLE "+db+".parent (id INT PRIMARY KEY)",
				"CREATE TABLE "+db+".child (id INT PRIMARY KEY, parent INT, CONSTRAINT own FOREIGN KEY (parent) REFERENCES "+db+".parent (id) ON DELETE CASCADE ON UPDATE SET NULL)",
				"CREATE TABLE "+db+".other (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES "+db+".parent (id))",
				"CREATE TABLE "+db+".unwatched (id INT PRIMARY KEY, parent INT, FOREIGN KEY (parent) REFERENCES "+db+".parent (id) ON DELETE CASCADE)",
				"INSERT INTO "+db+".parent VALUES (1)", "INSERT INTO "+db+".child VALUES (10, 1)")
			cfg.Schema = schemaOf(t, keyRule("child", db+".child", "c:{id}"), keyRule("parent", db+".parent", "p:{id}"), keyRule("other", db+".other", "o:{id}"))
			findings, _ := Preflight(t.Context(), cfg)
			var got []string
			for _, f := range findings {
				if f.Check == "foreign key" {
					got = append(got, f.Problem)
				}
			}
			if c.warns && (len(got) != 1 || !strings.Contains(got[0], "ON DELETE CASCADE, ON UPDATE SET NULL") || !strings.Contains(got[0], `rule "child"`)) ||
				!c.warns && len(got) != 0 {
				t.Errorf("findings %q", got)
			}
			if logged := cascadeIsLogged(t, cfg, db); logged == c.warns {
				t.Errorf("the cascade is in the binlog: %v", logged)
			}
		})
	}
}

func TestPreflightCanal(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{Args: []string{"--show-gipk-in-create-table-and-information-schema=OFF", "--binlog-row-metadata=MINIMAL"}})
	cfg := rootConfig(s)
	cfg.Driver = DriverCanal
	findings, _ := Preflight(t.Context(), cfg)
	mustFind(t, findings, pipeline.Warning, "driver", canalLimits()[0])
	f := mustFind(t, findings, pipeline.Refusal, "show_gipk_in_create_table_and_information_schema", "")
	if find(findings, pipeline.Refusal, "binlog_row_metadata", "") != nil {
		t.Error("canal needs no binlog_row_metadata")
	}
	mustExec(t, mustConnect(t, cfg), statements(f.Fix)...)
	findings, _ = Preflight(t.Context(), cfg)
	mustNotRefuse(t, findings)
}
