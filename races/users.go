package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	lookaside "github.com/doubletap-cdc/doubletap/cache"
)

const (
	users      = 2
	userPauses = 20 * time.Millisecond // at most, between two reads
	watched    = 8                     // keys that a user comes back to
)

// user reads keys with tokens, through one application and then the other.
// What he sees must never be older than what he saw before, nor than what was
// committed before he took a token at the source.
type user struct {
	*leases
	rng  *rand.Rand
	ids  []int
	seen map[int]uint32
	kept lookaside.Seen
}

// readOn lets users read until ctx ends, and counts what was older than it may be.
func (l *leases) readOn(ctx context.Context, b batch) error {
	var g errgroup.Group
	for i := range users {
		u := &user{leases: l, rng: b.rand(1<<19 + uint64(i)), seen: map[int]uint32{}}
		for range watched {
			u.ids = append(u.ids, u.rng.IntN(l.c.w.keys))
		}
		g.Go(func() error {
			for pause(ctx, between(u.rng, 0, userPauses)) == nil {
				if err := u.read(ctx); err != nil && ctx.Err() == nil {
					return wrap("read as a user", err)
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// readAsUsers lets users read while a batch runs, where the client is raced.
func (w *world) readAsUsers(ctx context.Context, b batch) error {
	if w.leasing == nil {
		return nil
	}
	return w.leasing.readOn(ctx, b)
}

// read is one read of one key, with the token of a write or of earlier reads.
func (u *user) read(ctx context.Context) (err error) {
	id := u.ids[u.rng.IntN(len(u.ids))]
	least, token := u.seen[id], u.kept
	if u.rng.IntN(2) == 0 {
		// Whatever was acknowledged by now, a token that is taken now stands for it.
		least = u.c.w.ledger.committed[id].Load()
		if token, err = lookaside.Token(ctx, u.c.w.sourceDB); err != nil {
			return err
		}
	}
	client := u.client(u.rng.IntN(2) == 0)
	k, err := client.Key(lease, id)
	if err != nil {
		return err
	}
	v, err := client.GetAfter(ctx, token, k, ttl, func(ctx context.Context, q lookaside.Querier) ([]byte, error) {
		rows, err := u.load(ctx, q, []int{id}, fill{hold: between(u.rng, 0, 5*time.Millisecond)})
		return []byte(strconv.Itoa(int(rows[id])) + ":"), err
	})
	switch {
	case errors.Is(err, lookaside.ErrTooManyLoads):
		return nil
	case errors.Is(err, lookaside.ErrBehind):
		return nil // a stalled source shows less than its replica did: an error, and no lie
	case err != nil:
		return err
	case !v.Found:
		return fmt.Errorf("row %d was not found", id)
	}
	version, _, err := versionOf(string(v.Data))
	if err != nil {
		return err
	}
	b := u.c.w.ledger.books[u.c.index]
	b.asked.Add(1)
	if version < least {
		b.older.Add(1)
	}
	u.seen[id] = max(u.seen[id], version)
	u.kept, err = lookaside.Merge(u.kept, v.Token)
	return err
}
