package deleter

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	// probeEvery is the time between two probes of a node. A stall is seen by the
	// time between two answers, so it is seen whatever this is; what is added to it
	// is how soon something may be taken for one.
	probeEvery = 20 * time.Millisecond
	minStall   = 2 * probeEvery
	// reprobeAfter is the wait after a probe that failed.
	reprobeAfter = 50 * time.Millisecond
	// lookEvery is how often the masters of a Cluster are listed at least; a caller
	// of Calm has them listed again, but not sooner than lookAgainAfter.
	lookEvery      = time.Second
	lookAgainAfter = 100 * time.Millisecond
)

var _ pipeline.StallWatcher = (*Redis)(nil)

// Calm implements pipeline.StallWatcher. Watching begins with the first call and
// ends with Close; a call before there is something to judge saves that judgment
// from being made about the time before it. A node that does not answer, or is
// new, stands still until its first answer.
func (r *Redis) Calm(ctx context.Context, at time.Time) (pipeline.Stalls, error) {
	w, err := r.watching()
	if err != nil {
		return nil, err
	}
	for {
		seen, ok, changed := w.calm(at)
		if ok {
			return seen, nil
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			return nil, redis.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// watching returns the watch, begun by the first caller.
func (r *Redis) watching() (*watch, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, redis.ErrClosed
	}
	if r.watch == nil {
		w := &watch{r: r, limit: max(r.cfg.Stall, minStall), nodes: map[string]*watched{}, ask: make(chan struct{}, 1)}
		w.ctx, w.end = context.WithCancel(context.Background())
		w.wg.Go(w.run)
		r.watch = w
	}
	return r.watch, nil
}

// watch keeps a probe going to every node.
//
// A stall is a time of more than limit from when a node was asked to its answer
// to the next question, less the shortest round trip: so a stall is seen also if
// this process stood still when it began, or read the answer before it late, and
// what stood still may have been this process only.
type watch struct {
	r     *Redis
	limit time.Duration
	ctx   context.Context // ends with Close; the watch outlives the call that began it
	end   context.CancelFunc
	wg    sync.WaitGroup
	ask   chan struct{} // holds a token when the masters are to be listed

	mu      sync.Mutex
	nodes   map[string]*watched // by address
	gone    stalls              // those of nodes that are no longer there
	looked  time.Time           // when the newest listing of the masters began
	alone   bool                // there is one node, and always the same
	changed chan struct{}       // closed at the next change; nil while nobody waits
}

// watched is one node.
type watched struct {
	addr   string
	client *redis.Client
	end    context.CancelFunc
	sent   time.Time // when the newest probe that was answered was sent
	stalls stalls
}

// close ends the watch and waits for its probes.
func (w *watch) close() {
	w.end()
	w.wg.Wait()
}

// calm returns the stalls that were seen, if all are known up to a time.
func (w *watch) calm(at time.Time) (seen pipeline.Stalls, ok bool, changed <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ok = w.alone || !w.looked.Before(at)
	if !ok {
		w.lookSoon()
	}
	for _, n := range w.nodes {
		ok = ok && !n.sent.Before(at)
		seen = append(seen, n.stalls)
	}
	seen = append(seen, w.gone)
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return seen, ok, w.changed
}

// notify wakes all who wait. w.mu is held.
func (w *watch) notify() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

func (w *watch) lookSoon() {
	select {
	case w.ask <- struct{}{}:
	default:
	}
}

// run lists the masters, again and again.
func (w *watch) run() {
	for w.ctx.Err() == nil {
		began := time.Now()
		if found, cluster, err := w.masters(); err == nil {
			w.follow(began, found, cluster)
		}
		if !w.pause(lookAgainAfter) {
			return
		}
		idle := time.NewTimer(lookEvery)
		select {
		case <-w.ask:
		case <-idle.C:
		case <-w.ctx.Done():
		}
		idle.Stop()
	}
}

// masters returns the nodes to probe: each with a client of its own in a
// Cluster, so that a node which is no longer one of the Cluster's can be left.
func (w *watch) masters() (found map[string]*redis.Client, cluster bool, err error) {
	c, err := w.r.client(w.ctx)
	if err != nil {
		return nil, false, err
	}
	all, ok := c.(*redis.ClusterClient)
	if !ok {
		client, _ := c.(*redis.Client)
		return map[string]*redis.Client{w.r.where(w.ctx, c, ""): client}, false, nil
	}
	found, err = call(w.ctx, w.r, func(ctx context.Context) (map[string]*redis.Client, error) {
		var mu sync.Mutex
		found := map[string]*redis.Client{}
		err := all.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			found[c.Options().Addr] = nil
			return nil
		})
		if err == nil && len(found) == 0 {
			err = errors.New("the cluster has no masters")
		}
		return found, err
	})
	return found, true, err
}

// follow begins to probe what is new and leaves what is gone. A listing shows
// who was master when it began or later.
func (w *watch) follow(began time.Time, found map[string]*redis.Client, cluster bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, n := range w.nodes {
		if _, ok := found[addr]; !ok {
			n.end()
			delete(w.nodes, addr)
			w.gone = w.gone.with(n.stalls...)
		}
	}
	for addr, client := range found {
		if w.nodes[addr] != nil {
			continue
		}
		n := &watched{addr: addr, client: client}
		var ctx context.Context
		ctx, n.end = context.WithCancel(w.ctx)
		w.nodes[addr] = n
		w.wg.Go(func() { w.probe(ctx, n) })
	}
	w.looked, w.alone = began, !cluster
	w.notify()
}

// probe sends one PING at a time, on a connection of its own.
func (w *watch) probe(ctx context.Context, n *watched) {
	client := n.client
	if client == nil {
		client = w.r.single(n.addr)
		defer client.Close() //nolint:errcheck // nothing to lose
	}
	conn := client.Conn()
	defer func() { conn.Close() }() //nolint:errcheck // nothing to lose
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	var trip trips // of this connection
	for failed := 0; ctx.Err() == nil; {
		sent := time.Now()
		err := conn.Ping(ctx).Err()
		if err == nil {
			now := time.Now()
			w.answered(n, sent, now, trip.late(sent, now, w.limit))
			if failed > 1 {
				w.r.log.Info("Redis answers again", "node", n.addr)
			}
			failed = 0
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
			continue
		}
		if failed++; failed == 2 && ctx.Err() == nil {
			w.r.log.Warn("Redis does not answer: second deletes are not counted until it does", "node", n.addr, "err", explain(err))
		}
		conn.Close() //nolint:errcheck // broken, or to be begun anew
		conn, trip = client.Conn(), trips{}
		w.lookSoon()
		w.pause(reprobeAfter)
	}
}

// answered notes an answer.
func (w *watch) answered(n *watched, sent, now time.Time, stall bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[n.addr] != n {
		return
	}
	if stall {
		n.stalls = n.stalls.with(pipeline.Stall{From: n.sent, To: now})
	}
	n.sent = sent
	w.notify()
}

// pause waits; it returns false when the watch ends.
func (w *watch) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ctx.Done():
		return false
	}
}
