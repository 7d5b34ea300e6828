package testenv_test

import (
	"errors"
	"testing"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

func TestRedisKeepsDataAndAddress(t *testing.T) {
	s := envtest.Redis(t, testenv.RedisOptions{})
	c := testenv.OpenRedis(s)
	defer c.Close()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	restart(t, s)
	if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Fatalf("after kill and start: %q, %v", v, err)
	}
}

func TestMySQLKeepsDataAndAddress(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{})
	db, name := envtest.DB(t, s), envtest.Database(t, s)
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE "+name+".t (id INT PRIMARY KEY); INSERT INTO "+name+".t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	restart(t, s)
	var id int
	var mode, metadata string
	if err := db.QueryRowContext(t.Context(), "SELECT id, @@gtid_mode, @@binlog_row_metadata FROM "+name+".t").Scan(&id, &mode, &metadata); err != nil {
		t.Fatal(err)
	}
	if id != 7 || mode != "ON" || metadata != "FULL" {
		t.Fatalf("row %d, gtid_mode %s, binlog_row_metadata %s", id, mode, metadata)
	}
}

func TestKafkaKeepsDataAndAddress(t *testing.T) {
	s := envtest.Kafka(t, testenv.KafkaOptions{})
	topic := envtest.Topic(t)
	// A transport of its own for each life of the server: kafka-go v0.4.51 reports a pooled connection that has died as error
	// -1 of a partition (Client.ListOffsets), and does not retry.
	c := &kafka.Client{Addr: kafka.TCP(s.Addr), Transport: &kafka.Transport{}}
	made, err := c.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 2, ReplicationFactor: 1}}})
	if err := errors.Join(err, made.Errors[topic]); err != nil {
		t.Fatal(err)
	}
	w := &kafka.Writer{Addr: kafka.TCP(s.Addr), Topic: topic, RequiredAcks: kafka.RequireAll, BatchSize: 1}
	defer w.Close()
	if err := w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	restart(t, s)
	c.Transport = &kafka.Transport{}
	offsets, err := c.ListOffsets(t.Context(), &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: {kafka.LastOffsetOf(0), kafka.LastOffsetOf(1)}}})
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, p := range offsets.Topics[topic] {
		sum += p.LastOffset
	}
	if sum != 1 {
		t.Fatalf("%d messages after kill and start: %+v", sum, offsets.Topics)
	}
}

// restart kills a server and starts it again.
func restart(t *testing.T, s *testenv.Server) {
	t.Helper()
	addr, pid := s.Addr, s.Pid()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.Addr != addr || s.Pid() == pid {
		t.Fatalf("address %s and process %d, before %s and %d", s.Addr, s.Pid(), addr, pid)
	}
}
