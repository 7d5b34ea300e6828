package deleter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// Preflight looks at every master: whether it answers, is what the configuration
// says, and allows what the engine does. It changes nothing: the key that it
// unlinks does not exist.
func (r *Redis) Preflight(ctx context.Context) []pipeline.Finding {
	c, err := r.client(ctx)
	if err != nil {
		return []pipeline.Finding{refuse("redis", err, "check redis.addrs and that Redis is up")}
	}
	nodes, err := r.masters(ctx, c)
	if err != nil {
		return []pipeline.Finding{refuse("redis", err, "check redis.addrs, redis.mode, and that Redis is up")}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	findings := []pipeline.Finding{}
	for _, n := range nodes {
		wg.Go(func() {
			fs := r.preflightNode(ctx, n)
			mu.Lock()
			defer mu.Unlock()
			findings = append(findings, fs...)
		})
	}
	wg.Wait()
	return unique(findings)
}

// masters lists all masters, or the one there is.
func (r *Redis) masters(ctx context.Context, c redis.UniversalClient) ([]node, error) {
	t, err := r.topology(ctx, c)
	if err != nil {
		return nil, err
	}
	t.close()
	var nodes []node
	for _, n := range t.nodes {
		if !n.own {
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

func (r *Redis) preflightNode(ctx context.Context, n node) []pipeline.Finding {
	var findings []pipeline.Finding
	s, err := call(ctx, r, func(ctx context.Context) (server, error) { return whatIs(ctx, n.client) })
	if err != nil {
		return []pipeline.Finding{refuse("redis "+n.addr, err, "check redis.addrs and that Redis is up")}
	}
	switch {
	case s.mode == Sentinel:
		return []pipeline.Finding{{Severity: pipeline.Refusal, Check: "redis " + n.addr, Problem: "this is a Sentinel",
			Fix: "set redis.master to the name of the master that it watches"}}
	case s.mode == Cluster && r.mode != Cluster:
		findings = append(findings, pipeline.Finding{Severity: pipeline.Refusal, Check: "redis " + n.addr,
			Problem: "this is a Cluster, but the mode is " + r.mode, Fix: "set redis.mode: cluster, or leave it out"})
	case s.role != "master":
		findings = append(findings, pipeline.Finding{Severity: pipeline.Refusal, Check: "redis " + n.addr,
			Problem: "this is a " + s.role + ", which takes no deletes", Fix: "give the master's address, or let Sentinel or a Cluster name it"})
	}
	return append(findings, r.permissions(ctx, n)...)
}

// permissions tries each command.
func (r *Redis) permissions(ctx context.Context, n node) []pipeline.Finding {
	var findings []pipeline.Finding
	check := func(name string, f func(ctx context.Context) (string, error)) string {
		text, err := call(ctx, r, f)
		// A user may be allowed some keys only; whether those are the right ones is
		// not to be found out by a key that nobody uses.
		if err != nil && !slices.ContainsFunc([]string{"access a key", "READONLY", "MOVED"}, func(s string) bool {
			return strings.Contains(err.Error(), s)
		}) {
			findings = append(findings, refuse("redis "+name, err, ""))
		}
		return text
	}
	check("UNLINK", func(ctx context.Context) (string, error) {
		return "", n.client.Unlink(ctx, "doubletap:preflight:none").Err()
	})
	check("PING", func(ctx context.Context) (string, error) { return "", n.client.Ping(ctx).Err() })
	check("SCAN", func(ctx context.Context) (string, error) { return "", n.client.Scan(ctx, 0, "", 1).Err() })
	findings = append(findings, r.mayPost(ctx, n)...)
	info := check("INFO", func(ctx context.Context) (string, error) { return n.client.Info(ctx).Result() })
	if info == "" {
		return findings
	}
	return append(findings, describe(n, info)...)
}

// mayPost tries what Turn and Post do, in a way that writes nothing: a SET of a key
// that must exist and does not, an HSET whose last field lacks its value, which is
// refused only after the user's permissions, and a script that does nothing. A
// script may do what its user may.
func (r *Redis) mayPost(ctx context.Context, n node) []pipeline.Finding {
	var findings []pipeline.Finding
	turn, none := watermark.TurnKey("preflight", 0), redis.Nil.Error()
	for _, c := range []struct {
		name    string
		args    []any
		allowed string // the error of a user who may
	}{
		{"SET", []any{"set", watermark.TrustKey("preflight", 0), "", "px", 1, "xx"}, none},
		{"HSET", []any{"hset", watermark.SetsKey("preflight"), "0", "", "1"}, "wrong number of arguments"},
		{"GET", []any{"get", turn}, none},
		{"PTTL", []any{"pttl", turn}, none},
		{"EVAL", []any{"eval", "return 0", 1, turn}, none},
	} {
		_, err := call(ctx, r, func(ctx context.Context) (any, error) { return n.client.Do(ctx, c.args...).Result() })
		if err == nil || slices.ContainsFunc([]string{c.allowed, "READONLY", "MOVED"}, func(s string) bool {
			return strings.Contains(err.Error(), s)
		}) {
			continue
		}
		findings = append(findings, refuse("redis "+c.name+" doubletap:*", err, ""))
	}
	return findings
}

// describe makes notes of what INFO shows.
func describe(n node, info string) []pipeline.Finding {
	product, version := "Redis", infoField(info, "redis_version")
	if v := infoField(info, "valkey_version"); v != "" {
		product, version = "Valkey", v
	}
	findings := []pipeline.Finding{{Severity: pipeline.Note, Check: "redis " + n.addr,
		Problem: fmt.Sprintf("%s %s, %s, %s", product, version, infoField(info, "redis_mode"), infoField(info, "role"))}}
	if infoField(info, "maxmemory") != "0" && infoField(info, "maxmemory_policy") == "noeviction" {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Note, Check: "maxmemory-policy",
			Problem: "noeviction: when its memory is full, Redis refuses cache fills (deletes go on)",
			Fix:     "for a cache: CONFIG SET maxmemory-policy allkeys-lru"})
	}
	if infoField(info, "loading") == "1" {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: "redis " + n.addr,
			Problem: "is loading its data; deletes wait until it is done"})
	}
	return findings
}

// refuse makes a finding of an error.
func refuse(check string, err error, fix string) pipeline.Finding {
	text := explain(errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))).Error()
	return pipeline.Finding{Severity: pipeline.Refusal, Check: check, Problem: text, Fix: fix}
}

// unique drops repetitions, which many nodes make.
func unique(findings []pipeline.Finding) []pipeline.Finding {
	seen := map[pipeline.Finding]bool{}
	var out []pipeline.Finding
	for _, f := range findings {
		if !seen[f] {
			seen[f] = true
			out = append(out, f)
		}
	}
	return out
}
