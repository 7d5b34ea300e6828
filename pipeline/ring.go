package pipeline

import (
	"sort"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// observation is what a server showed: every read that began after at sees it.
// All times are of this process's clock (I9).
type observation struct {
	set     gtid.Set
	written gtid.Set  // holds set, and whatever any read could see before asked
	at      time.Time // when the first answer with both came
	asked   time.Time // when the question was sent to which they were the answer last
}

// ring holds the observations of one server, oldest first; each set holds the
// one before. It is dense where it is young: a set that was shown t ago is found
// at most t/12 too late, however long ago that is.
type ring []observation

// maxRing bounds a ring. It reaches back for hours, as its length grows with the
// logarithm of its age; a set that was shown before that is found at its start.
const maxRing = 256

// add appends an answer that lost nothing of the last one.
func (r ring) add(o observation) ring {
	if n := len(r); n > 0 && r[n-1].set.HasAll(o.set) && r[n-1].written.HasAll(o.written) {
		r[n-1].asked = o.asked
		return r
	}
	at := o.at
	r = append(r, o)
	kept := r[:0]
	for i, o := range r {
		if i > 0 && i+1 < len(r) && r[i+1].at.Sub(kept[len(kept)-1].at) <= at.Sub(o.at)/12 {
			continue
		}
		kept = append(kept, o)
	}
	clear(r[len(kept):])
	if len(kept) > maxRing {
		kept = append(kept[:0], kept[1:]...)
	}
	return kept
}

// shown returns when need was there at the latest.
func (r ring) shown(need gtid.Set) (at time.Time, ok bool) {
	n := len(r)
	if n == 0 || !r[n-1].set.HasAll(need) {
		return time.Time{}, false
	}
	i := sort.Search(n, func(i int) bool { return r[i].set.HasAll(need) })
	return r[i].at, true
}

// beyond returns the oldest observation that has something which set has not.
func (r ring) beyond(set gtid.Set) (o observation, ok bool) {
	n := len(r)
	if n == 0 || set.HasAll(r[n-1].set) {
		return o, false
	}
	i := sort.Search(n, func(i int) bool { return !set.HasAll(r[i].set) })
	return r[i], true
}

// newest returns the last observation, the zero one without any.
func (r ring) newest() observation {
	if len(r) == 0 {
		return observation{}
	}
	return r[len(r)-1]
}
