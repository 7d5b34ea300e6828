package wire

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/keys"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestReplaysBesideLiveChanges: what is published to the topic of replays is
// deleted in both passes by an invalidator that runs, and is counted apart.
func TestReplaysBesideLiveChanges(t *testing.T) {
	source, kafka, server := envtest.MySQL(t), envtest.Kafka(t), envtest.Redis(t)
	db, schema, topic := envtest.DB(t, source), envtest.Database(t, source), envtest.Topic(t)
	envtest.Exec(t, db, "CREATE TABLE "+schema+".item (id INT PRIMARY KEY)")
	config := write(t, map[string]string{
		"keys.yaml": fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: %s.item, key: '%s:{id}'}\n", schema, schema),
		"doubletap.yaml": fmt.Sprintf(`
source: {name: %s, addr: "%s", user: root}
log: {kafka: {brokers: ["%s"], topic: %s, partitions: 2}}
redis: {addrs: ["%s"]}
keys: keys.yaml
second_delete: {fill: 3s}
`, schema, source.Addr, kafka.Addr, topic, server.Addr),
	})
	run(t, Tailer, config).await("/readyz", 200, `"ready": true`)
	c := run(t, Invalidator, config)
	c.await("/readyz", 200, `"ready": true`)
	envtest.Exec(t, db, "INSERT INTO "+schema+".item VALUES (1)")
	written := one(t, db, "SELECT @@global.gtid_executed")
	c.await("/wait?timeout=60s&pass=second&gtid="+strings.ReplaceAll(written, "\n", ""), 200, `"done": true`)
	live := liveMetrics(c)

	client := redis.NewClient(&redis.Options{Addr: server.Addr})
	defer client.Close()
	named := []string{schema + ":1", schema + ":2", schema + ".old:1", schema + ".list"}
	put := func() {
		for _, k := range named {
			if err := client.Set(t.Context(), k, "stale", 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	put()
	log, err := bus.NewKafka(bus.KafkaConfig{Brokers: []string{kafka.Addr}, Topic: topic, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // a failure to publish is noticed before
	replay := log.Replay()
	publishEvents(t, replay.Publisher(),
		pipeline.Event{
			Kind: pipeline.KindChanges, Source: schema, GTID: written, CommittedAt: time.Now().Add(-time.Hour),
			Tables: []pipeline.TableRows{{DB: schema, Table: "item", Columns: []string{"id"}, Rows: []pipeline.Row{
				{Before: []keys.Value{{Kind: keys.Number, Text: "1"}}, After: []keys.Value{{Kind: keys.Number, Text: "2"}}},
			}}},
		},
		pipeline.Event{
			Kind: pipeline.KindKeys, Source: schema, GTID: written, Reason: "a test",
			Keys: []string{schema + ".list"}, Patterns: []string{schema + ".old:*"},
		})
	c.await("/metrics", 200, "doubletap_replay_deletes_total{pass=\"first\"} 2\n")
	c.await("/metrics", 200, "doubletap_replay_sweeps_total{pass=\"first\"} 1\n")
	if n := client.Exists(t.Context(), named...).Val(); n != 0 {
		t.Errorf("%d of %d keys outlived the first deletes", n, len(named))
	}
	put() // as slow cache fills do
	c.await("/metrics", 200, "doubletap_replay_sweeps_total{pass=\"second\"} 1\n")
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		first, second, err := replay.Backlog(t.Context(), topic+".invalidator.replay")
		if err == nil && first == 0 && second == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d and %d records behind, %v", first, second, err)
		}
	}
	if n := client.Exists(t.Context(), named...).Val(); n != 0 {
		t.Errorf("%d of %d keys outlived the second deletes", n, len(named))
	}
	if now := liveMetrics(c); !slices.Equal(now, live) {
		t.Errorf("a replay changed the metrics of live changes from\n%q to\n%q", live, now)
	}
	c.await("/metrics", 200, "doubletap_replay_partitions_owned 2\n")
	c.await("/readyz", 200, `"warnings": []`)
	for _, want := range []string{"replay=true partition=" + topic + ".replay/0", `msg="whole tables deleted" replay=true`} {
		if !strings.Contains(c.log.String(), want) {
			t.Errorf("the log has no line with %s", want)
		}
	}
}

// liveMetrics returns the lines of the metrics that count deletes of live changes.
func liveMetrics(c *command) []string {
	_, body := c.get("/metrics")
	return regexp.MustCompile(`(?m)^doubletap_(deletes|deleted_keys|sweeps|swept|second_deletes|commit_to_delete|partitions_owned|dead|over)[^ ]* .*$`).FindAllString(body, -1)
}

func publishEvents(t *testing.T, p pipeline.Publisher, events ...pipeline.Event) {
	t.Helper()
	var records []pipeline.Record
	for i, e := range events {
		all, err := pipeline.AppendRecords(nil, e)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range all {
			records = append(records, pipeline.Record{Partition: i % p.Partitions(), Data: data})
		}
	}
	done := make(chan error, 1)
	if err := p.Publish(t.Context(), records, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// large is a partition that always has a large record.
type large struct{ pipeline.Partition }

func (large) Read(_ context.Context, from int64) (pipeline.Fetch, error) {
	return pipeline.Fetch{Messages: []pipeline.Message{{Offset: from, Data: make([]byte, replayRate/8)}}, Next: from + 1}, nil
}

// A backlog of replays is read at a limited rate, by all partitions together.
func TestReplaysAreReadSlowly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		by := afterLive{live: newLiveFirst(), limit: rate.NewLimiter(replayRate, replayStep)}
		began := time.Now()
		var both sync.WaitGroup
		for range 2 {
			p := heldBack{large{}, by}
			both.Go(func() {
				for i := range int64(8) {
					if f, err := p.Read(t.Context(), i); f.Next != i+1 || err != nil {
						t.Errorf("%+v, %v", f, err)
					}
				}
			})
		}
		both.Wait()
		if took := time.Since(began); took < 1900*time.Millisecond || took > 2*time.Second {
			t.Errorf("two seconds' bytes took %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if f, err := (heldBack{large{}, by}).Read(ctx, 5); err == nil || f.Next != 5 {
			t.Errorf("after the end: %+v, %v", f, err)
		}
	})
}
