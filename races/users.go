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

// read is one read, with the token of a write or of earlier reads: of one key, or
// now and then of all keys that the user watches. Each key counts.
func (u *user) read(ctx context.Context) (err error) {
	ids := []int{u.ids[u.rng.IntN(len(u.ids))]}
	if u.rng.IntN(8) == 0 {
		ids = u.ids
	}
	least, token := u.least(ids), u.kept
	if u.rng.IntN(2) == 0 {
		// Whatever was acknowledged by now, a token that is taken now stands for it.
		for _, id := range ids {
			least[id] = u.c.w.ledger.committed[id].Load()
		}
		if token, err = lookaside.Token(ctx, u.c.w.sourceDB); err != nil {
			return err
		}
	}
	client := u.client(u.rng.IntN(2) == 0)
	f := fill{hold: between(u.rng, 0, 5*time.Millisecond)}
	var values []lookaside.Value
	if len(ids) > 1 {
		var list []lookaside.Key
		var load lookaside.FillMany
		if list, load, err = u.several(client, ids, f); err == nil {
			values, err = client.GetManyAfter(ctx, token, list, ttl, load)
		}
	} else {
		values = make([]lookaside.Value, 1)
		values[0], err = u.one(ctx, client, token, ids[0], f)
	}
	switch {
	case errors.Is(err, lookaside.ErrTooManyLoads):
		return nil
	case errors.Is(err, lookaside.ErrBehind):
		return nil // a stalled source shows less than its replica did: an error, and no lie
	case err != nil:
		return err
	}
	for i, v := range values {
		if err := u.saw(ids[i], least[ids[i]], v); err != nil {
			return err
		}
	}
	return nil
}

// least is what the user has seen of these keys.
func (u *user) least(ids []int) map[int]uint32 {
	least := map[int]uint32{}
	for _, id := range ids {
		least[id] = u.seen[id]
	}
	return least
}

func (u *user) one(ctx context.Context, client *lookaside.Client, token lookaside.Seen, id int, f fill) (v lookaside.Value, err error) {
	k, err := client.Key(lease, id)
	if err != nil {
		return v, err
	}
	return client.GetAfter(ctx, token, k, ttl, func(ctx context.Context, q lookaside.Querier) ([]byte, error) {
		rows, err := u.load(ctx, q, []int{id}, f)
		return []byte(strconv.Itoa(int(rows[id])) + ":"), err
	})
}

// saw compares what the user is shown with the least that it may be.
func (u *user) saw(id int, least uint32, v lookaside.Value) error {
	if !v.Found {
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
