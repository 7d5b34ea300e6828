package testenv_test

import (
	"context"
	"database/sql"
	"net"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// tool runs one of the servers' own tools and returns what it printed.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd, err := envtest.Shared(t).Tool(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := osexec.CommandContext(t.Context(), cmd[0], append(cmd[1:], args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

func TestSQLTools(t *testing.T) {
	for name, tools := range map[string][2]string{"mysql": {"mysql", "mysqlbinlog"}, "mariadb": {"mariadb", "mariadb-binlog"}} {
		t.Run(name, func(t *testing.T) {
			s := sqlServers[name](t)
			database := envtest.Database(t, s)
			host, port, _ := net.SplitHostPort(s.Addr)
			login := []string{"--no-defaults", "--protocol=tcp", "--host=" + host, "--port=" + port, "--user=root"}
			tool(t, tools[0], append(login, "-e", "CREATE TABLE "+database+".t (id INT PRIMARY KEY, v VARCHAR(9)); INSERT INTO "+database+".t VALUES (7, 'seven')")...)
			var file, rest string
			db := envtest.DB(t, s)
			rows, err := db.QueryContext(t.Context(), "SHOW BINARY LOGS")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				if err := scanFirst(rows, &file); err != nil {
					t.Fatal(err)
				}
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			text := tool(t, tools[1], append(login, "--read-from-remote-server", "--verbose", "--base64-output=decode-rows", file)...)
			if _, rest, _ = strings.Cut(text, "### INSERT INTO `"+database+"`.`t`"); !strings.Contains(rest, "'seven'") {
				t.Errorf("no row in the decoded binlog:\n%s", text)
			}
		})
	}
}

func TestKafkaConsoleConsumer(t *testing.T) {
	s, topic := envtest.Kafka(t), envtest.Topic(t)
	c := &kafka.Client{Addr: kafka.TCP(s.Addr)}
	if _, err := c.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 1, ReplicationFactor: 1}}}); err != nil {
		t.Fatal(err)
	}
	w := &kafka.Writer{Addr: c.Addr, Topic: topic, RequiredAcks: kafka.RequireAll, BatchSize: 1}
	defer w.Close()
	if err := w.WriteMessages(context.Background(), kafka.Message{Value: []byte("hello")}); err != nil {
		t.Fatal(err)
	}
	out := tool(t, "kafka-console-consumer", "--bootstrap-server", s.Addr, "--topic", topic, "--from-beginning", "--max-messages", "1")
	if !strings.Contains(out, "hello") {
		t.Error(out)
	}
}

func TestKafkaOfThreeBrokers(t *testing.T) {
	s := envtest.Kafka(t, threeBrokers)
	if got := len(s.Addrs()); got != 3 {
		t.Fatalf("%d addresses", got)
	}
	topic := envtest.Topic(t)
	c := &kafka.Client{Addr: kafka.TCP(s.Addrs()...)}
	made, err := c.CreateTopics(t.Context(), &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: 3, ReplicationFactor: 3}}})
	if err != nil || made.Errors[topic] != nil {
		t.Fatal(err, made.Errors)
	}
	if err := s.Nodes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	w := &kafka.Writer{Addr: kafka.TCP(s.Nodes[1].Addr, s.Nodes[2].Addr), Topic: topic, RequiredAcks: kafka.RequireAll, BatchSize: 1, MaxAttempts: 1, Balancer: &kafka.RoundRobin{}}
	defer w.Close()
	waitFor(t, "all partitions to take a message without the first broker", func() bool {
		for range 3 {
			if w.WriteMessages(t.Context(), kafka.Message{Value: []byte("v")}) != nil {
				return false
			}
		}
		return true
	})
	if err := s.Nodes[0].Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var threeBrokers = testenv.KafkaOptions{Brokers: 3, Heap: "256m"}

// scanFirst reads the first column; how many there are differs by server.
func scanFirst(rows *sql.Rows, value *string) error {
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	into := []any{value}
	for range names[1:] {
		into = append(into, new(any))
	}
	return rows.Scan(into...)
}
