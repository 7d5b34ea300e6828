package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

const many = 6000

func (r *rig) line(more ...string) []string {
	return append([]string{"keys", "-config", r.config, "-state", r.state, "-chunk", "200", "-rate", "2000", "-yes"}, more...)
}

func TestKilledInTheMiddle(t *testing.T) {
	r := newRig(t)
	list := r.fill(many)
	for i, stdin := range []string{list, "", list} { // the same line goes on, also without the list
		c := r.start(stdin, r.line()...)
		r.chunks(c, int64(3+3*i))
		c.Kill()
	}
	if n := r.left(); n == 0 || n == many {
		t.Fatalf("%d keys are left in the middle of %d", n, many)
	}
	other := r.start("item:1\n", r.line("-max-live-lag", "2s", "-old-keys", r.write("old.yaml", strings.Replace(schema, "item:{id}", "i:{id}", 1)))...)
	other.want(2)
	if text := other.Log(); !strings.Contains(text, "holds a replay that is not done") {
		t.Errorf("another replay in its folder: %s", text)
	}
	other = r.start("item:1\n", r.line()...)
	other.want(2)
	if text := other.Log(); !strings.Contains(text, "of another list") {
		t.Errorf("another list in its folder: %s", text)
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
	r.chunks(c, 3)
	c.Signal(syscall.SIGINT)
	c.want(1)
	_, line, ok := strings.Cut(c.Log(), "go on with: ")
	if !ok {
		t.Fatalf("no command to go on with:\n%s", c.Log())
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
	if !strings.Contains(c.Log(), "500 of 501 sampled keys are in Redis now") {
		t.Error(c.Log())
	}
}

// TestSwitch is about a log whose events lack a column that the key schema needs
// by now: the binlog has it.
func TestSwitch(t *testing.T) {
	r := newRig(t)
	r.db = envtest.Database(t, r.source)
	db := envtest.DB(t, r.source)
	envtest.Exec(t, db, "CREATE TABLE "+r.db+".item (id INT PRIMARY KEY, sku VARCHAR(20) COLLATE utf8mb4_bin)", "CREATE TABLE "+r.db+".end (id VARCHAR(20) PRIMARY KEY)")
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
		{"binlog", []string{"-from", "1"}, "the binlog of the same time is read instead", true},
		// The tailer's first start invalidated everything, which is in no binlog.
		{"by time, from the first start on", []string{"-since", since}, "the binlog of the same time is read instead", false},
		{"from the first start on", []string{"-from", "0"}, "invalidations that are in no binlog", false},
		{"older than the binlog", []string{"-since", "2020-01-01"}, "no longer has the binlog of that time", false},
		{"no switch", []string{"-since", since, "-no-switch"}, "lack the column sku", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			set("item:s3", "item:elsewhere")
			p := r.start("", line(c.more...)...)
			p.want(0)
			if text := strings.Join(strings.Fields(p.Log()), " "); !strings.Contains(text, c.says) {
				t.Errorf("it says %s", text)
			}
			if has("item:s3") || has("item:elsewhere") != c.kept {
				t.Errorf("of a row that changed: %t, of another: %t, want %t\n%s", has("item:s3"), has("item:elsewhere"), c.kept, p.Log())
			}
		})
	}
	r.examples("dead", "")
	r.examples("log", "")
	r.examples("keys", "item:s4\n")
	if has("item:s4") {
		t.Error("the example of a list deleted nothing")
	}
}

// examples runs the examples of a manual page that fit what the rig has, in its
// folder, as they are printed there.
func (r *rig) examples(verb, list string) {
	r.t.Helper()
	help := r.start("", verb, "-h")
	help.want(0)
	ran := 0
	for line := range strings.Lines(help.out.String()) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), "replay "+verb+" -config doubletap.yaml")
		line, file, _ := strings.Cut(line, " < ")
		if !ok || strings.Contains(line, "-partition 3") || strings.Contains(line, "-until") || strings.Contains(line, "-table") || (file != "") != (list != "") {
			continue
		}
		ran++
		line = strings.ReplaceAll(line, `"3h ago"`, "3h")
		args := append([]string{verb, "-config", "doubletap.yaml"}, strings.Fields(line)...)
		r.start(list, append(args, "-yes")...).want(0)
	}
	if ran == 0 {
		r.t.Errorf("no example of %s was run:\n%s", verb, &help.out)
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
			if !strings.Contains(p.Log(), c.says) {
				t.Errorf("it says %s", p.Log())
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
