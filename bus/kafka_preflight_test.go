package bus

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// expectFindings compares findings with "severity check: part of the problem".
func expectFindings(t *testing.T, findings []pipeline.Finding, want ...string) {
	t.Helper()
	for _, w := range want {
		severity, rest, _ := strings.Cut(w, " ")
		check, problem, _ := strings.Cut(rest, ": ")
		found := false
		for _, f := range findings {
			if f.Severity.String() == severity && strings.Contains(f.Check, check) && strings.Contains(f.Problem, problem) {
				found = true
				if f.Fix == "" {
					t.Errorf("no fix is given: %v", f)
				}
			}
		}
		if !found {
			t.Errorf("no finding %q in %v", w, findings)
		}
	}
}

func createTestTopic(t *testing.T, k *Kafka, topic string, partitions int, settings ...string) {
	t.Helper()
	config := kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, "=")
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: value})
	}
	res, err := k.producing.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
	if err != nil || res.Errors[topic] != nil {
		t.Fatal(err, res.Errors[topic])
	}
}

func TestKafkaPreflight(t *testing.T) {
	server := envtest.Kafka(t)
	t.Run("a missing topic is not made", func(t *testing.T) {
		k := newKafka(t, server, newTopic(), 4, pipeline.Hooks{})
		for range 2 {
			findings, err := k.EnsureTopics(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			topic := k.config.Topic
			expectFindings(t, findings, "note "+topic+": does not exist", "note "+topic+".positions: does not exist", "note "+topic+".dead: does not exist")
			create := "\n    kafka-topics.sh --bootstrap-server " + server.Addr + " --create --topic " + topic
			if len(findings) != 1 || strings.Count(findings[0].Fix, create) != 5 {
				t.Errorf("%d findings for one cause, or not a command for each topic: %v", len(findings), findings)
			}
		}
		err := k.Consumer("g").Run(t.Context(), func(context.Context, pipeline.Partition) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("a consumer of a missing topic: %v", err)
		}
	})
	t.Run("foreign settings", func(t *testing.T) {
		k := newKafka(t, server, newTopic(), 4, pipeline.Hooks{})
		createTestTopic(t, k, k.config.Topic, 2, "cleanup.policy=compact", "unclean.leader.election.enable=true", "max.message.bytes=1000")
		createTestTopic(t, k, k.positionsTopic(), 3, "cleanup.policy=delete")
		findings, err := k.EnsureTopics(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		topic := k.config.Topic
		expectFindings(t, findings,
			"refused "+topic+": it has 2 partitions", "refused "+topic+": cleanup.policy is compact",
			"warning "+topic+": unclean.leader.election", "warning "+topic+": max.message.bytes is 1000", "note "+topic+": one replica",
			"note "+topic+".positions: one replica",
			"refused "+topic+".positions: cleanup.policy is delete", "warning "+topic+".positions: it has 3 partitions")
		for _, f := range findings {
			if strings.Contains(f.Fix, "kafka-") && !strings.Contains(f.Fix, ".sh --bootstrap-server "+server.Addr+" --alter ") {
				t.Errorf("a command that does not say of which Kafka: %v", f)
			}
		}
		if n, err := k.partitions(t.Context(), k.deadTopic()); n != 1 || err != nil {
			t.Errorf("the missing topic was not made: %d partitions, %v", n, err)
		}
	})
	t.Run("what was made here passes", func(t *testing.T) {
		k := openKafka(t, server, 2, pipeline.Hooks{})
		findings, err := k.EnsureTopics(t.Context(), false)
		for _, f := range findings {
			if f.Severity > pipeline.Note {
				t.Error(f)
			}
		}
		if err != nil {
			t.Error(err)
		}
		settings, err := k.settings(t.Context(), kafka.ResourceTypeTopic, k.config.Topic)
		if err != nil || settings["retention.ms"] != "604800000" || settings["min.insync.replicas"] != "1" || settings["unclean.leader.election.enable"] != "false" {
			t.Errorf("settings %v, %v", settings, err)
		}
	})
	t.Run("too many replicas", func(t *testing.T) {
		k, err := NewKafka(KafkaConfig{Brokers: server.Addrs(), Topic: newTopic(), Partitions: 1, Replication: 3})
		if err != nil {
			t.Fatal(err)
		}
		findings, err := k.EnsureTopics(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		expectFindings(t, findings, "refused replication: replication 3 is asked for")
	})
}

func TestKafkaPreflightNamesBrokersThatDoNotAnswer(t *testing.T) {
	dead := envtest.FreeAddr(t)
	k, err := NewKafka(KafkaConfig{Brokers: []string{dead}, Topic: "x", Partitions: 1})
	if err != nil {
		t.Fatal(err)
	}
	findings, err := k.EnsureTopics(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	expectFindings(t, findings, "refused "+dead+": refused")
}

func TestKafkaConfigProblemsComeTogether(t *testing.T) {
	_, err := NewKafka(KafkaConfig{SASL: &SASL{Mechanism: "kerberos", Password: "secret"}})
	for _, want := range []string{"no broker", "no topic", "0 partitions", `"kerberos" is not known`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the password: %v", err)
	}
}

func TestKafkaRecordsThatAreTooLarge(t *testing.T) {
	k := newKafka(t, envtest.Kafka(t), newTopic(), 1, pipeline.Hooks{Retry: func(op string, _ int, err error, _ time.Duration) {
		t.Errorf("%s is tried again: %v", op, err)
	}})
	createTestTopic(t, k, k.config.Topic, 1, "max.message.bytes=20000")
	createTestTopic(t, k, k.deadTopic(), 1, "max.message.bytes=20000")
	if _, err := k.EnsureTopics(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	var records []pipeline.Record // together too large for one request, and one by itself
	for i := range 10 {
		size := 9000
		if i == 5 {
			size = 30000
		}
		data := make([]byte, size) // that cannot be compressed
		if _, err := rand.Read(data); err != nil {
			t.Fatal(err)
		}
		data[0] = '0' + byte(i)
		records = append(records, pipeline.Record{Data: data})
	}
	done := make(chan error, 2)
	if err := k.Publisher().Publish(t.Context(), records, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "30000 bytes") || !strings.Contains(err.Error(), "max.message.bytes") {
		t.Errorf("done: %v", err)
	}
	var got []byte
	readLog(t, k, 0, func(data []byte) { got = append(got, data[0]) })
	if string(got) != "012346789" {
		t.Errorf("in the log: %s", got)
	}
	letter := pipeline.DeadLetter{Partition: "p/0", Offset: 3, Reason: "why", Data: records[5].Data}
	if err := k.DeadLetters().Add(t.Context(), letter); err != nil {
		t.Errorf("a large dead letter: %v", err)
	}
}
