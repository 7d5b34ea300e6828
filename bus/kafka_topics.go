package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	defaultRetention  = 7 * 24 * time.Hour
	preparedRetention = 30 * 24 * time.Hour
	deadRetention     = 90 * 24 * time.Hour
	maxMessageBytes   = 4 << 20
	topicPatience     = 20 * time.Second // for a new topic to have leaders
)

// topicSpec is a topic as this package makes it.
type topicSpec struct {
	name       string
	partitions int
	compact    bool
	keep       time.Duration // as configured; 0 where nothing is
	settings   map[string]string
}

func (k *Kafka) topics(replication int) []topicSpec {
	isr := "1"
	if replication >= 3 {
		isr = "2"
	}
	settings := func(more map[string]string) map[string]string {
		more["min.insync.replicas"] = isr
		more["unclean.leader.election.enable"] = "false"
		more["max.message.bytes"] = strconv.Itoa(maxMessageBytes)
		return more
	}
	keep := func(configured, otherwise time.Duration) map[string]string {
		ms := cmp.Or(configured, otherwise).Milliseconds()
		return settings(map[string]string{"cleanup.policy": "delete", "retention.ms": strconv.FormatInt(ms, 10), "retention.bytes": "-1"})
	}
	c := &k.config
	return []topicSpec{
		{k.live, c.Partitions, false, c.Retention, keep(c.Retention, defaultRetention)},
		{k.replayTopic(), c.Partitions, false, c.Retention, keep(c.Retention, defaultRetention)},
		{k.positionsTopic(), 1, true, 0, settings(map[string]string{
			"cleanup.policy": "compact", "segment.ms": "3600000", "min.cleanable.dirty.ratio": "0.2"})},
		{k.preparedTopic(), 1, false, c.PreparedRetention, keep(c.PreparedRetention, preparedRetention)},
		{k.deadTopic(), 1, false, c.Retention, keep(0, deadRetention)},
	}
}

// EnsureTopics is the preflight of the log: it looks for the brokers and the
// topics, makes missing topics where create is set, and reports everything that
// is wrong, or weaker than the guarantees need, with its fix. What is wrong with
// the topic of replays is a warning to who does not replay: live changes need
// nothing of it. The error is for what kept it from looking; ctx bounds it.
func (k *Kafka) EnsureTopics(ctx context.Context, create bool) ([]pipeline.Finding, error) {
	findings, reached := k.checkBrokers(ctx)
	if !reached {
		return findings, nil
	}
	meta, err := k.reading.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return findings, fmt.Errorf("ask kafka for its brokers: %w", k.explain(err))
	}
	replication := k.config.Replication
	if replication == 0 {
		replication = min(3, len(meta.Brokers))
	}
	if replication > len(meta.Brokers) {
		findings = append(findings, refused("kafka replication", fmt.Sprintf("replication %d is asked for, but there are %d brokers", replication, len(meta.Brokers)),
			"start more brokers, or set log.kafka.replication lower"))
		return findings, nil
	}
	for _, spec := range k.topics(replication) {
		found, err := k.ensureTopic(ctx, spec, replication, create)
		if err != nil {
			return findings, err
		}
		if spec.name == k.replayTopic() && spec.name != k.config.Topic {
			found = onlyWarned(found)
		}
		findings = append(findings, found...)
	}
	more, err := k.checkOffsets(ctx, meta)
	return append(together(findings), more...), err
}

// together makes one finding of notes that say the same of several topics. Their
// fixes, where they are commands, stand below each other.
func together(findings []pipeline.Finding) (all []pipeline.Finding) {
	at := map[string]int{} // by problem
	for _, f := range findings {
		i, ok := at[f.Problem]
		if f.Severity != pipeline.Note || !ok {
			if f.Severity == pipeline.Note {
				at[f.Problem] = len(all)
			}
			all = append(all, f)
			continue
		}
		one := &all[i]
		one.Check += ", " + strings.TrimPrefix(f.Check, checkTopic)
		if command, ok := strings.CutPrefix(f.Fix, createIt); ok {
			one.Fix += command
		}
	}
	return all
}

const (
	checkTopic = "kafka topic "
	createIt   = "nothing, or, to create it yourself:"
)

func refused(check, problem, fix string) pipeline.Finding {
	return pipeline.Finding{Severity: pipeline.Refusal, Check: check, Problem: problem, Fix: fix}
}

// onlyWarned makes warnings of refusals.
func onlyWarned(findings []pipeline.Finding) []pipeline.Finding {
	for i := range findings {
		if f := &findings[i]; f.Severity == pipeline.Refusal {
			f.Severity, f.Problem = pipeline.Warning, f.Problem+"; until this is mended nothing can be replayed"
		}
	}
	return findings
}

// checkBrokers asks each given broker by itself, to name those that do not answer.
func (k *Kafka) checkBrokers(ctx context.Context) (findings []pipeline.Finding, reached bool) {
	for _, broker := range k.config.Brokers {
		// A connection of its own: the transport would ask any broker.
		conn, err := k.dialer.DialContext(ctx, "tcp", broker)
		if err == nil {
			_, err = conn.ApiVersions()
			err = errors.Join(err, conn.Close())
		}
		if err == nil {
			reached = true
			continue
		}
		findings = append(findings, pipeline.Finding{
			Severity: pipeline.Warning, Check: "kafka broker " + broker, Problem: k.explain(err).Error(),
			Fix: "start the broker, or correct log.kafka.brokers (and its tls and sasl)",
		})
	}
	if !reached {
		for i := range findings {
			findings[i].Severity = pipeline.Refusal
		}
	}
	return findings, reached
}

