package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// names is a fill of several items; asked gets how many it was asked for.
func (sh *shelf) names(asked *[]int) FillMany {
	var mu sync.Mutex
	return func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error) {
		mu.Lock()
		*asked = append(*asked, len(missing))
		mu.Unlock()
		byID := map[string]Key{}
		for _, k := range missing {
			byID[k.String()[strings.LastIndexByte(k.String(), ':')+1:]] = k
		}
		rows, err := q.QueryContext(ctx, "SELECT id, name FROM "+sh.table)
		if err != nil {
			return nil, err
		}
		defer rows.Close() //nolint:errcheck // read to its end
		got := map[Key][]byte{}
		for rows.Next() {
			var id, name string
			if err := rows.Scan(&id, &name); err != nil {
				return nil, err
			}
			if k, ok := byID[id]; ok {
				got[k] = []byte(name)
			}
		}
		return got, rows.Err()
	}
}

func TestGetMany(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr), rdb(t, s)
	var list []Key
	for _, id := range []int{3, 4, 5, 3, 1000} {
		list = append(list, item(t, c, id))
	}
	var asked []int
	get := func() {
		t.Helper()
		got, err := c.GetMany(t.Context(), list, time.Minute, sh.names(&asked))
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"name 3", "name 4", "name 5", "name 3", ""} {
			if string(got[i].Data) != want || got[i].Found != (want != "") || got[i].Token == "" {
				t.Errorf("%s: %+v", list[i], got[i])
			}
		}
	}
	get()
	get()
	raw.Del(t.Context(), list[1].String())
	expect(t, c, list[0], sh.name(-1), "name 3") // a Get finds what GetMany stored
	get()
	if !slices.Equal(asked, []int{4, 1}) {
		t.Errorf("fills of %v keys, want 4 and then 1", asked)
	}
	counted(t, c, map[Event]int64{Miss: 5, Stored: 5, Hit: 8})

	// What is deleted while the batch loads is not stored; the rest is.
	raw.Del(t.Context(), list[0].String(), list[1].String())
	fill := sh.names(&asked)
	if _, err := c.GetMany(t.Context(), list[:3], time.Minute, func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error) {
		raw.Del(ctx, list[0].String())
		return fill(ctx, q, missing)
	}); err != nil {
		t.Fatal(err)
	}
	if n := raw.Exists(t.Context(), list[0].String(), list[1].String()).Val(); n != 1 {
		t.Errorf("%d of the two are stored", n)
	}
	if other, err := c.Key("other", 1); err != nil {
		t.Fatal(err)
	} else if _, err := c.GetMany(t.Context(), []Key{list[0], other}, time.Minute, fill); err == nil {
		t.Error("keys of two rules")
	}
	wrong := errors.New("wrong")
	raw.Del(t.Context(), list[0].String())
	if _, err := c.GetMany(t.Context(), list, time.Minute, func(context.Context, Querier, []Key) (map[Key][]byte, error) { return nil, wrong }); !errors.Is(err, wrong) {
		t.Error(err)
	}
	if n := raw.Exists(t.Context(), list[0].String()).Val(); n != 0 {
		t.Error("a failed fill left its lease")
	}
}

// TestGetManyTogether: batches that overlap, of one process and of two, fill each
// key once, and none waits for another for ever.
func TestGetManyTogether(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	all := []*Client{sh.client(t, s.Addr), sh.client(t, s.Addr)}
	var asked []int
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			var list []Key
			var mine []int
			for k := range 10 {
				list = append(list, item(t, all[i%2], (i+3*k)%20))
			}
			got, err := all[i%2].GetMany(t.Context(), list, time.Minute, sh.names(&mine))
			for k, v := range got {
				if want := fmt.Sprintf("name %d", (i+3*k)%20); string(v.Data) != want {
					t.Errorf("%q, want %q", v.Data, want)
				}
			}
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			asked = append(asked, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range asked {
		sum += n
	}
	if sum != 20 {
		t.Errorf("%d keys were filled (%v), want each of 20 once", sum, asked)
	}
}

// TestGetManyBusy: keys that another process fills are loaded and not stored.
func TestGetManyBusy(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr, func(o *Options) { o.Wait = 20 * time.Millisecond }), rdb(t, s)
	list := []Key{item(t, c, 1), item(t, c, 2)}
	raw.Set(t.Context(), list[0].String(), newToken().lease(), time.Minute)
	var asked []int
	got, err := c.GetMany(t.Context(), list, time.Minute, sh.names(&asked))
	if err != nil || string(got[0].Data) != "name 1" || string(got[1].Data) != "name 2" {
		t.Errorf("%v, %v", got, err)
	}
	counted(t, c, map[Event]int64{Miss: 1, Stored: 1, Waited: 1, Busy: 1})
}

// TestGetManyWaitsAfterItsFills: its own fills may take longer than it waits for
// those of others, which are there by then.
func TestGetManyWaitsAfterItsFills(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	c, raw := sh.client(t, s.Addr, func(o *Options) { o.Wait = 20 * time.Millisecond }), rdb(t, s)
	two := list(t, c, 1, 2)
	theirs, _ := entry{kind: valued, data: []byte("theirs")}.marshal()
	raw.Set(t.Context(), two[0].String(), newToken().lease(), time.Minute)
	got, err := c.GetMany(t.Context(), two, time.Minute, func(ctx context.Context, q Querier, missing []Key) (map[Key][]byte, error) {
		time.Sleep(2 * c.o.Wait) // it is slow
		raw.Set(ctx, two[0].String(), theirs, time.Minute)
		return sh.names(new([]int))(ctx, q, missing)
	})
	if err != nil || string(got[0].Data) != "theirs" || string(got[1].Data) != "name 2" {
		t.Errorf("%v, %v", got, err)
	}
	counted(t, c, map[Event]int64{Miss: 1, Stored: 1, Waited: 1, Hit: 1})
}

// TestGetManyPastTogether: keys for which Redis has no answer, and keys that others
// fill, are one load.
func TestGetManyPastTogether(t *testing.T) {
	s, sh := envtest.Redis(t), newShelf(t)
	raw, user := rdb(t, s), strings.ReplaceAll(sh.table, ".", "_")
	if err := raw.ACLSetUser(t.Context(), user, "on", ">secret", "+@all", "~item:"+sh.table+":1").Err(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.ACLDelUser(context.WithoutCancel(t.Context()), user) })
	c := sh.client(t, s.Addr, func(o *Options) {
		o.Redis.Username, o.Redis.Password = user, "secret"
		o.Wait, o.MaxLoads = 20*time.Millisecond, 1
	})
	two := list(t, c, 1, 2)
	raw.Set(t.Context(), two[0].String(), newToken().lease(), time.Minute)
	var asked []int
	got, err := c.GetMany(t.Context(), two, time.Minute, sh.names(&asked))
	if err != nil || string(got[0].Data) != "name 1" || string(got[1].Data) != "name 2" || !slices.Equal(asked, []int{2}) {
		t.Errorf("%v, %v; fills of %v keys", got, err, asked)
	}
	counted(t, c, map[Event]int64{Waited: 1, Busy: 1, Unreachable: 1})
}
