package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/keys"
)

// Errors that a caller may want to tell apart.
var (
	// ErrPlain says that a rule has no lease: true, so that its keys are not for
	// this client.
	ErrPlain = errors.New("the rule is plain")
	// ErrNotFound is what a fill returns when there is no row; sql.ErrNoRows will
	// do as well. That there is none is cached.
	ErrNotFound = errors.New("not found")
	// ErrTooManyLoads says that the cache cannot be used at the moment, and that
	// as many loads as are allowed already run.
	ErrTooManyLoads = errors.New("too many loads past the cache")
	// ErrUntrusted says that nobody vouches that deletes arrive in time, and that
	// the key's rule has on_untrusted: error.
	ErrUntrusted = errors.New("the cache is not trusted at the moment")
	// ErrClosed says that the client was closed.
	ErrClosed = errors.New("the cache client is closed")
)

// Client reads through the cache. It is safe for concurrent use.
type Client struct {
	o      Options
	counts counters
	slots  map[*keys.Rule]chan struct{} // one token for each load that bypasses

	connecting chan struct{} // holds a token while a caller connects
	conn       atomic.Pointer[redis.UniversalClient]
	breakers   breakers
	trust      trust
	progress   progress

	mu      sync.Mutex
	flights map[token]*call   // fills of this process, by each lease they asked for
	turns   map[turnKey]*turn // loads that bypass
	running sync.WaitGroup    // of loads
	closed  bool
}

// New checks the options. It connects to nothing: the first call does.
func New(o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("make a cache client: %w", err)
	}
	c := &Client{
		o: o, slots: map[*keys.Rule]chan struct{}{},
		connecting: make(chan struct{}, 1), progress: progress{asking: make(chan struct{}, 1)},
		flights: map[token]*call{}, turns: map[turnKey]*turn{},
	}
	for _, r := range o.Schema.Rules() {
		c.slots[r] = make(chan struct{}, o.MaxLoads)
	}
	return c, nil
}

// Close ends the connections to Redis, once the loads that run have ended. The
// databases stay open: they are the caller's.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.running.Wait()
	c.connecting <- struct{}{}
	defer func() { <-c.connecting }()
	if conn := c.conn.Swap(nil); conn != nil {
		return (*conn).Close()
	}
	return nil
}

// Key is a key of a lease rule. Keys compare with ==.
type Key struct {
	rule *keys.Rule
	text string
}

// String returns the key as it is in Redis.
func (k Key) String() string { return k.text }

// Rule returns the name of the key's rule.
func (k Key) Rule() string {
	if k.rule == nil {
		return ""
	}
	return k.rule.Name()
}

// Key builds the key of a rule as [keys.Schema.Key] does. The error is [ErrPlain]
// if the rule's keys are filled without leases.
func (c *Client) Key(rule string, values ...any) (Key, error) {
	text, err := c.o.Schema.Key(rule, values...)
	if err != nil {
		return Key{}, err
	}
	r := c.o.Schema.Rule(rule)
	if !r.Lease() {
		return Key{}, fmt.Errorf("rule %q (%s): %w: write lease: true if all programs fill its keys through the cache client, or read and fill them without it", rule, r.At(), ErrPlain)
	}
	return Key{r, text}, nil
}

// Value is what a Get found.
type Value struct {
	Data  []byte // the caller's own; nil unless Found
	Found bool   // false: there is no row
	// Token stands for all transactions that the value may show. It is "" where they
	// are not known, and without an error where they need more than [MaxSeen]: then
	// nothing keeps later reads from being older. Given to a later [Client.GetAfter]
	// or [Client.GetManyAfter], it lets nobody see an older value.
	Token Seen
}

// Fill reads one key's value from the database. All that it reads must come from
// q, a connection on which the client has opened a consistent read-only snapshot:
// never from a transaction of the caller's, whose snapshot may be older than the
// lease, and whose own changes may never be committed. It returns [ErrNotFound]
// or sql.ErrNoRows if there is no row.
//
// It may be shared with other calls of this process that want the same key: ctx
// carries the first caller's values, and ends when no caller waits any longer.
type Fill func(ctx context.Context, q Querier) ([]byte, error)

// Get returns the key's value: from the cache, or else by fill, whose result is
// stored for ttl (give or take a tenth) unless a delete came between. Of many
// callers that miss, one fills; the others of this process wait for it, those of
// other processes wait for a short time and then load without storing.
//
// If Redis does not answer within Options.RedisTimeout, or nobody vouches that
// deletes arrive in time, the value is loaded from the primary and not stored;
// that can fail with [ErrTooManyLoads] at once. Errors of fill are returned
// wrapped, and nothing is cached then.
func (c *Client) Get(ctx context.Context, key Key, ttl time.Duration, fill Fill) (Value, error) {
	if err := check(ttl, key); err != nil {
		return Value{}, err
	}
	return c.getAfter(ctx, gtid.Set{}, key, ttl, fill)
}

func check(ttl time.Duration, list ...Key) error {
	if ttl < time.Millisecond {
		return fmt.Errorf("a ttl of %v: a millisecond is the least", ttl)
	}
	for _, k := range list {
		if k.rule == nil {
			return errors.New("an empty cache key: Client.Key makes them")
		}
	}
	return nil
}
