package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestKafkaReplayIsALogOfItsOwn: what is in one of the two topics is not in the
// other, and neither are cursors; dead letters and positions are shared.
func TestKafkaReplayIsALogOfItsOwn(t *testing.T) {
	k := openKafka(t, envtest.Kafka(t), 2, pipeline.Hooks{})
	replay, group := k.Replay(), newTopic()
	if n, err := k.partitions(t.Context(), k.config.Topic+".replay"); n != 2 || err != nil {
		t.Fatalf("the topic of replays has %d partitions, %v", n, err)
	}
	publishAll(t, k.Publisher(), "live")
	publishAll(t, replay.Publisher(), "again", "and again")
	for _, c := range []struct {
		log   *Kafka
		group string
		want  []string
	}{
		{k, group, []string{"live"}},
		{replay, group + ".replay", []string{"again", "and again"}},
	} {
		owned(t, c.log.Consumer(c.group), func(ctx context.Context, p pipeline.Partition) {
			if want := c.log.config.Topic + "/0"; p.Name() != want {
				t.Errorf("partition %s, want %s", p.Name(), want)
			}
			f, err := p.Read(ctx, 0)
			var got []string
			for _, m := range f.Messages {
				got = append(got, string(m.Data))
			}
			if !slices.Equal(got, c.want) || err != nil {
				t.Errorf("%s holds %q, %v, want %q", p.Name(), got, err, c.want)
			}
			if err := p.Store(ctx, pipeline.Cursors{First: f.Next, Second: f.Next}); err != nil {
				t.Error(err)
			}
		})
	}
	for _, d := range []pipeline.DeadLetters{k.DeadLetters(), replay.DeadLetters()} {
		if err := d.Add(t.Context(), pipeline.DeadLetter{Reason: "why"}); err != nil {
			t.Error(err)
		}
	}
	if _, end, err := k.bounds(t.Context(), k.config.Topic+".dead", 0); end != 2 || err != nil {
		t.Errorf("%d dead letters, %v", end, err)
	}
	if err := replay.Positions("shop").Save(t.Context(), pipeline.Checkpoint{Position: "p"}); err != nil {
		t.Fatal(err)
	}
	if c, err := k.Positions("shop").Load(t.Context()); c.Position != "p" || err != nil {
		t.Errorf("position %+v, %v", c, err)
	}
	// One Close ends the publishers of both.
	pub := replay.Publisher()
	if err := k.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish(t.Context(), []pipeline.Record{{Data: []byte("x")}}, func(error) {}); !errors.Is(err, ErrClosed) {
		t.Errorf("published after the close: %v", err)
	}
}

// TestKafkaReplayBegins: a consumer without cursors has missed nothing where
// nothing was dropped, and everything where something was.
func TestKafkaReplayBegins(t *testing.T) {
	replay := openKafka(t, envtest.Kafka(t), 1, pipeline.Hooks{}).Replay()
	begin := func(want string) {
		t.Helper()
		owned(t, replay.Consumer(newTopic()), func(_ context.Context, p pipeline.Partition) {
			if _, gap := p.Cursors(); (gap == "") != (want == "") || !strings.Contains(gap, want) {
				t.Errorf("gap %q, want %q", gap, want)
			}
		})
	}
	begin("")
	publishAll(t, replay.Publisher(), "a", "b", "c")
	begin("")
	deleteRecords(t, replay, 0, 2)
	begin("dropped unread")
}

