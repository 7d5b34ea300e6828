package cache

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestLateLeaseJoinsNothing: a request for a lease whose reply was lost runs after a
// delete that revoked the fill. Whoever finds that lease must see the change.
func TestLateLeaseJoinsNothing(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	raw := rdb(t, s)
	c := sh.client(t, s.Addr, func(o *Options) { o.Wait = 10 * time.Millisecond })
	for i, lead := range []func(s *seeker, fill Fill) (Value, error){
		func(s *seeker, fill Fill) (Value, error) { return c.lead(t.Context(), s, time.Minute, fill) },
		func(s *seeker, fill Fill) (Value, error) {
			m := &many{c: c, ctx: t.Context(), rule: s.key.rule, ttl: time.Minute, found: map[Key]Value{}}
			m.fill = func(ctx context.Context, q Querier, _ []Key) (map[Key][]byte, error) {
				b, err := fill(ctx, q)
				return map[Key][]byte{s.key: b}, err
			}
			err := m.lead([]*seeker{s})
			return m.found[s.key], err
		},
	} {
		s := newSeeker(item(t, c, i))
		lost := c.announce(s)
		c.round(t.Context(), s)
		if !s.mine() || s.e.token == lost {
			t.Fatalf("found %+v", s.e)
		}
		read, proceed := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			v, err := lead(s, then(sh.name(i), func() { close(read); <-proceed }))
			if err != nil || string(v.Data) == "new" {
				t.Errorf("the fill: %q, %v", v.Data, err)
			}
		})
		<-read
		run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id = ?", i)
		raw.Set(t.Context(), s.key.String(), lost.lease(), time.Minute) // the delete, then the late request
		timer := time.AfterFunc(time.Second, func() { close(proceed) })
		expect(t, c, s.key, sh.name(i), "new")
		if timer.Stop() {
			close(proceed)
		}
		wg.Wait()
	}
}
