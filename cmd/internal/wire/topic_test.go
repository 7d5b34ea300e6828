package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestTopicOfOneSource: a tailer whose topic is made anew while nothing happens in
// the source begins again with an invalidation of everything; and a tailer of
// another source is refused.
func TestTopicOfOneSource(t *testing.T) {
	source, server := envtest.MySQL(t), envtest.Kafka(t)
	schema, topic := envtest.Database(t, source), envtest.Topic(t)
	config := func(name string) string {
		return write(t, map[string]string{
			"keys.yaml": fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: %s.item, key: '%s:{id}'}\n", schema, schema),
			"doubletap.yaml": fmt.Sprintf(`
source: {name: %s, addr: "%s", user: root}
log: {kafka: {brokers: ["%s"], topic: %s, partitions: 2}}
redis: {addrs: ["127.0.0.1:1"]}
keys: keys.yaml
second_delete: {fill: 200ms}
`, name, source.Addr, server.Addr, topic),
		})
	}
	db := envtest.DB(t, source)
	envtest.Exec(t, db, "CREATE TABLE "+schema+".item (id INT PRIMARY KEY)")
	tailer := run(t, Tailer, config(schema))
	tailer.await("/readyz", 200, `"ready": true`)
	tailer.await("/metrics", 200, `doubletap_over_invalidations_total{reason="start"} 1`)

	log := &lines{}
	other, err := newApp(options{config: config(schema + ".other"), admin: "127.0.0.1:0"}, log)
	if err != nil {
		t.Fatal(err)
	}
	if code := Tailer.run(t.Context(), other); code != ExitUsage || !strings.Contains(log.String(), "it belongs to the source") || !strings.Contains(log.String(), "a topic of its own") {
		t.Errorf("a tailer of another source ended with %d:\n%s", code, log)
	}

	client := &kafka.Client{Addr: kafka.TCP(server.Addr)}
	deleted, err := client.DeleteTopics(t.Context(), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err != nil || deleted.Errors[topic] != nil {
		t.Fatal(err, deleted.Errors[topic])
	}
	remake, err := bus.NewKafka(bus.KafkaConfig{Brokers: []string{server.Addr}, Topic: topic, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(60 * time.Second); !strings.Contains(tailer.log.String(), "tailing begins again"); time.Sleep(100 * time.Millisecond) {
		// Until Kafka has deleted the topic, there is one.
		findings, err := remake.EnsureTopics(t.Context(), true)
		if time.Now().After(end) {
			t.Fatalf("the tailer does not notice; the topics: %v, %v", findings, err)
		}
	}
	tailer.await("/metrics", 200, `doubletap_over_invalidations_total{reason="gap"} 1`)
	tailer.await("/readyz", 200, `"ready": true`)
	if err := closeLog(t.Context(), remake); err != nil {
		t.Error(err)
	}
}
