package main

import (
	"slices"
	"sync"
	"sync/atomic"
)

// ledger knows the newest committed version of every key's row, and for every
// cache which version each fill under way holds between its SELECT and its SET.
// It is how races are counted exactly: the harness is the only writer and the
// only reader, in one process.
type ledger struct {
	committed []atomic.Uint32 // by id
	books     []*book         // by cache
}

// book is one cache's part of the ledger.
type book struct {
	holds []holding
	// late has the version, plus one, that a plain fill stored later than its
	// bound allows; 0 is none.
	late []atomic.Uint32
	count
}

// holding is the versions that fills of one key hold.
type holding struct {
	mu       sync.Mutex
	versions []uint32
}

// count is what happened to one cache.
type count struct {
	races    atomic.Int64 // committed writes to a key that at least one fill straddled
	overlaps atomic.Int64 // those fills
	behind   atomic.Int64 // keys whose fill read an older version than was committed by then: a lagging replica, or a visibility stall
	fills    atomic.Int64 // keys stored
	refused  atomic.Int64 // keys whose lease was revoked before the store
	past     atomic.Int64 // keys loaded beside another's lease, and not stored
	beyond   atomic.Int64 // keys stored beyond the bound of plain fills
	checked  atomic.Int64 // keys compared with the table
	cached   atomic.Int64 // those of them that had a value
	excused  atomic.Int64 // stale, stored beyond the bound
	stale    atomic.Int64
	asked    atomic.Int64 // reads of users with tokens
	older    atomic.Int64 // those of them that returned less than the token stands for
}

func newLedger(keys, caches int) *ledger {
	l := &ledger{committed: make([]atomic.Uint32, keys)}
	for range caches {
		l.books = append(l.books, &book{holds: make([]holding, keys), late: make([]atomic.Uint32, keys)})
	}
	return l
}

// commit notes that a write was acknowledged: for each cache, every fill that
// holds an older version at this moment makes it a race.
func (l *ledger) commit(id int, version uint32) {
	l.committed[id].Store(version)
	for _, b := range l.books {
		n := b.holds[id].olderThan(version)
		if n > 0 {
			b.races.Add(1)
			b.overlaps.Add(int64(n))
		}
	}
}

func (h *holding) olderThan(version uint32) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, v := range h.versions {
		if v < version {
			n++
		}
	}
	return n
}

// hold notes what a SELECT returned; release takes it back just before the SET
// is sent.
func (l *ledger) hold(cache int, rows map[int]uint32) (release func()) {
	b := l.books[cache]
	for id, v := range rows {
		if v < l.committed[id].Load() {
			b.behind.Add(1)
		}
		h := &b.holds[id]
		h.mu.Lock()
		h.versions = append(h.versions, v)
		h.mu.Unlock()
	}
	return sync.OnceFunc(func() {
		for id, v := range rows {
			h := &b.holds[id]
			h.mu.Lock()
			if i := slices.Index(h.versions, v); i >= 0 {
				h.versions = slices.Delete(h.versions, i, i+1)
			}
			h.mu.Unlock()
		}
	})
}
