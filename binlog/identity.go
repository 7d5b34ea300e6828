package binlog

import "slices"

// maxRecent bounds the transactions whose commit times are remembered until a
// position is made of one of them.
const maxRecent = 1 << 16

// remember notes when a transaction that was delivered had been committed.
func (h *history) remember(id identity) {
	if id.At == 0 {
		return // the server does not say
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.recent) >= maxRecent {
		h.recent = slices.Delete(h.recent, 0, maxRecent/2)
	}
	h.recent = append(h.recent, id)
}

// newest returns the identity of the last of some transactions, and forgets
// what came before it. The caller holds the lock.
func (h *history) newest(gtids []string) (identity, bool) {
	for _, g := range slices.Backward(gtids) {
		if g == "" {
			continue
		}
		for i, id := range slices.Backward(h.recent) {
			if id.GTID == g {
				h.recent = slices.Delete(h.recent, 0, i)
				return id, true
			}
		}
	}
	return identity{}, false
}

// verifiable returns the set to read from. Where the position names one of its
// transactions and that is still in the binlogs, the set is without it: the
// server sends it again, and it can be seen whether it is the same one. MariaDB
// cannot leave one out, and older MySQL servers do not tell the commit time.
func (h *history) verifiable(pos position, set gtidSet) (gtidSet, identity) {
	h.mu.Lock()
	purged := h.purged
	h.mu.Unlock()
	mine, ok := set.(*mysqlSet)
	if !ok || pos.Last == nil || purged == nil {
		return set, identity{}
	}
	less, ok := mine.without(pos.Last.GTID)
	if !ok || !less.contains(purged) {
		return set, identity{}
	}
	return less, *pos.Last
}
