package keys

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// OnUntrusted says what an application's client does with a rule's keys while
// nobody vouches that deletes arrive in time.
type OnUntrusted string

// What a rule can say under on_untrusted:.
const (
	Bypass OnUntrusted = "bypass" // read the database, leave the cache alone: the default
	Serve  OnUntrusted = "serve"  // go on using the cache
	Refuse OnUntrusted = "error"  // give an error
)

// filling is how applications fill the keys of a rule. It has no part in
// [Schema.Hash]: it changes neither keys nor the columns they need.
type filling struct {
	fill        time.Duration // 0: as the configuration says
	lease       bool
	onUntrusted OnUntrusted
}

// Fill returns the longest time from the opening of a reader's snapshot to the
// execution of its SET, for plain readers of this rule's keys; false if the rule
// does not say, and the configuration's holds.
func (r *Rule) Fill() (time.Duration, bool) { return r.fill, r.fill > 0 }

// Lease reports whether all fills of the rule's keys go through leases (package
// cache). Then the rule needs no fill time: any delete revokes a lease.
func (r *Rule) Lease() bool { return r.lease }

// OnUntrusted returns what the client does with the rule's keys while they are
// not trusted.
func (r *Rule) OnUntrusted() OnUntrusted { return r.onUntrusted }

// ownKeys begins the keys that doubletap keeps for itself in the same Redis.
const ownKeys = "doubletap:"

// checkOwn refuses a template that can make keys of doubletap's own.
func (t *template) checkOwn() error {
	if overlap(t.language(), append(literalTokens(nil, ownKeys), token{star: true, set: anything})) {
		return fmt.Errorf("it can make keys that begin with %q, where doubletap keeps its own: give it another beginning", ownKeys)
	}
	return nil
}

// filling reads fill:, lease: and on_untrusted:.
func (p *schemaParser) filling(r *Rule, fields map[string]ast.Node, what string) {
	r.onUntrusted = Bypass
	if n, ok := fields["lease"]; ok {
		b, isBool := n.(*ast.BoolNode)
		if !isBool {
			p.fail(lineOf(n), "%slease: must be true or false", what)
			return
		}
		r.lease = b.Value
	}
	if n, ok := fields["fill"]; ok {
		d, err := time.ParseDuration(n.GetToken().Value)
		switch {
		case err != nil || d <= 0:
			p.fail(lineOf(n), "%sfill: must be a duration above zero, such as 500ms or 2s", what)
		case r.lease:
			p.fail(lineOf(n), "%sfill: a lease rule needs none, since any delete revokes its leases: take out fill, or lease", what)
		default:
			r.fill = d
		}
	}
	if s, line, ok := p.text(fields, "on_untrusted", what); ok {
		if r.onUntrusted = OnUntrusted(s); !slices.Contains([]OnUntrusted{Bypass, Serve, Refuse}, r.onUntrusted) {
			p.fail(line, "%son_untrusted: must be bypass, serve or error", what)
		} else if !r.lease {
			p.fail(line, "%son_untrusted: only the cache client heeds it, which serves rules with lease: true: add that, or take this out", what)
		}
	}
}

// sameFills refuses rules that make the same keys and say different things
// about who fills them: a key is filled under a lease or not, and a plain one
// has one fill time.
func (p *schemaParser) sameFills(rules []*Rule, lines []int) {
	for i, a := range rules {
		for k, b := range rules[:i] {
			if a.template == nil || b.template == nil || !a.template.sameShape(b.template) {
				continue
			}
			var differ []string
			if a.lease != b.lease {
				differ = append(differ, "lease")
			}
			if a.fill != b.fill {
				differ = append(differ, "fill")
			}
			if a.onUntrusted != b.onUntrusted {
				differ = append(differ, "on_untrusted")
			}
			if differ != nil {
				p.fail(lines[i], "rule %q: makes the same keys as rule %q in line %d: give both the same %s",
					a.name, b.name, lines[k], strings.Join(differ, " and "))
				break
			}
		}
	}
}
