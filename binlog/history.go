package binlog

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// history is what both drivers know of the server's past: where to start, what
// can still be had, how positions move.
type history struct {
	cfg Config
	srv Server

	mu      sync.Mutex
	parsed  pipeline.Position // the position that set belongs to
	set     gtidSet
	recent  []identity // delivered lately, oldest first
	purged  gtidSet    // as the last Check saw it
	refused string     // why the server refused to go on, twice in a row without progress
	warned  string     // the same, once
}

// Advance implements pipeline.Source. It is safe for concurrent use.
func (h *history) Advance(p pipeline.Position, gtids []string) (pipeline.Position, error) {
	pos, err := parsePosition(p)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	set := h.set
	if h.parsed != p || set == nil {
		if set, err = parseSet(pos.Flavor, pos.Set); err != nil {
			return "", err
		}
	}
	h.set, h.parsed = nil, "" // a failure below leaves the set half advanced
	for _, g := range gtids {
		if g == "" {
			continue // belongs to no transaction
		}
		if err := set.add(g); err != nil {
			return "", err
		}
	}
	pos.Set = set.String()
	if last, ok := h.newest(gtids); ok {
		pos.Last = &last
	}
	h.set, h.parsed = set, pos.encode()
	return h.parsed, nil
}

// GTIDSet returns a position's GTID set as the server writes it, for the events
// that belong to a position and to no transaction.
func (h *history) GTIDSet(p pipeline.Position) string {
	pos, err := parsePosition(p)
	if err != nil {
		return string(p)
	}
	return pos.Set
}

// Start implements pipeline.Source.
func (h *history) Start(ctx context.Context, spec string) (pipeline.Position, error) {
	s, err := openSession(ctx, h.cfg, readTimeout)
	if err != nil {
		return "", err
	}
	defer s.close()
	now, err := readState(ctx, s, h.srv.Flavor)
	if err != nil {
		return "", err
	}
	pos := position{Flavor: h.srv.Flavor, Server: now.server}
	switch spec {
	case "current", "":
		pos.Set = now.executed.String()
	case "earliest":
		pos.Set = now.purged.String()
	default:
		set, err := parseSet(h.srv.Flavor, spec)
		if err != nil {
			return "", fmt.Errorf("%w: it is none of current, earliest, and a GTID set of %s: %w", pipeline.ErrFatal, h.srv.Flavor, err)
		}
		if set.empty() {
			return "", fmt.Errorf("%w: the GTID set is empty; use earliest", pipeline.ErrFatal)
		}
		if why := now.cannotResume(set); why != "" {
			return "", fmt.Errorf("%w: %s", pipeline.ErrFatal, why)
		}
		pos.Set = set.String()
	}
	return pos.encode(), nil
}

// Check implements pipeline.Source.
func (h *history) Check(ctx context.Context, p pipeline.Position) error {
	pos, err := parsePosition(p)
	if err != nil {
		return err
	}
	s, err := openSession(ctx, h.cfg, readTimeout)
	if err != nil {
		return err
	}
	defer s.close()
	flavor, err := flavorOf(ctx, s)
	if err != nil {
		return err
	}
	if flavor != h.srv.Flavor {
		// The decoder was made for the other one: only a new Source can go on.
		return fmt.Errorf("%w: the source at %s was %s and is %s now; restart the tailer", pipeline.ErrFatal, h.cfg.Addr, h.srv.Flavor, flavor)
	}
	now, set, err := settled(ctx, s, pos, flavor)
	if err != nil {
		return err
	}
	h.mu.Lock()
	refused := h.refused
	h.refused, h.purged = "", now.purged // warned stays until a transaction comes
	h.mu.Unlock()
	gap := func(next string, reason string) error {
		return &pipeline.GapError{Reason: reason, Next: position{Flavor: flavor, Set: next, Server: now.server}.encode()}
	}
	if set == nil {
		return gap(now.executed.String(), fmt.Sprintf("the position is one of %s, the source is %s", pos.Flavor, flavor))
	}
	if why := now.cannotResume(set); why != "" {
		return gap(now.executed.String(), why)
	}
	if pos.Server != "" && now.server != "" && pos.Server != now.server {
		// Nothing of the new server is left out by going on where the old one
		// ended. But what the old one committed last may never have come here,
		// and may have been read into caches.
		return gap(pos.Set, fmt.Sprintf("another server answers (%s, before %s): its predecessor's last commits may be lost", now.server, pos.Server))
	}
	if refused != "" {
		return gap(now.executed.String(), refused)
	}
	return nil
}

// settleTime is how long Check waits for transactions that were delivered and
// are not in gtid_executed yet. The event can come before that; only one with
// something to publish waits at the gate.
const settleTime = 3 * time.Second

// settled reads the server's state and the position's set, nil if that is of
// another flavor.
func settled(ctx context.Context, s *session, pos position, flavor string) (state, gtidSet, error) {
	limit := time.Now().Add(settleTime)
	for {
		now, err := readState(ctx, s, flavor)
		if err != nil || pos.Flavor != flavor {
			return now, nil, err
		}
		set, err := parseSet(flavor, pos.Set)
		if err != nil || now.executed.contains(set) || pos.Server != now.server || time.Now().After(limit) {
			return now, set, err
		}
		if !pause(ctx, 50*time.Millisecond) {
			return now, set, ctx.Err()
		}
	}
}
