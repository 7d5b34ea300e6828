package cache

import (
	"context"
	"crypto/sha1" //nolint:gosec // how Redis names scripts
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// command is one command for one key. go-redis must not send it again after an
// unknown outcome: a late copy of a request for a lease would make a revoked lease
// valid. It follows MOVED and ASK, which say that the command has not run.
type command struct {
	*redis.Cmd
	key string
}

// NoRetry implements redis.Cmder.
func (*command) NoRetry() bool { return true }

func newCommand(ctx context.Context, key Key, args ...any) *command {
	return &command{redis.NewCmd(ctx, args...), key.text}
}

// run sends the commands, those of one node in one round trip, and returns within
// Options.RedisTimeout. Each command then has its own reply or error.
func (c *Client) run(ctx context.Context, cmds ...*command) {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, c.o.RedisTimeout)
	defer cancel()
	var conn redis.UniversalClient
	err := c.breakers.guard("connect", caller, func() (err error) {
		conn, err = c.client(ctx)
		return err
	})
	if err != nil {
		fail(cmds, err)
		return
	}
	cluster, ok := conn.(*redis.ClusterClient)
	if !ok {
		c.send(ctx, caller, "server", conn, cmds)
		return
	}
	var wg sync.WaitGroup
	for addr, b := range c.byNode(ctx, caller, cluster, cmds) {
		wg.Go(func() {
			if len(b.cmds) == 1 {
				c.send(ctx, caller, addr, cluster, b.cmds)
				return
			}
			c.send(ctx, caller, addr, b.node, b.cmds)
			for _, cmd := range b.cmds {
				if redirected(cmd.Err()) {
					c.send(ctx, caller, addr, cluster, []*command{cmd})
				}
			}
		})
	}
	wg.Wait()
	for _, cmd := range cmds {
		if !answered(cmd.Err()) {
			// go-redis does not do so itself, and would ask a dead master for as long as
			// the old slot map is good.
			cluster.ReloadState(ctx)
			break
		}
	}
}

// batch is what goes to one master.
type batch struct {
	node *redis.Client
	cmds []*command
}

// byNode groups commands by master. Those of which none is known get an error.
func (c *Client) byNode(ctx, caller context.Context, cluster *redis.ClusterClient, cmds []*command) map[string]*batch {
	batches := map[string]*batch{}
	for _, cmd := range cmds {
		err := c.breakers.guard("slots", caller, func() error {
			node, err := cluster.MasterForKey(ctx, cmd.key)
			if err != nil {
				return err
			}
			addr := node.Options().Addr
			if batches[addr] == nil {
				batches[addr] = &batch{node: node}
			}
			batches[addr].cmds = append(batches[addr].cmds, cmd)
			return nil
		})
		if err != nil {
			cmd.SetErr(err)
		}
	}
	return batches
}

// redirected reports whether a Cluster's node said that a command has to go to
// another one.
func redirected(err error) bool {
	return err != nil && (strings.HasPrefix(err.Error(), "MOVED ") || strings.HasPrefix(err.Error(), "ASK "))
}

// sender is a client of one server, or of a Cluster.
type sender interface {
	Process(ctx context.Context, cmd redis.Cmder) error
	Pipeline() redis.Pipeliner
}

func (c *Client) send(ctx, caller context.Context, addr string, to sender, cmds []*command) {
	err := c.breakers.guard(addr, caller, func() error {
		if len(cmds) == 1 {
			return to.Process(ctx, cmds[0])
		}
		pipe := to.Pipeline()
		for _, cmd := range cmds {
			_ = pipe.Process(ctx, cmd) // queues it
		}
		_, err := pipe.Exec(ctx) // the first of the commands' errors
		return err
	})
	if rejected(err) {
		fail(cmds, err)
	}
}

func fail(cmds []*command, err error) {
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// entry reads the reply to a GET.
func (cmd *command) entry() (entry, error) {
	text, err := cmd.Text()
	switch {
	case err == redis.Nil: //nolint:errorlint // go-redis returns it bare
		return entry{kind: absent}, nil
	case err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE"):
		return entry{kind: foreign}, nil
	case err != nil:
		return entry{}, err
	}
	return parseEntry([]byte(text)), nil
}

func get(ctx context.Context, key Key) *command { return newCommand(ctx, key, "get", key.text) }

// acquire asks for a lease. Its reply is what the key held before: nothing if the
// lease is taken.
func acquire(ctx context.Context, key Key, t token, ttl time.Duration) *command {
	return newCommand(ctx, key, "set", key.text, t.lease(), "nx", "get", "px", ttl.Milliseconds())
}

func unlink(ctx context.Context, key Key) *command { return newCommand(ctx, key, "unlink", key.text) }

// look reads what keys hold.
func (c *Client) look(ctx context.Context, list ...Key) []*command {
	cmds := make([]*command, len(list))
	for i, k := range list {
		cmds[i] = get(ctx, k)
	}
	c.run(ctx, cmds...)
	return cmds
}

// script is run by its hash, and sent in full where a server does not know it. It
// takes one key, and may run again: its second run finds nothing to do.
type script struct{ text, hash string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) //nolint:gosec // see above
	return script{text, hex.EncodeToString(sum[:])}
}

// The scripts compare what the key holds with a lease, ARGV[1]. pcall: a key of
// another type is another content.
var (
	storeScript = newScript(`if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0`)
	abandonScript = newScript(`if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  return redis.call('UNLINK', KEYS[1])
end
return 0`)
)

// scriptCall is one run of a script.
type scriptCall struct {
	script script
	key    Key
	args   []any
	cmd    *command
}

func store(key Key, t token, value []byte, ttl time.Duration) *scriptCall {
	return &scriptCall{script: storeScript, key: key, args: []any{t.lease(), value, ttl.Milliseconds()}}
}

func abandon(key Key, t token) *scriptCall {
	return &scriptCall{script: abandonScript, key: key, args: []any{t.lease()}}
}

// runScripts runs the scripts and returns when each has its outcome.
func (c *Client) runScripts(ctx context.Context, calls ...*scriptCall) {
	form := func(s *scriptCall, name, what string) *command {
		return newCommand(ctx, s.key, append([]any{name, what, 1, s.key.text}, s.args...)...)
	}
	cmds := make([]*command, len(calls))
	for i, s := range calls {
		s.cmd = form(s, "evalsha", s.script.hash)
		cmds[i] = s.cmd
	}
	c.run(ctx, cmds...)
	cmds = cmds[:0]
	for _, s := range calls {
		if err := s.cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			s.cmd = form(s, "eval", s.script.text)
			cmds = append(cmds, s.cmd)
		}
	}
	if len(cmds) > 0 {
		c.run(ctx, cmds...)
	}
}

// done reports whether the script found its lease.
func (s *scriptCall) done() (bool, error) {
	n, err := s.cmd.Int()
	return n == 1, err
}