// TestKafkaReplayTopicIsNotNeeded: what is wrong with the topic of replays keeps a
// replay from starting, and nothing else.
func TestKafkaReplayTopicIsNotNeeded(t *testing.T) {
	k := newKafka(t, envtest.Kafka(t), newTopic(), 2, pipeline.Hooks{})
	topic := k.config.Topic + ".replay"
	createTestTopic(t, k, topic, 1, "cleanup.policy=compact")
	for log, severity := range map[*Kafka]string{k: "warning", k.Replay(): "refused"} {
		findings, err := log.EnsureTopics(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		expectFindings(t, findings, severity+" "+topic+": it has 1 partitions", severity+" "+topic+": cleanup.policy is compact")
	}
}

func TestKafkaBacklog(t *testing.T) {
	k := openKafka(t, envtest.Kafka(t), 2, pipeline.Hooks{})
	replay, group := k.Replay(), newTopic()
	want := func(when string, first, second int64) {
		t.Helper()
		wantBacklog(t, when, replay, group, first, second)
	}
	want("nothing was published", 0, 0)
	publishAll(t, replay.Publisher(), "a", "b", "c", "d", "e")
	publishTo(t, replay, 1, "f", "g", "h")
	want("nothing is stored", 8, 8)
	wantBacklog(t, "another topic", k, group, 0, 0)
	owned(t, replay.Consumer(group), func(ctx context.Context, p pipeline.Partition) {
		if err := p.Store(ctx, pipeline.Cursors{First: 4, Second: 1}); err != nil {
			t.Error(err)
		}
	})
	want("one partition's are stored", 1+3, 4+3)
	owned(t, replay.Consumer(group), func(ctx context.Context, p pipeline.Partition) {
		if err := p.Store(ctx, pipeline.Cursors{First: 5, Second: 5, Marks: `{"readers":{"r":{"out":1}}}`}); err != nil {
			t.Error(err)
		}
	})
	want("second deletes are owed to a reader", 0+3, 1+3)
	owned(t, replay.Consumer(group), func(ctx context.Context, p pipeline.Partition) {
		if err := p.Store(ctx, pipeline.Cursors{First: 4, Second: 1, Marks: `{"readers":{"r":{}}}`}); err != nil {
			t.Error(err)
		}
	})
	want("it is back", 1+3, 4+3)
	deleteRecords(t, replay, 0, 3)
	want("records that are gone do not count", 1+3, 2+3)
	deleteRecords(t, replay, 1, 2)
	want("nor do those of the other partition", 1+1, 2+1)
	commit := kafka.OffsetCommit{Partition: 1, Offset: 3, Metadata: `{"first":3,"end":9}`}
	if _, err := k.reading.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
		GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{replay.config.Topic: {commit}},
	}); err != nil {
		t.Fatal(err)
	}
	want("cursors of a longer log", 1+1, 2+1)
	deleteRecords(t, replay, 0, 5)
	want("records went that nobody had handled: that is owed as well", 1+1, 1+1)
	missing := newKafka(t, envtest.Kafka(t), newTopic(), 1, pipeline.Hooks{})
	if _, _, err := missing.Backlog(t.Context(), group); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a topic that is missing: %v", err)
	}
}

func TestEmbeddedBacklog(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	wantBacklog(t, "nothing was published", e, "replay", 0, 0)
	publishAll(t, e.Publisher(), "a", "b", "c", "d")
	wantBacklog(t, "nothing is stored", e, "replay", 4, 4)
	owned(t, e.Consumer("replay"), func(ctx context.Context, p pipeline.Partition) {
		if err := p.Store(ctx, pipeline.Cursors{First: 3, Second: 1}); err != nil {
			t.Error(err)
		}
	})
	wantBacklog(t, "both are stored", e, "replay", 1, 3)
	wantBacklog(t, "another consumer", e, "invalidator", 4, 4)
	e = reopen(t, e)
	wantBacklog(t, "opened again", e, "replay", 1, 3)
	if err := put(e.state, cursorsBucket, "replay", storedCursors{Incarnation: "another", First: 3, Second: 3}); err != nil {
		t.Fatal(err)
	}
	wantBacklog(t, "of another incarnation", e, "replay", 4, 4)
}

type backlogged interface {
	Backlog(ctx context.Context, consumer string) (first, second int64, err error)
}

// wantBacklog asks until there is an answer: a new server takes a moment until it
// coordinates groups.
func wantBacklog(t *testing.T, when string, log backlogged, consumer string, first, second int64) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; {
		f, s, err := log.Backlog(t.Context(), consumer)
		if err != nil && time.Now().Before(until) {
			pause(t.Context(), 100*time.Millisecond)
			continue
		}
		if f != first || s != second || err != nil {
			t.Errorf("%s: %d and %d behind, %v, want %d and %d", when, f, s, err, first, second)
		}
		return
	}
}

func publishTo(t *testing.T, k *Kafka, partition int, data ...string) {
	t.Helper()
	for _, d := range data {
		if err := k.produce(t.Context(), k.config.Topic, partition, []kafka.Record{{Value: kafka.NewBytes([]byte(d))}}); err != nil {
			t.Fatal(fmt.Errorf("publish %q: %w", d, err))
		}
	}
}

// Where the topic of replays is missing, live changes are published and consumed
// all the same, and nobody makes it by asking for it.
func TestKafkaWithoutReplayTopic(t *testing.T) {
	k := newKafka(t, envtest.Kafka(t), newTopic(), 1, pipeline.Hooks{})
	for _, topic := range []string{k.config.Topic, k.positionsTopic(), k.preparedTopic(), k.deadTopic()} {
		createTestTopic(t, k, topic, 1)
	}
	findings, err := k.EnsureTopics(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	expectFindings(t, findings, "note "+k.config.Topic+".replay: does not exist yet")
	publishAll(t, k.Publisher(), "a")
	owned(t, k.Consumer(newTopic()), func(ctx context.Context, p pipeline.Partition) {
		if f, err := p.Read(ctx, 0); len(f.Messages) != 1 || err != nil {
			t.Errorf("%d records, %v", len(f.Messages), err)
		}
	})
	err = k.Replay().Consumer("g").Run(t.Context(), func(context.Context, pipeline.Partition) error { return nil })
	if err == nil || !strings.Contains(err.Error(), ".replay does not exist") {
		t.Errorf("a consumer of a missing topic: %v", err)
	}
	if n, err := k.partitions(t.Context(), k.config.Topic+".replay"); n != 0 || err != nil {
		t.Errorf("%d partitions, %v", n, err)
	}
}
