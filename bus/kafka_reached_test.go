package bus

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// makeAnew deletes the live topic and makes it again.
func makeAnew(t *testing.T, k *Kafka) {
	t.Helper()
	topic := k.config.Topic
	res, err := k.producing.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil || res.Errors[topic] != nil {
		t.Fatal(err, res.Errors[topic])
	}
	for {
		n, err := k.partitions(t.Context(), topic)
		if err == nil && n == 0 {
			break
		}
		pause(t.Context(), 50*time.Millisecond) // Kafka tells nobody
	}
	if _, err := k.EnsureTopics(t.Context(), true); err != nil {
		t.Fatal(err)
	}
}

// pending loads the position and returns what is pending. It tries as the tailer
// does: a topic that was made just now has leaders that do not know it yet.
func pending(t *testing.T, k *Kafka, position pipeline.Position) string {
	t.Helper()
	c, err := k.Positions("shop").Load(t.Context())
	for end := time.Now().Add(20 * time.Second); passing(err) && time.Now().Before(end); {
		pause(t.Context(), 100*time.Millisecond)
		c, err = k.Positions("shop").Load(t.Context())
	}
	if err != nil || c.Position != position {
		t.Fatalf("loaded %+v, %v; want %s", c, err, position)
	}
	return c.Pending
}

func TestKafkaTopicMadeAnew(t *testing.T) {
	server := envtest.Kafka(t)
	k := openKafka(t, server, 2, pipeline.Hooks{})
	restarted := func() *Kafka { return newKafka(t, server, k.config.Topic, 2, pipeline.Hooks{}) }
	expect := func(what string, k *Kafka, position pipeline.Position, want string) {
		t.Helper()
		if got := pending(t, k, position); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: pending %q, want %q", what, got, want)
		}
	}
	positions, publisher := k.Positions("shop").(*kafkaPositions), k.Publisher()
	expect("a first start", k, "", "")
	save := func(position pipeline.Position) {
		t.Helper()
		if err := positions.Save(t.Context(), pipeline.Checkpoint{Position: position}); err != nil {
			t.Fatal(err)
		}
	}
	save("first")
	expect("nothing was published yet", restarted(), "first", "")
	publishAll(t, publisher, "a", "b", "c", "d", "e")
	save("five")
	expect("nothing happened", restarted(), "five", "")
	deleteRecords(t, k, 0, 5)
	expect("retention removed everything", restarted(), "five", "")
	res, err := k.producing.CreatePartitions(t.Context(), &kafka.CreatePartitionsRequest{Topics: []kafka.TopicPartitionsConfig{{Name: k.config.Topic, Count: 3}}})
	if err != nil || res.Errors[k.config.Topic] != nil {
		t.Fatal(err, res.Errors)
	}
	if err := k.awaitLeaders(t.Context(), k.config.Topic, 3); err != nil {
		t.Fatal(err)
	}
	expect("the topic has grown", restarted(), "five", "")

	makeAnew(t, k)
	expect("it was made anew", restarted(), "five", "partition 0 ends at offset 0, but had reached 5")

	// The tailer runs on.
	select {
	case <-positions.Lost():
		t.Error("a loss is told before anything shows it")
	default:
	}
	publishAll(t, publisher, "f", "g")
	select {
	case <-positions.Lost():
	case <-time.After(10 * time.Second):
		t.Fatal("the loss is not told")
	}
	save("seven")
	reason := "partition 0 took a record at offset 0, but had reached 5"
	expect("stored after the loss", restarted(), "seven", reason)
	expect("and in the same process", k, "seven", reason)
	select {
	case <-positions.Lost():
		t.Error("the loss is told again")
	default:
	}
	publishAll(t, publisher, "h") // the whole invalidation
	save("eight")
	expect("it was mended", restarted(), "eight", "")

	// Stored by an earlier version, which knew no ends.
	makeAnew(t, k)
	old, err := json.Marshal(map[string]any{"position": "old", "number": 100})
	if err != nil {
		t.Fatal(err)
	}
	if err := k.produce(t.Context(), k.positionsTopic(), 0, []kafka.Record{{Key: kafka.NewBytes([]byte("shop")), Value: kafka.NewBytes(old)}}); err != nil {
		t.Fatal(err)
	}
	expect("empty, and no ends are known", restarted(), "old", "it is empty, but a position is stored")
	publishAll(t, publisher, "i")
	expect("no ends are known", restarted(), "old", "")
	expect("this process knows them", k, "old", "partition 0 took a record at offset 0, but had reached 3")
}

func TestKafkaLostOf(t *testing.T) {
	for _, c := range []struct {
		name      string
		had, ends []int64
		lost      string
	}{
		{"nothing is stored", []int64{}, []int64{0, 0}, ""},
		{"unknown, with records", nil, []int64{0, 1}, ""},
		{"unknown, empty", nil, []int64{0, 0}, "it is empty"},
		{"it went on", []int64{3, 0}, []int64{3, 7}, ""},
		{"more partitions", []int64{3}, []int64{3, 0}, ""},
		{"a lost tail", []int64{3, 7}, []int64{9, 6}, "partition 1 ends at offset 6, but had reached 7"},
		{"fewer partitions", []int64{3, 7}, []int64{9}, "it has no partition 1, which had reached offset 7"},
		{"fewer partitions, of which one was never used", []int64{3, 0}, []int64{3}, ""},
	} {
		if lost := lostOf("t", c.had, c.ends); (lost == "") != (c.lost == "") || !strings.Contains(lost, c.lost) {
			t.Errorf("%s: %q, want %q", c.name, lost, c.lost)
		}
	}
}

func TestKafkaTopicOfAnotherSource(t *testing.T) {
	k := openKafka(t, envtest.Kafka(t), 1, pipeline.Hooks{})
	refusals := func(source string, want ...string) {
		t.Helper()
		findings, err := k.CheckSource(t.Context(), source)
		if err != nil || len(findings) != len(want) {
			t.Errorf("source %q: %v, %v", source, findings, err)
		}
		expectFindings(t, findings, want...)
	}
	save := func(source string) {
		t.Helper()
		if err := k.Positions(source).Save(t.Context(), pipeline.Checkpoint{Position: "p"}); err != nil {
			t.Fatal(err)
		}
	}
	refusals("shop")
	save("shop")
	refusals("shop")
	refusals("other", `refused kafka topic: it belongs to the source "shop"`)
	// An earlier version let a second one publish: the one that stored last goes on.
	save("other")
	refusals("other")
	refusals("shop", `refused kafka topic: it belongs to the source "other"`)
	if err := k.produce(t.Context(), k.positionsTopic(), 0, []kafka.Record{{Key: kafka.NewBytes([]byte("other"))}}); err != nil {
		t.Fatal(err)
	}
	refusals("shop") // whose position is the newest again
}
