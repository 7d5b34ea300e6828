package wire

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// conn is the connection to the Redis that has the watermarks.
func (a *App) conn(ctx context.Context) (redis.UniversalClient, error) {
	r := a.redis.Load()
	if r == nil {
		return nil, errors.New("this process is starting")
	}
	return r.Conn(ctx)
}

// progress reads how far the passes of all invalidators are.
func (a *App) progress(ctx context.Context) (admin.Progress, error) {
	c, err := a.conn(ctx)
	if err != nil {
		return nil, err
	}
	s, err := watermark.Read(ctx, c, a.Config.Source.Name)
	if err != nil {
		return nil, err
	}
	return passes{s}, nil
}

type passes struct{ watermark.State }

// Missing implements admin.Progress.
func (p passes) Missing(set gtid.Set, pass pipeline.Pass) []string {
	return p.State.Missing(set, watermark.Pass(pass))
}

// outElsewhere knows which servers are out in any partition, whoever owns it: its
// owner tells applications before second deletes go on without one, which can be
// read. What the second passes have gone past does not say it: those of other
// partitions go past a change at once, and nobody waits for what changes no key.
type outElsewhere struct {
	mu      sync.Mutex
	servers []string  // identities; "*" is one that its owner does not know
	tried   time.Time // when it was read
}

// readAgain is the least time between two looks at what applications are told.
const readAgain = time.Second

// list returns the identities of the servers that are out. Where Redis does not
// answer, or nobody vouches for a partition, it is as before.
func (e *outElsewhere) list(read func() (watermark.Trust, error)) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Since(e.tried) >= readAgain {
		e.tried = time.Now()
		if said, err := read(); err == nil && !said.Expired {
			e.servers = said.Out
		}
	}
	return e.servers
}

// trust reads what applications are told.
func (a *App) trust(ctx context.Context) (watermark.Trust, error) {
	c, err := a.conn(ctx)
	if err != nil {
		return watermark.Trust{}, err
	}
	return watermark.ReadTrust(ctx, c, a.Config.Source.Name)
}
