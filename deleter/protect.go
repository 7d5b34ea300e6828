package deleter

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"sync"
	"time"
)

// withoutProtected returns the keys that may be deleted and reports the others.
// Retrying those would never succeed and hold up all other deletes, so they are
// no error: the preflight refuses a schema that can make such keys, and this is
// the second lock on the same door.
func (r *Redis) withoutProtected(keys []string) []string {
	first := slices.IndexFunc(keys, r.protect.match)
	if first < 0 {
		return keys
	}
	rest := slices.Clone(keys[:first])
	for _, k := range keys[first:] {
		if !r.protect.match(k) {
			rest = append(rest, k)
		}
	}
	n := len(keys) - len(rest)
	if f := r.cfg.Hooks.Refused; f != nil {
		f(n)
	}
	if total, ok := r.refusal.add(n); ok {
		r.log.Error("protected keys are not deleted; their values may be stale: the key schema makes keys that redis.protect covers",
			"keys", total, "first_key_hash", hash(keys[first]))
	}
	return rest
}

// hash stands for a key in logs: keys may be personal data.
func hash(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:6])
}

// refusal keeps a log from being flooded: one line at once, then one in ten
// seconds for all since.
type refusal struct {
	mu    sync.Mutex
	keys  int
	after time.Time
}

func (f *refusal) add(n int) (total int, now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys += n
	if time.Now().Before(f.after) {
		return 0, false
	}
	total, f.keys = f.keys, 0
	f.after = time.Now().Add(10 * time.Second)
	return total, true
}