// partitions returns how many partitions a topic has; 0 if it does not exist.
func (k *Kafka) partitions(ctx context.Context, topic string) (int, error) {
	meta, err := k.reading.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, err
	}
	for _, t := range meta.Topics {
		if t.Name != topic || errors.Is(t.Error, kafka.UnknownTopicOrPartition) {
			continue
		}
		if t.Error != nil {
			return 0, t.Error
		}
		for _, p := range t.Partitions {
			if p.Error != nil && !errors.Is(p.Error, kafka.ReplicaNotAvailable) {
				return 0, fmt.Errorf("partition %d of %s: %w", p.ID, topic, p.Error)
			}
		}
		return len(t.Partitions), nil
	}
	return 0, nil
}

func (k *Kafka) ensureTopic(ctx context.Context, spec topicSpec, replication int, create bool) ([]pipeline.Finding, error) {
	check := checkTopic + spec.name
	partitions, err := k.partitions(ctx, spec.name)
	if errors.Is(err, kafka.LeaderNotAvailable) { // it is being made, or a broker is coming back
		if err = k.awaitLeaders(ctx, spec.name, 1); err == nil {
			partitions, err = k.partitions(ctx, spec.name)
		}
	}
	switch {
	case errors.Is(err, kafka.TopicAuthorizationFailed):
		return []pipeline.Finding{refused(check, "the user may not see it", "allow Describe on it (docs/operations.md lists all rights)")}, nil
	case err != nil:
		return nil, fmt.Errorf("look for topic %s: %w", spec.name, k.explain(err))
	case partitions == 0 && !create:
		return []pipeline.Finding{{Severity: pipeline.Note, Check: check,
			Problem: "it does not exist yet: a start creates it", Fix: createIt + "\n    " + k.create(spec, replication)}}, nil
	case partitions == 0:
		err := k.createTopic(ctx, spec, replication)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, kafka.TopicAlreadyExists) {
			return []pipeline.Finding{refused(check, fmt.Sprintf("it does not exist and cannot be created: %v", k.explain(err)), "run: "+k.create(spec, replication))}, nil
		}
		if partitions, err = k.partitions(ctx, spec.name); err != nil {
			return nil, err
		}
	}
	var findings []pipeline.Finding
	if partitions < spec.partitions {
		findings = append(findings, refused(check, fmt.Sprintf("it has %d partitions, the configuration says %d", partitions, spec.partitions),
			fmt.Sprintf("set log.kafka.partitions to %d, or add partitions: %s --alter --topic %s --partitions %d", partitions, k.tool("topics"), spec.name, spec.partitions)))
	} else if partitions > spec.partitions {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: check,
			Problem: fmt.Sprintf("it has %d partitions, of which the tailer uses %d", partitions, spec.partitions), Fix: fmt.Sprintf("set log.kafka.partitions to %d", partitions)})
	}
	more, err := k.checkSettings(ctx, spec)
	return append(findings, more...), err
}

// createTopic creates a topic and waits until its partitions have leaders.
func (k *Kafka) createTopic(ctx context.Context, spec topicSpec, replication int) error {
	config := kafka.TopicConfig{Topic: spec.name, NumPartitions: spec.partitions, ReplicationFactor: replication}
	for _, name := range spec.names() {
		config.ConfigEntries = append(config.ConfigEntries, kafka.ConfigEntry{ConfigName: name, ConfigValue: spec.settings[name]})
	}
	res, err := k.producing.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{config}})
	if err == nil {
		err = res.Errors[spec.name]
	}
	if errors.Is(err, kafka.TopicAlreadyExists) {
		// Another process made it just now: its leaders may be on their way too.
		if aerr := k.awaitLeaders(ctx, spec.name, 1); aerr != nil {
			return aerr
		}
		return err
	}
	if err != nil {
		return err
	}
	k.logger.Info("created the topic", "topic", spec.name, "partitions", spec.partitions, "replication", replication)
	return k.awaitLeaders(ctx, spec.name, spec.partitions)
}

// awaitLeaders waits until a topic has leaders for that many partitions.
func (k *Kafka) awaitLeaders(ctx context.Context, topic string, partitions int) error {
	ctx, cancel := context.WithTimeout(ctx, topicPatience)
	defer cancel()
	for {
		n, err := k.partitions(ctx, topic)
		if err == nil && n >= partitions {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("it was created, but has no leaders yet: %w", errors.Join(err, ctx.Err()))
		}
		pause(ctx, 100*time.Millisecond)
	}
}

func (s *topicSpec) names() []string {
	names := make([]string, 0, len(s.settings))
	for name := range s.settings {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// create is the command that makes the topic.
func (k *Kafka) create(s topicSpec, replication int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s --create --topic %s --partitions %d --replication-factor %d", k.tool("topics"), s.name, s.partitions, replication)
	for _, name := range s.names() {
		fmt.Fprintf(&b, " --config %s=%s", name, s.settings[name])
	}
	return b.String()
}

// tool is how an operator runs one of Kafka's command-line tools against these
// brokers. With TLS or a log-in it needs a file of the client's settings.
func (k *Kafka) tool(name string) string {
	command := fmt.Sprintf("kafka-%s.sh --bootstrap-server %s", name, k.config.Brokers[0])
	if k.config.TLS != nil || k.config.SASL != nil {
		command += " --command-config client.properties"
	}
	return command
}
