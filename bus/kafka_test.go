package bus

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

var topicNumber atomic.Int64

func newTopic() string {
	return fmt.Sprintf("test.%d.%d", time.Now().UnixNano(), topicNumber.Add(1))
}

// openKafka returns a log in a server with new topics, closed at the test's end.
func openKafka(t *testing.T, server *testenv.Server, partitions int, hooks pipeline.Hooks) *Kafka {
	t.Helper()
	k := newKafka(t, server, newTopic(), partitions, hooks)
	findings, err := k.EnsureTopics(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Severity > pipeline.Note {
			t.Errorf("a topic made here has a finding: %v", f)
		}
	}
	return k
}

// newKafka returns a log in a server whose topics may not exist.
func newKafka(t *testing.T, server *testenv.Server, topic string, partitions int, hooks pipeline.Hooks) *Kafka {
	t.Helper()
	k, err := NewKafka(KafkaConfig{Brokers: server.Addrs(), Topic: topic, Partitions: partitions, Hooks: hooks, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	k.settle = time.Second // no leader is frozen, but where a test says so
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := k.Close(ctx); err != nil && !t.Failed() {
			t.Error(err)
		}
	})
	return k
}

func TestKafkaPassesTheSuite(t *testing.T) {
	server := envtest.Kafka(t)
	pipelinetest.RunLog(t, func(t *testing.T) pipelinetest.LogUnderTest {
		k := openKafka(t, server, 3, pipeline.Hooks{})
		return pipelinetest.LogUnderTest{
			Publisher: k.Publisher(), Consumer: func() pipeline.Consumer { return k.Consumer(k.config.Topic) },
			Positions: k.Positions("shop"), DeadLetters: k.DeadLetters(), Members: 2,
			Drop: func(below int64) { deleteRecords(t, k, 0, below) },
		}
	})
}

func outOfSync(ctx context.Context, k *Kafka) (missing int, err error) {
	meta, err := k.reading.Metadata(ctx, &kafka.MetadataRequest{Topics: k.transport.MetadataTopics})
	if err != nil {
		return 0, err
	}
	for _, topic := range meta.Topics {
		for _, p := range topic.Partitions {
			missing += len(p.Replicas) - len(p.Isr)
		}
	}
	return missing, nil
}
