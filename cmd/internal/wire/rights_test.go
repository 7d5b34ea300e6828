package wire

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// documentedRights are the ones of docs/operations.md, for a Redis alone.
func documentedRights(t *testing.T) (all []any) {
	t.Helper()
	doc, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile("\\*\\*Redis with ACLs.\\*\\* `([^`]+)`").FindSubmatch(doc)
	if list == nil {
		t.Fatal("docs/operations.md has no list of rights in Redis")
	}
	for r := range strings.FieldsSeq(string(list[1])) {
		all = append(all, r)
	}
	return all
}

// TestDocumentedRights: the user that the documentation describes can run the whole
// pipeline and replay. Without the rights to look at the pipeline, replay does not
// take it for stopped; without the one to look for keys, a dry run says so.
func TestDocumentedRights(t *testing.T) {
	source, server := envtest.MySQL(t), envtest.Redis(t)
	db, schema := envtest.DB(t, source), envtest.Database(t, source)
	envtest.Exec(t, db, "CREATE TABLE "+schema+".item (id INT PRIMARY KEY)", "INSERT INTO "+schema+".item VALUES (1), (2)")
	admin := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer admin.Close()
	config := func(user string, more ...any) string {
		t.Helper()
		rules := append([]any{"acl", "setuser", schema + user, "reset", "on", ">pw", "~" + schema + ":*", "~doubletap:*"}, documentedRights(t)...)
		if err := admin.Do(t.Context(), append(rules, more...)...).Err(); err != nil {
			t.Fatal(err)
		}
		return write(t, map[string]string{
			"keys.yaml": fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: %s.item, key: '%s:{id}'}\n", schema, schema),
			"doubletap.yaml": fmt.Sprintf(`
source: {name: %s, addr: "%s", user: root}
log: {embedded: {dir: data}}
redis: {addrs: ["%s"], username: %s, password: pw}
keys: keys.yaml
second_delete: {fill: 200ms}
`, schema, source.Addr, server.Addr, schema+user),
		})
	}
	put := func() {
		t.Helper()
		for _, id := range []string{":1", ":2", ":gone"} {
			if err := admin.Set(t.Context(), schema+id, "stale", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	left := func(id string) int64 { return admin.Exists(t.Context(), schema+id).Val() }

	whole := config("whole")
	c := run(t, Invalidator, whole)
	c.await("/readyz", 200, `"ready": true`)
	wait := func() {
		c.await("/wait?timeout=60s&pass=second&gtid="+strings.ReplaceAll(one(t, db, "SELECT @@global.gtid_executed"), "\n", ""), 200, `"done": true`)
	}
	wait() // for what a first start deletes
	put()
	envtest.Exec(t, db, "DELETE FROM "+schema+".item WHERE id = 2")
	wait()
	if left(":2") != 0 || left(":gone") != 1 {
		t.Error("the key of the row was not deleted, or others were")
	}
	envtest.Exec(t, db, "TRUNCATE "+schema+".item")
	wait()
	if left(":gone") != 0 {
		t.Error("no sweep")
	}
	envtest.Exec(t, db, "INSERT INTO "+schema+".item VALUES (1)")
	wait()
	put()
	replay := func(config string, more ...string) (code int, out string) {
		var b bytes.Buffer
		code = Replay(append([]string{verbTable, "-config", config, "-table", schema + ".item", "-state", filepath.Join(t.TempDir(), "state")}, more...), strings.NewReader(""), &b, &b)
		return code, b.String()
	}
	if code, out := replay(whole, "-dry-run"); code != ExitOK || !strings.Contains(out, "1 of 1 sampled keys are in Redis now") || strings.Contains(out, "NOPERM") {
		t.Errorf("dry run: %d\n%s", code, out)
	}
	if code, out := replay(whole, "-yes"); code != ExitOK || left(":1") != 0 || strings.Contains(out, "NOPERM") || strings.Contains(out, "then the binlog") {
		t.Errorf("%d, %d keys left\n%s", code, left(":1"), out)
	}
	if code, out := replay(config("blind", "-hget"), "-yes"); code != ExitUsage || !strings.Contains(out, "the user may not: HGET") {
		t.Errorf("without HGET: %d\n%s", code, out)
	}
	if err := admin.Set(t.Context(), watermark.SetsKey(schema+"x"), "no hash", 0).Err(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(whole+"x", []byte(strings.Replace(string(text), "{name: "+schema, "{name: "+schema+"x", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := replay(whole+"x", "-yes"); code != ExitUsage || !strings.Contains(out, "it is not known whether the pipeline runs") || !strings.Contains(out, "WRONGTYPE") {
		t.Errorf("a pipeline that cannot be looked at: %d\n%s", code, out)
	}
	if code, out := replay(config("unseeing", "-exists"), "-dry-run"); code != ExitOK || !strings.Contains(out, "is not known") || strings.Contains(out, "sampled keys") {
		t.Errorf("without EXISTS: %d\n%s", code, out)
	}
	if code, out := replay(config("elsewhere", "resetkeys", "~"+schema+":*"), "-yes"); code != ExitUsage || !strings.Contains(out, "the user may not") {
		t.Errorf("without doubletap:*: %d\n%s", code, out)
	}
}

// TestCheckStart: a start behind transactions of another server is noticed before
// it is tried.
func TestCheckStart(t *testing.T) {
	source := envtest.MySQL(t)
	db, schema := envtest.DB(t, source), envtest.Database(t, source)
	envtest.Exec(t, db, "CREATE TABLE "+schema+".item (id INT PRIMARY KEY)")
	uuid := one(t, db, "SELECT @@server_uuid")
	for start, want := range map[string]string{
		"current": "", uuid + ":1": "", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7": "has not executed 7 of the transactions",
	} {
		a, err := newApp(options{config: write(t, map[string]string{
			"keys.yaml":      "version: 1\nkeys:\n  - {name: item, table: " + schema + ".item, key: 'item:{id}'}\n",
			"doubletap.yaml": strings.NewReplacer("127.0.0.1:3306", source.Addr, "user: cdc", "user: root, start: '"+start+"'").Replace(plain),
		})}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		said := ""
		for _, f := range a.checkSource(t.Context()) {
			if f.Check == "source.start" {
				said = f.Problem
			}
		}
		if (said == "") != (want == "") || !strings.Contains(said, want) {
			t.Errorf("%s: %q", start, said)
		}
	}
}
