package pipelinetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// ErrReplyLost, returned by a function given to [Redis.Inject], makes a call do
// all its work and fail nevertheless, as when a connection breaks before the
// reply: the caller does not know what was deleted.
var ErrReplyLost = errors.New("the reply was lost")

// DeleteCall is one call of a [Redis] as a pipeline.Deleter. Patterns is set for
// DeletePatterns, Keys for Delete.
type DeleteCall struct {
	N        int // number of the call, from 1
	Keys     []string
	Patterns []string
}

// DeleteEntry is one deleted key in the log of a [Redis]. A key that did not
// exist has an entry too when it was named, not when it could only have matched
// a pattern.
type DeleteEntry struct {
	Call    int
	Key     string
	Pattern string // the pattern that matched, "" for a key that was named
	Existed bool
	Acked   bool // the call that deleted it returned nil
}

// Redis is an in-memory pipeline.Deleter with a map of keys. It does no I/O and
// starts no goroutines, so that it may be used in a synctest bubble (made inside
// it). It is safe for concurrent use.
type Redis struct {
	mu      sync.Mutex
	keys    map[string]string
	log     []DeleteEntry
	calls   int
	inject  func(context.Context, DeleteCall) error
	changed chan struct{} // closed at each change, nil while nobody waits
}

var _ pipeline.Deleter = (*Redis)(nil)

// NewRedis returns an empty Redis.
func NewRedis() *Redis { return &Redis{keys: map[string]string{}} }

// Set stores a value.
func (r *Redis) Set(key, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys[key] = value
	r.notify()
}

// Get returns a value, and whether the key exists.
func (r *Redis) Get(key string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, ok := r.keys[key]
	return v, ok
}

// Keys returns all keys that exist, sorted.
func (r *Redis) Keys() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.keys))
}

// Log returns all deletes so far, in order.
func (r *Redis) Log() []DeleteEntry {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// LogOf returns the deletes of one key so far, in order.
func (r *Redis) LogOf(key string) []DeleteEntry {
	return slices.DeleteFunc(r.Log(), func(e DeleteEntry) bool { return e.Key != key })
}

// Acked returns how often a delete of the key was acknowledged.
func (r *Redis) Acked(key string) int {
	n := 0
	for _, e := range r.LogOf(key) {
		if e.Acked {
			n++
		}
	}
	return n
}

// Calls returns the number of calls so far, failed ones included.
func (r *Redis) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// Inject has f called, without a lock held, at the start of every later call;
// nil removes it. It may sleep, to make Redis slow, or wait for ctx, to make it
// hang. If it returns an error, the call fails with it: after all its work for
// [ErrReplyLost], otherwise after the first half of the keys or patterns.
func (r *Redis) Inject(f func(ctx context.Context, c DeleteCall) error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inject = f
}

// Wait returns nil as soon as cond holds; cond is asked again after each change.
// It may call any method of r. The error is ctx's.
func (r *Redis) Wait(ctx context.Context, cond func() bool) error {
	for {
		r.mu.Lock()
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Delete implements pipeline.Deleter.
func (r *Redis) Delete(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	n, err := r.begin(ctx, DeleteCall{Keys: keys})
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, k := range keys[:done(len(keys), err)] {
		r.remove(DeleteEntry{Call: n, Key: k, Acked: err == nil})
	}
	r.notify()
	return err
}

// DeletePatterns implements pipeline.Deleter.
func (r *Redis) DeletePatterns(ctx context.Context, patterns []string) (int, error) {
	if len(patterns) == 0 {
		return 0, nil
	}
	n, err := r.begin(ctx, DeleteCall{Patterns: patterns})
	r.mu.Lock()
	defer r.mu.Unlock()
	deleted := 0
	for _, p := range patterns[:done(len(patterns), err)] {
		for _, k := range slices.Sorted(maps.Keys(r.keys)) {
			if Match(p, k) {
				r.remove(DeleteEntry{Call: n, Key: k, Pattern: p, Acked: err == nil})
				deleted++
			}
		}
	}
	r.notify()
	return deleted, err
}

// begin numbers a call and asks the injected function about it.
func (r *Redis) begin(ctx context.Context, c DeleteCall) (n int, err error) {
	r.mu.Lock()
	r.calls++
	c.N = r.calls
	inject := r.inject
	r.mu.Unlock()
	if inject != nil {
		err = inject(ctx, c)
	}
	if err == nil {
		err = ctx.Err()
	}
	return c.N, err
}

// done is how many of n things a call does before it ends with err.
func done(n int, err error) int {
	if err == nil || errors.Is(err, ErrReplyLost) {
		return n
	}
	return n / 2
}

func (r *Redis) remove(e DeleteEntry) {
	_, e.Existed = r.keys[e.Key]
	delete(r.keys, e.Key)
	r.log = append(r.log, e)
}

func (r *Redis) notify() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

// Match reports whether a key matches a Redis glob: * ? [a-z] [^a-z] and
// backslash. It is written for clarity, as the oracle for faster ones.
func Match(glob, key string) bool {
	if glob == "" {
		return key == ""
	}
	switch c := glob[0]; {
	case c == '*':
		for i := range len(key) + 1 {
			if Match(glob[1:], key[i:]) {
				return true
			}
		}
		return false
	case key == "":
		return false
	case c == '?':
		return Match(glob[1:], key[1:])
	case c == '[':
		in, rest := matchClass(glob[1:], key[0])
		return in && Match(rest, key[1:])
	case c == '\\' && len(glob) > 1:
		glob = glob[1:]
	}
	return glob[0] == key[0] && Match(glob[1:], key[1:])
}

// matchClass reads a class after its '[' and returns what follows its ']'. A
// class without ']' ends with the glob, as in Redis.
func matchClass(class string, b byte) (in bool, rest string) {
	not := class != "" && class[0] == '^'
	if not {
		class = class[1:]
	}
	for class != "" && class[0] != ']' {
		switch {
		case class[0] == '\\' && len(class) > 1:
			in = in || class[1] == b
			class = class[2:]
		case len(class) > 2 && class[1] == '-':
			lo, hi := min(class[0], class[2]), max(class[0], class[2])
			in = in || lo <= b && b <= hi
			class = class[3:]
		default:
			in = in || class[0] == b
			class = class[1:]
		}
	}
	if class != "" {
		class = class[1:]
	}
	return in != not, class
}
