package testenv_test

import (
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestRedisAndValkeyKeepDataAndAddress(t *testing.T) {
	for name, start := range map[string]func(testing.TB, ...testenv.RedisOptions) *testenv.Server{"redis": envtest.Redis, "valkey": envtest.Valkey} {
		t.Run(name, func(t *testing.T) {
			s := start(t, testenv.RedisOptions{})
			c := testenv.OpenRedis(s)
			defer c.Close()
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
				t.Fatal(err)
			}
			restart(t, s)
			if v, err := c.Get(t.Context(), "k").Result(); err != nil || v != "v" {
				t.Fatalf("after kill and start: %q, %v", v, err)
			}
		})
	}
}

func TestRedisInMemoryComesBackEmpty(t *testing.T) {
	s := envtest.Redis(t, testenv.RedisOptions{Memory: true})
	c := testenv.OpenRedis(s)
	defer c.Close()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	restart(t, s)
	if n, err := c.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Fatalf("after kill and start: %d keys, %v", n, err)
	}
}

type sqlStart = func(testing.TB, ...testenv.MySQLOptions) *testenv.Server

var sqlServers = map[string]sqlStart{"mysql": envtest.MySQL, "mariadb": envtest.MariaDB}

func TestMySQLAndMariaDBKeepDataAndAddress(t *testing.T) {
	for name, start := range sqlServers {
		t.Run(name, func(t *testing.T) {
			s := start(t, testenv.MySQLOptions{})
			db, name := envtest.DB(t, s), envtest.Database(t, s)
			exec(t, db, "CREATE TABLE "+name+".t (id INT PRIMARY KEY); INSERT INTO "+name+".t VALUES (7)")
			restart(t, s)
			got := row(t, db, "SELECT CONCAT_WS(' ', id, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata) FROM "+name+".t")
			if got != "7 ROW FULL FULL" {
				t.Fatal(got)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := row(t, db, "SELECT id FROM "+name+".t"); got != "7" {
				t.Fatal(got)
			}
		})
	}
}

func TestMySQLArgsWin(t *testing.T) {
	s := envtest.MySQL(t, testenv.MySQLOptions{Args: []string{"--enforce-gtid-consistency=OFF", "--gtid-mode=OFF", "--lower-case-table-names=1"}})
	if got := row(t, envtest.DB(t, s), "SELECT CONCAT_WS(' ', @@gtid_mode, @@lower_case_table_names)"); got != "OFF 1" {
		t.Fatal(got)
	}
}

func TestReplicaFollows(t *testing.T) {
	for name, start := range sqlServers {
		t.Run(name, func(t *testing.T) {
			source := start(t)
			replica := start(t, testenv.MySQLOptions{ReplicaOf: source})
			database := envtest.Database(t, source)
			exec(t, envtest.DB(t, source), "CREATE TABLE "+database+".t (id INT PRIMARY KEY); INSERT INTO "+database+".t VALUES (7)")
			wait := waits[name]
			position := row(t, envtest.DB(t, source), wait.position)
			db := envtest.DB(t, replica)
			if got := row(t, db, fmt.Sprintf(wait.until, position)); got != "0" {
				t.Fatalf("%s did not arrive within 20 s", position)
			}
			if got := row(t, db, "SELECT id FROM "+database+".t"); got != "7" {
				t.Fatal(got)
			}
			if a, b := row(t, db, "SELECT @@server_id"), row(t, envtest.DB(t, source), "SELECT @@server_id"); a == b {
				t.Fatalf("source and replica both have server id %s", a)
			}
		})
	}
}

// waits says how each kind of server names what it has written, and how another one waits for it.
var waits = map[string]struct{ position, until string }{
	"mysql":   {"SELECT @@gtid_executed", "SELECT WAIT_FOR_EXECUTED_GTID_SET('%s', 20)"},
	"mariadb": {"SELECT @@gtid_binlog_pos", "SELECT MASTER_GTID_WAIT('%s', 20)"},
}

func TestCopiesOfTheTemplateAreDifferentServers(t *testing.T) {
	a, b := envtest.DB(t, envtest.MySQL(t)), envtest.DB(t, envtest.MySQL(t, testenv.MySQLOptions{Fast: true}))
	if x, y := row(t, a, "SELECT @@server_uuid"), row(t, b, "SELECT @@server_uuid"); x == y {
		t.Fatalf("both servers have server_uuid %s", x)
	}
}

func exec(t *testing.T, db *sql.DB, stmt string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), stmt); err != nil {
		t.Fatal(err)
	}
}

// row returns the one value that a query gives. The driver notices a killed server only when it uses its connection.
func row(t *testing.T, db *sql.DB, query string) (value string) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
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
