package cache

import (
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/keys"
)

// Modes of a Redis. With Auto the server says whether it is a Cluster, and one
// with a Master is behind Sentinel.
const (
	Auto       = "auto"
	Standalone = "standalone"
	Sentinel   = "sentinel"
	Cluster    = "cluster"
)

// Redis says where the cached values are.
type Redis struct {
	Addrs  []string // host:port of the master, of Sentinels, or of some Cluster nodes
	Mode   string   // one of the modes above, "" for Auto
	Master string   // the master's name in Sentinel
	DB     int

	Username, Password                 string
	SentinelUsername, SentinelPassword string
	TLS                                *tls.Config // nil: no TLS

	// PoolSize is how many connections to one node are kept, 0 for ten times
	// GOMAXPROCS.
	PoolSize int
}

// Options says what a [Client] works with. Redis, Schema, Source and DB are needed.
type Options struct {
	Redis  Redis
	Schema *keys.Schema
	Source string // the source's name in the pipeline's configuration: who vouches for the cache

	// DB is the primary: what is read past the cache is read here.
	DB *sql.DB
	// Fills is where fills read; nil for DB. It must lead to servers that the
	// pipeline's configuration names as readers, and to no others. If the fills of any
	// program that shares the keys read from others than the primary, all programs must
	// set it: GetAfter then waits for the second pass.
	Fills *sql.DB

	RedisTimeout time.Duration // for one round trip to Redis; 0: 100 ms
	LeaseTTL     time.Duration // how long a filler may take, until another one may try; 0: 10 s
	Wait         time.Duration // how long to wait for another process that fills; 0: 50 ms
	NegativeTTL  time.Duration // at most, for a row that is not there; 0: 30 s
	// MaxLoads is how many loads that bypass the cache run at a time, in this
	// process, for one rule; more fail at once with [ErrTooManyLoads]. 0: 64.
	MaxLoads int

	// OnEvent is told what happens, for metrics; it may be called by several
	// goroutines at a time, and must return at once. nil: see [Client.Stats].
	OnEvent func(rule string, e Event)
}

// complete fills in defaults and refuses what cannot work.
func (o *Options) complete() error {
	r := &o.Redis
	if r.Mode == "" {
		r.Mode = Auto
	}
	if r.Mode == Auto && r.Master != "" {
		r.Mode = Sentinel
	}
	switch {
	case len(r.Addrs) == 0:
		return errors.New("no address of Redis is given")
	case !slices.Contains([]string{Auto, Standalone, Sentinel, Cluster}, r.Mode):
		return fmt.Errorf("redis mode %q is none of: auto, standalone, sentinel, cluster", r.Mode)
	case r.Mode == Sentinel && r.Master == "":
		return errors.New("redis mode sentinel needs the master's name")
	case r.Mode == Standalone && len(r.Addrs) > 1:
		return errors.New("redis mode standalone takes one address, the master's")
	case o.Schema == nil:
		return errors.New("no key schema is given")
	case o.Source == "":
		return errors.New("no source is given: its name in the pipeline's configuration")
	case o.DB == nil:
		return errors.New("no database is given: DB is the primary")
	}
	if o.Fills == nil {
		o.Fills = o.DB
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		usual time.Duration
	}{
		{"RedisTimeout", &o.RedisTimeout, 100 * time.Millisecond},
		{"LeaseTTL", &o.LeaseTTL, 10 * time.Second},
		{"Wait", &o.Wait, 50 * time.Millisecond},
		{"NegativeTTL", &o.NegativeTTL, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.usual
		}
		if *d.value < time.Millisecond {
			return fmt.Errorf("%s is %v: a millisecond is the least", d.name, *d.value)
		}
	}
	if o.MaxLoads == 0 {
		o.MaxLoads = 64
	}
	if o.MaxLoads < 0 {
		return errors.New("MaxLoads is negative")
	}
	return nil
}
