// Package watermark reads how far the invalidators are, from the Redis that holds
// the cached keys. Invalidators post it (package deleter); applications and the
// admin port's /wait read it. There are three kinds of keys, which one Cluster slot
// holds for a source:
//
//	doubletap:{<source>}:watermarks           a hash: partition → Sets, kept for ever
//	doubletap:{<source>}:trusted:<partition>  a string: Trust, which expires
//	doubletap:{<source>}:turn:<partition>     whose turn it is to post, which expires; for invalidators only
//
// The key schema refuses templates that begin with "doubletap:".
package watermark

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/gtid"
)

// SetsKey is the key of a source's watermarks.
func SetsKey(source string) string { return "doubletap:{" + source + "}:watermarks" }

// TrustKey is the key of the trust in one partition of a source.
func TrustKey(source string, partition int) string {
	return "doubletap:{" + source + "}:trusted:" + strconv.Itoa(partition)
}

// TurnKey is the key of the turn to post in one partition of a source.
func TurnKey(source string, partition int) string {
	return "doubletap:{" + source + "}:turn:" + strconv.Itoa(partition)
}

// Sets is one partition's watermark, in JSON. Every key that a transaction in a
// set made stale in this partition has been deleted by that pass.
type Sets struct {
	Partitions int    `json:"partitions"` // how many there are
	First      string `json:"first"`
	Second     string `json:"second"`
}

// MaxPartitions is the largest number of partitions that is believed.
const MaxPartitions = 65_536

// ParseSets reads one partition's field. Its error says what is wrong with it: no
// such JSON, or a number of partitions that no log has.
func ParseSets(field string) (s Sets, err error) {
	if err := json.Unmarshal([]byte(field), &s); err != nil {
		return Sets{}, err
	}
	if s.Partitions > MaxPartitions {
		return Sets{}, fmt.Errorf("%d partitions: at most %d are read: what has written this?", s.Partitions, MaxPartitions)
	}
	return s, nil
}

// Trust says of one partition whose cached values may be older than the pipeline
// promises, in JSON.
type Trust struct {
	Untrusted []string `json:"untrusted"` // names of rules; "*" is all of them
	// Out holds the identities of servers that may serve no fills: second deletes
	// go on without them. "*" is one whose identity is not known: it may be any.
	Out []string `json:"out,omitempty"`
	// Schema is the hash of the key schema by which whoever vouches for the partition
	// makes keys; "" where it is of a release that does not say.
	Schema string `json:"schema,omitempty"`
	// Schemas is set by ReadTrust instead of Schema: those of the partitions that
	// somebody vouches for, one each. It is empty where nobody vouches for any.
	Schemas []string `json:"-"`
	// Expired is set by ReadTrust where nobody vouches for a partition: then
	// nothing is known, and Untrusted is "*".
	Expired bool `json:"-"`
}

// Pass is one of the two passes.
type Pass string

// The passes.
const (
	First  Pass = "first"
	Second Pass = "second"
)

// State is how far all partitions were when it was read. It does not change, and
// may be used by several goroutines.
type State struct {
	partitions []partition
	missing    string // why there is nothing to go by; "" where partitions is complete
}

type partition struct{ first, second gtid.Set }

func (p partition) set(pass Pass) gtid.Set {
	if pass == Second {
		return p.second
	}
	return p.first
}

// Read reads the watermarks of a source. It is one command, and no error where
// nothing was posted yet.
func Read(ctx context.Context, c redis.Cmdable, source string) (State, error) {
	fields, err := c.HGetAll(ctx, SetsKey(source)).Result()
	if err != nil {
		return State{}, fmt.Errorf("read the watermarks of %s: %w", source, err)
	}
	s, err := parse(fields)
	if err != nil {
		return State{}, fmt.Errorf("read the watermarks of %s: %w", source, err)
	}
	return s, nil
}

// parse takes the number of partitions from the first one, and then wants each of
// them to have that number: while a log grows, some still have the old one, and
// their sets do not speak of transactions in the new partitions. Fields beyond are
// of an earlier, larger log.
func parse(fields map[string]string) (s State, err error) {
	known := map[string]gtid.Set{} // all partitions have nearly the same sets
	read := func(text string) gtid.Set {
		set, ok := known[text]
		if !ok {
			var bad error
			if set, bad = gtid.Parse(text); bad != nil {
				err = errors.Join(err, bad)
			}
			known[text] = set
		}
		return set
	}
	for i, n := 0, 1; i < n; i++ {
		text, ok := fields[strconv.Itoa(i)]
		if !ok {
			return State{missing: fmt.Sprintf("partition %d: no watermark was posted yet: does an invalidator run?", i)}, nil
		}
		p, err := ParseSets(text)
		if err != nil {
			return State{}, fmt.Errorf("partition %d: %w", i, err)
		}
		if i == 0 {
			n = p.Partitions
		}
		if p.Partitions != n || n < 1 {
			return State{missing: fmt.Sprintf("partition %d: its watermark is of a log with %d partitions, that of partition 0 of one with %d", i, p.Partitions, n)}, nil
		}
		s.partitions = append(s.partitions, partition{read(p.First), read(p.Second)})
	}
	return s, err
}

// Covers says whether the pass has deleted every key that a transaction of the
// set made stale. Once true, it stays true for the set.
func (s State) Covers(set gtid.Set, pass Pass) bool {
	for _, p := range s.partitions {
		if !p.set(pass).HasAll(set) {
			return false
		}
	}
	return s.missing == "" && len(s.partitions) > 0
}

// Missing says for people what the pass has not done yet of the set: a line for
// each partition that is behind, or why that is not known. It is empty exactly
// where Covers is true.
func (s State) Missing(set gtid.Set, pass Pass) (lines []string) {
	if s.missing != "" {
		return []string{s.missing}
	}
	if len(s.partitions) == 0 {
		return []string{"no watermark was read yet"}
	}
	for i, p := range s.partitions {
		if n := p.set(pass).Missing(set); n > 0 {
			lines = append(lines, fmt.Sprintf("partition %d: %d of these transactions", i, n))
		}
	}
	return lines
}

// ReadTrust reads what the invalidators say of trust in all partitions together.
// It is two commands.
func ReadTrust(ctx context.Context, c redis.Cmdable, source string) (all Trust, err error) {
	expired := Trust{Untrusted: []string{"*"}, Expired: true}
	text, err := c.HGet(ctx, SetsKey(source), "0").Result()
	if errors.Is(err, redis.Nil) {
		return expired, nil
	}
	var p Sets
	if err == nil {
		p, err = ParseSets(text)
	}
	if err != nil {
		return all, fmt.Errorf("read the number of partitions of %s: %w", source, err)
	}
	if p.Partitions < 1 {
		return expired, nil
	}
	names := make([]string, p.Partitions)
	for i := range names {
		names[i] = TrustKey(source, i)
	}
	values, err := c.MGet(ctx, names...).Result()
	if err != nil {
		return all, fmt.Errorf("read the trust in %s: %w", source, err)
	}
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			all.Expired = true
			continue
		}
		var t Trust
		if err := json.Unmarshal([]byte(text), &t); err != nil {
			return all, fmt.Errorf("read the trust in partition %d of %s: %w", i, source, err)
		}
		all.Untrusted = append(all.Untrusted, t.Untrusted...)
		all.Out = append(all.Out, t.Out...)
		all.Schemas = append(all.Schemas, t.Schema)
	}
	if all.Expired {
		expired.Schemas = all.Schemas
		return expired, nil
	}
	return all, nil
}
