package deleter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Preflight looks at every master: whether it answers, is what the configuration
// says, and allows what the engine does. It changes nothing: the key that it
// unlinks does not exist.
func (r *Redis) Preflight(ctx context.Context) []pipeline.Finding {
	return r.preflight(ctx, replays())
}

// PreflightReplay is Preflight for a replay, which must be able to read what the
// invalidators say of themselves.
func (r *Redis) PreflightReplay(ctx context.Context) []pipeline.Finding {
	must := replays()
	for i := range must {
		must[i].severity = pipeline.Refusal
	}
	return r.preflight(ctx, append(must, dryRuns))
}

func (r *Redis) preflight(ctx context.Context, more []probe) []pipeline.Finding {
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
			fs := r.preflightNode(ctx, n, more)
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

func (r *Redis) preflightNode(ctx context.Context, n node, more []probe) []pipeline.Finding {
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
	findings = append(findings, r.permissions(ctx, n, more)...)
	info, err := call(ctx, r, func(ctx context.Context) (string, error) { return n.client.Info(ctx).Result() })
	if err != nil { // not for want of a right: that was tried
		return findings
	}
	return append(findings, describe(n, info)...)
}

// describe makes notes of what INFO shows.
func describe(n node, info string) []pipeline.Finding {
	product, version := "Redis", infoField(info, "redis_version")
	if v := infoField(info, "valkey_version"); v != "" {
		product, version = "Valkey", v
	}
	findings := []pipeline.Finding{{Severity: pipeline.Note, Check: "redis " + n.addr,
		Problem: fmt.Sprintf("%s %s, %s, %s", product, version, infoField(info, "redis_mode"), role(info))}}
	if infoField(info, "maxmemory") != "0" {
		switch infoField(info, "maxmemory_policy") {
		case "noeviction":
			findings = append(findings, pipeline.Finding{Severity: pipeline.Note, Check: "maxmemory-policy",
				Problem: "noeviction: when its memory is full, Redis refuses cache fills (deletes go on)",
				Fix:     "for a cache: CONFIG SET maxmemory-policy allkeys-lru"})
		case "volatile-ttl":
			findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: "maxmemory-policy",
				Problem: "volatile-ttl: when its memory is full, Redis evicts first what expires first, which is what tells cache clients whom to trust; without it they bypass the cache",
				Fix:     "CONFIG SET maxmemory-policy allkeys-lru (or volatile-lru)"})
		}
	}
	if infoField(info, "loading") == "1" {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: "redis " + n.addr,
			Problem: "is loading its data; deletes wait until it is done"})
	}
	return findings
}

// role is what INFO calls the server, in the word that is used elsewhere.
func role(info string) string {
	if role := infoField(info, "role"); role != "slave" {
		return role
	}
	return "replica"
}

// refuse makes a finding of an error. fix is for one that does not say what to do.
func refuse(check string, err error, fix string) pipeline.Finding {
	err = explain(err)
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	if e, ok := errors.AsType[*explained](err); ok {
		fix = ""
		if rest, ok := strings.CutSuffix(text, "; "+e.fix); ok {
			text, fix = rest, e.fix
		}
	}
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
