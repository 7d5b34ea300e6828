package cache

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestNobodyJoinsWhatIsOlder: a load has read the old row and is still running when
// the row changes and its key is deleted. Who comes then must see the new row, with
// Redis and without.
func TestNobodyJoinsWhatIsOlder(t *testing.T) {
	for name, addr := range map[string]string{"with redis": envtest.Redis(t).Addr, "without": "127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			sh := newShelf(t)
			c := sh.client(t, addr)
			key := item(t, c, 1)
			read, goOn := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				expect(t, c, key, then(sh.name(1), func() { close(read); <-goOn }), "name 1")
			})
			<-read
			run(t, sh.db, "UPDATE "+sh.table+" SET name = 'new' WHERE id = 1")
			if name == "with redis" {
				rdb(t, envtest.Redis(t)).Unlink(t.Context(), key.String())
			}
			for range 20 {
				wg.Go(func() { expect(t, c, key, sh.name(1), "new") })
			}
			if name == "without" {
				for waiting := 0; waiting < 20; time.Sleep(time.Millisecond) { // until all wait for the next turn
					c.mu.Lock()
					if tn := c.turns[turnKey{key, sh.db}]; tn.next != nil {
						waiting = tn.next.waiting
					}
					c.mu.Unlock()
				}
			}
			close(goOn)
			wg.Wait()
			if n := sh.fills.Load(); n > 3 {
				t.Errorf("%d loads for 21 callers", n)
			}
		})
	}
}

func TestClose(t *testing.T) {
	sh := newShelf(t)
	c := sh.client(t, envtest.Redis(t).Addr)
	key := item(t, c, 1)
	started := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		expect(t, c, key, func(ctx context.Context, q Querier) ([]byte, error) {
			close(started)
			time.Sleep(50 * time.Millisecond) // Close waits for it
			return sh.name(1)(ctx, q)
		}, "name 1")
	})
	<-started
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if c.Stats()[Stored] != 1 {
		t.Error("Close did not wait for the fill to be stored")
	}
	if _, err := c.Get(t.Context(), key, time.Minute, sh.name(1)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
