package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// KafkaConfig says which Kafka, and what its topics are like. Beside Topic there
// are Topic.positions, compacted, for the tailers' checkpoints, Topic.prepared
// for the rows of prepared XA transactions, Topic.dead for dead letters, and
// Topic.replay for what is replayed.
type KafkaConfig struct {
	Brokers     []string // host:port of some brokers; the others are found from them
	Topic       string
	Partitions  int
	Replication int           // of topics made here; 0 means min(3, number of brokers)
	Retention   time.Duration // of topics made here; 0 means 7 days
	// PreparedRetention is how long an XA transaction may stay prepared until its
	// rows are gone, and its tables are invalidated instead; 0 means 30 days.
	PreparedRetention time.Duration
	TLS               *tls.Config  // nil: no TLS
	SASL              *SASL        // nil: no log-in
	Logger            *slog.Logger // nil: silent
	Hooks             pipeline.Hooks
}

// SASL is a log-in. Mechanism is plain, scram-sha-256 or scram-sha-512.
type SASL struct{ Mechanism, User, Password string }

func (s *SASL) mechanism() (sasl.Mechanism, error) {
	switch strings.ToLower(s.Mechanism) {
	case "plain":
		return plain.Mechanism{Username: s.User, Password: s.Password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, s.User, s.Password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, s.User, s.Password)
	}
	return nil, fmt.Errorf("sasl mechanism %q is not known; use plain, scram-sha-256 or scram-sha-512", s.Mechanism)
}

const (
	// produceTimeout and readTimeout are when a broker that does not answer
	// counts as gone. kafka-go tells the broker half of it, as the time that it
	// may wait for replicas or records (v0.4.51 client.go).
	produceTimeout = 8 * time.Second
	readTimeout    = 4 * time.Second
	fetchWait      = time.Second // a read without records returns after this
	// metadataTTL bounds how long a former leader is asked; kafka-go does not
	// refresh by itself when a broker answers that it no longer leads.
	metadataTTL = time.Second
)

// Kafka is the log in a Kafka cluster. Its methods are safe for concurrent use.
type Kafka struct {
	config    KafkaConfig
	logger    *slog.Logger
	transport *kafka.Transport
	dialer    *kafka.Dialer // for consumer groups, which do not use transports
	producing *kafka.Client
	reading   *kafka.Client
	settle    time.Duration // see there
	// compression of what is published; bench_test.go compares.
	compression kafka.Compression

	batch  int    // about how much one request publishes, in bytes
	atOnce int64  // about how much one fetch brings, in bytes as Kafka stores them
	live   string // the topic after which the others are named; config.Topic, but in the log of replays
	open   *publishers
	// reached is about the live topic, also in the log of replays.
	reached *reached
}

// publishers are those that Close closes.
type publishers struct {
	mu  sync.Mutex
	all []*kafkaPublisher
}

// NewKafka checks the configuration. It does not connect.
func NewKafka(c KafkaConfig) (*Kafka, error) {
	var problems []error
	if len(c.Brokers) == 0 {
		problems = append(problems, errors.New("kafka: no broker is given"))
	}
	if c.Topic == "" {
		problems = append(problems, errors.New("kafka: no topic is given"))
	}
	if c.Partitions < 1 {
		problems = append(problems, fmt.Errorf("kafka: topic %s cannot have %d partitions", c.Topic, c.Partitions))
	}
	k := &Kafka{config: c, logger: c.Logger, compression: kafka.Snappy, settle: settle, batch: batchBytes, atOnce: fetchBytes, live: c.Topic, open: new(publishers), reached: newReached(max(0, c.Partitions))}
	if k.logger == nil {
		k.logger = slog.New(slog.DiscardHandler)
	}
	var mechanism sasl.Mechanism
	if c.SASL != nil {
		var err error
		if mechanism, err = c.SASL.mechanism(); err != nil {
			problems = append(problems, fmt.Errorf("kafka: %w", err))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	k.transport = &kafka.Transport{
		Dial: (&net.Dialer{Timeout: 3 * time.Second}).DialContext, DialTimeout: 5 * time.Second,
		ClientID: "doubletap", TLS: c.TLS, SASL: mechanism,
		MetadataTTL: metadataTTL, MetadataTopics: []string{c.Topic, k.replayTopic(), k.positionsTopic(), k.preparedTopic(), k.deadTopic()},
	}
	k.dialer = &kafka.Dialer{Timeout: 5 * time.Second, ClientID: "doubletap", TLS: c.TLS, SASLMechanism: mechanism}
	addr := kafka.TCP(c.Brokers...)
	k.producing = &kafka.Client{Addr: addr, Timeout: produceTimeout, Transport: k.transport}
	k.reading = &kafka.Client{Addr: addr, Timeout: readTimeout, Transport: k.transport}
	return k, nil
}

func (k *Kafka) replayTopic() string { return k.live + ".replay" }

func (k *Kafka) positionsTopic() string { return k.live + ".positions" }

func (k *Kafka) preparedTopic() string { return k.live + ".prepared" }

func (k *Kafka) deadTopic() string { return k.live + ".dead" }

// Close waits until the publishers' records are durable, or until ctx ends; it
// then gives them up with ErrClosed. It closes the log and its [Kafka.Replay]
// together. Consumers end with their own context.
func (k *Kafka) Close(ctx context.Context) error {
	k.open.mu.Lock()
	all := k.open.all
	k.open.all = nil
	k.open.mu.Unlock()
	var err error
	for _, p := range all {
		err = errors.Join(err, p.close(ctx))
	}
	k.transport.CloseIdleConnections()
	return err
}

// explain makes kafka-go's time-outs readable: its errors name no server, and a
// deadline of its own looks like the caller's.
func (k *Kafka) explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer from kafka (%s) in time: %w", strings.Join(k.config.Brokers, ", "), err)
	case errors.Is(err, kafka.TopicAuthorizationFailed), errors.Is(err, kafka.GroupAuthorizationFailed), errors.Is(err, kafka.ClusterAuthorizationFailed):
		return fmt.Errorf("%w; grant the user the rights that docs/operations.md lists", err)
	}
	return err
}
