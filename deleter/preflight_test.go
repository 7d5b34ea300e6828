package deleter

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// wantFinding wants a finding with all of these texts.
func wantFinding(t *testing.T, findings []pipeline.Finding, severity, problem, fix string) {
	t.Helper()
	for _, f := range findings {
		if f.Severity.String() == severity && strings.Contains(f.Problem, problem) && strings.Contains(f.Problem+f.Fix, fix) {
			return
		}
	}
	t.Errorf("no finding %q: %q; fix %q in\n%v", severity, problem, fix, findings)
}

func noRefusal(t *testing.T, findings []pipeline.Finding) {
	t.Helper()
	for _, f := range findings {
		if f.Severity == pipeline.Refusal {
			t.Error(f)
		}
	}
}

func TestPreflight(t *testing.T) {
	ctx := t.Context()
	s := envtest.Redis(t, testenv.RedisOptions{Memory: true, Args: []string{"--maxmemory", "100mb"}})
	if err := plain(t, s).ConfigSet(ctx, "requirepass", "s3cret").Err(); err != nil { // testenv knows no password
		t.Fatal(err)
	}
	v := envtest.Valkey(t, memory)
	e := envtest.Redis(t, testenv.RedisOptions{Memory: true, Args: []string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl"}})
	lonely := envtest.Redis(t, testenv.RedisOptions{Memory: true, Args: []string{"--min-replicas-to-write", "1"}})
	for _, c := range []struct {
		name                   string
		cfg                    Config
		severity, problem, fix string
	}{
		{"no password", Config{Addrs: []string{s.Addr}}, "refused", "NOAUTH", "set redis.password"},
		{"wrong password", Config{Addrs: []string{s.Addr}, Password: "x"}, "refused", "WRONGPASS", "check redis.username and redis.password"},
		{"wrong user", Config{Addrs: []string{s.Addr}, Username: "u", Password: "s3cret"}, "refused", "WRONGPASS", "check redis.username"},
		{"nobody there", Config{Addrs: []string{"127.0.0.1:1"}}, "refused", "connection refused", "check redis.addrs"},
		{"no cluster", Config{Addrs: []string{v.Addr}, Mode: Cluster}, "refused", "", "this is not a Cluster"},
		{"no database", Config{Addrs: []string{v.Addr}, DB: 77}, "refused", "", "check redis.db"},
		{"no sentinel", Config{Addrs: []string{v.Addr}, Master: "main"}, "refused", "", "this is no Sentinel"},
		{"two addresses", Config{Addrs: []string{v.Addr, s.Addr}}, "refused", "not in a Cluster", ""},
		{"redis", Config{Addrs: []string{s.Addr}, Password: "s3cret"}, "note", "Redis ", ""},
		{"eviction", Config{Addrs: []string{s.Addr}, Password: "s3cret"}, "note", "noeviction", "allkeys-lru"},
		{"too few replicas", Config{Addrs: []string{lonely.Addr}}, "refused", "NOREPLICAS", "min-replicas-to-write"},
		{"evicts trust", Config{Addrs: []string{e.Addr}}, "warning", "volatile-ttl", "allkeys-lru"},
		{"valkey", Config{Addrs: []string{v.Addr}}, "note", "Valkey ", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings := open(t, c.cfg).Preflight(ctx)
			for _, f := range findings { // one piece of advice, once
				if n := strings.Count(f.String(), "check redis."); n > 1 {
					t.Error(f)
				}
			}
			wantFinding(t, findings, c.severity, c.problem, c.fix)
			if c.severity == "note" {
				noRefusal(t, findings)
			}
			for _, f := range findings {
				if strings.Contains(f.String(), "s3cret") {
					t.Errorf("the password is printed: %v", f)
				}
			}
		})
	}
}

// TestGrants: the documented grants are enough, and what is missing is named.
func TestGrants(t *testing.T) {
	ctx := t.Context()
	s := envtest.Redis(t, memory)
	cluster := envtest.RedisCluster(t)
	cc := clusterClient(t, cluster)
	for _, c := range []struct {
		name  string
		addrs []string
		every func(f func(context.Context, *redis.Client) error) error
		admin redis.UniversalClient
	}{
		{"standalone", []string{s.Addr}, func(f func(context.Context, *redis.Client) error) error { return f(ctx, plain(t, s)) }, plain(t, s)},
		{"cluster", cluster.Addrs(), func(f func(context.Context, *redis.Client) error) error { return cc.ForEachMaster(ctx, f) }, cc},
	} {
		t.Run(c.name, func(t *testing.T) {
			user := func(name string, rules ...any) {
				t.Helper()
				if err := c.every(func(ctx context.Context, n *redis.Client) error {
					return n.Do(ctx, append([]any{"acl", "setuser", name, "reset", "on", ">pw"}, rules...)...).Err()
				}); err != nil {
					t.Fatal(err)
				}
			}
			allowed := []any{"~*"}
			for g := range strings.FieldsSeq(grants) {
				allowed = append(allowed, g)
			}
			if c.name == "cluster" {
				for g := range strings.FieldsSeq(clusterGrants) {
					allowed = append(allowed, g)
				}
			}
			user("enough", allowed...)
			user("nounlink", append(allowed, "-unlink")...)
			user("noscan", append(allowed, "-scan")...)
			user("nohset", append(allowed, "-hset")...)
			user("noset", append(allowed, "-set")...)
			probed := []string{"ping", "info", "get", "pttl", "eval", "hgetall"}
			replaying := []string{"hget", "mget", "exists"}
			for _, cmd := range slices.Concat(probed, replaying) {
				user("no"+cmd, append(allowed, "-"+cmd)...)
			}
			user("nothing", append(allowed, "-@all", "+info", "+cluster|slots", "+cluster|nodes")...)
			user("onlyitems", append(allowed, "resetkeys", "~item:*")...)
			user("items", append(allowed, "resetkeys", "~item:*", "~doubletap:*")...)
			as := func(name string) *Redis { return open(t, Config{Addrs: c.addrs, Username: name, Password: "pw"}) }

			r := as("enough")
			noRefusal(t, r.Preflight(ctx))
			if err := errors.Join(set(ctx, c.admin, "a", "item:1"), r.Delete(ctx, []string{"a", "b", "c"})); err != nil {
				t.Error(err)
			}
			if n, err := r.DeletePatterns(ctx, []string{"item:*"}); n != 1 || err != nil {
				t.Error(n, err)
			}
			wantFinding(t, as("nounlink").Preflight(ctx), "refused", "'unlink'", "ACL SETUSER <user>")
			wantFinding(t, as("noscan").Preflight(ctx), "refused", "'scan'", "ACL SETUSER <user>")
			if err := as("nounlink").Delete(ctx, []string{"a"}); err == nil || !strings.Contains(err.Error(), "ACL SETUSER") {
				t.Error(err)
			}
			wantFinding(t, as("nohset").Preflight(ctx), "refused", "'hset'", "+hset")
			wantFinding(t, as("noset").Preflight(ctx), "refused", "'set'", "+set")
			for _, cmd := range probed {
				wantFinding(t, as("no"+cmd).Preflight(ctx), "refused", "'"+cmd+"'", "+"+cmd)
			}
			for _, cmd := range replaying {
				severity := "refused"
				if cmd == "exists" {
					severity = "warning"
				}
				wantFinding(t, as("no"+cmd).PreflightReplay(ctx), severity, "'"+cmd+"'", "+"+cmd)
				noRefusal(t, as("no"+cmd).Preflight(ctx))
			}
			wantFinding(t, as("nothing").Preflight(ctx), "refused", "the user may not: UNLINK, PING, SCAN, SET, HSET, HGETALL, GET, PTTL, EVAL", "")
			wantFinding(t, as("nothing").Preflight(ctx), "warning", "the user may not: HGET, MGET", "")
			wantFinding(t, as("onlyitems").Preflight(ctx), "refused", "access a key", "ACL SETUSER <user>")
			for _, name := range []string{"enough", "items"} {
				if err := postOnce(ctx, as(name), pipeline.Watermark{Source: "shop"}, time.Second); err != nil {
					t.Error(err)
				}
			}
			written := []string{"doubletap:{preflight}:watermarks", "doubletap:{preflight}:trusted:0", "doubletap:{preflight}:turn:0"}
			if n, err := c.admin.Exists(ctx, written...).Result(); n != 0 || err != nil {
				t.Errorf("the preflight wrote: %d, %v", n, err)
			}
			r = as("items")
			for _, f := range r.PreflightReplay(ctx) {
				if f.Severity != pipeline.Note {
					t.Error(f)
				}
			}
			if err := errors.Join(set(ctx, c.admin, "item:2"), r.Delete(ctx, []string{"item:1"})); err != nil {
				t.Error(err)
			}
			if n, err := r.DeletePatterns(ctx, []string{"item:*"}); n != 1 || err != nil {
				t.Error(n, err)
			}
			conn, err := r.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_, err = watermark.ReadTrust(ctx, conn, "shop")
			_, err2 := watermark.Read(ctx, conn, "shop")
			if err := errors.Join(err, err2, conn.Exists(ctx, "item:1").Err()); err != nil {
				t.Error(err)
			}
			if err := as("items").Delete(ctx, []string{"item:1", "user:1"}); err == nil || !strings.Contains(err.Error(), "NOPERM") {
				t.Error(err)
			}
		})
	}
}

// TestGrantsAreDocumented: operators copy them from there.
func TestGrantsAreDocumented(t *testing.T) {
	for _, name := range []string{"operations", "configuration"} {
		text, err := os.ReadFile("../docs/" + name + ".md")
		if err != nil {
			t.Fatal(err)
		}
		doc := strings.ReplaceAll(string(text), `\|`, "|") // in a table
		for _, list := range []string{grants, clusterGrants} {
			if !strings.Contains(doc, "`"+list+"`") {
				t.Errorf("docs/%s.md lacks `%s`", name, list)
			}
		}
	}
}

func TestClusterPreflight(t *testing.T) {
	cluster := envtest.RedisCluster(t)
	r := open(t, Config{Addrs: cluster.Addrs()})
	findings := r.Preflight(t.Context())
	noRefusal(t, findings)
	for _, m := range cluster.Masters {
		ok := false
		for _, f := range findings {
			ok = ok || strings.Contains(f.Check, m.Addr) && strings.Contains(f.Problem, "cluster, master")
		}
		if !ok {
			t.Errorf("nothing about %s in %v", m.Addr, findings)
		}
	}
	wantFinding(t, open(t, Config{Addrs: cluster.Addrs()[:1], Mode: Standalone}).Preflight(t.Context()), "refused", "this is a Cluster", "redis.mode: cluster")
	err := open(t, Config{Addrs: cluster.Addrs()[:1], Mode: Standalone}).Delete(t.Context(), []string{"a", "b", "c", "d"})
	if err == nil || !strings.Contains(err.Error(), "Cluster") {
		t.Error(err)
	}
}
