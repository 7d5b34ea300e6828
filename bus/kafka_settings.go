package bus

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// checkSettings compares a topic that existed before with what the guarantees need.
func (k *Kafka) checkSettings(ctx context.Context, spec topicSpec) ([]pipeline.Finding, error) {
	check := checkTopic + spec.name
	have, err := k.settings(ctx, kafka.ResourceTypeTopic, spec.name)
	if err != nil {
		return []pipeline.Finding{{Severity: pipeline.Warning, Check: check, Problem: fmt.Sprintf("its settings cannot be read: %v", k.explain(err)), Fix: "allow DescribeConfigs on it"}}, nil
	}
	alter := func(name, value string) string {
		return fmt.Sprintf("%s --alter --entity-type topics --entity-name %s --add-config %s=%s", k.tool("configs"), spec.name, name, value)
	}
	var findings []pipeline.Finding
	if policy, want := have["cleanup.policy"], spec.settings["cleanup.policy"]; policy != want {
		problem := "cleanup.policy is " + policy + ": compaction would remove events that have not been handled"
		if spec.compact {
			problem = "cleanup.policy is " + policy + ": a stored position would be removed after the retention time"
		}
		findings = append(findings, refused(check, problem, alter("cleanup.policy", want)))
	}
	if have["unclean.leader.election.enable"] == "true" {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: check,
			Problem: "unclean.leader.election.enable is true: acknowledged events can be lost", Fix: alter("unclean.leader.election.enable", "false")})
	}
	replicas, err := k.replicas(ctx, spec.name)
	if err != nil {
		return findings, err
	}
	isr, _ := strconv.Atoi(have["min.insync.replicas"])
	switch {
	case replicas >= 3 && isr < 2:
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: check,
			Problem: fmt.Sprintf("min.insync.replicas is %d: an event can be acknowledged by a single broker", isr), Fix: alter("min.insync.replicas", "2")})
	case replicas > 1 && isr >= replicas:
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: check,
			Problem: fmt.Sprintf("min.insync.replicas is %d of %d: nothing can be published while a broker is down", isr, replicas), Fix: alter("min.insync.replicas", strconv.Itoa(replicas-1))})
	case replicas == 1:
		findings = append(findings, pipeline.Finding{Severity: pipeline.Note, Check: check,
			Problem: "it has one replica: events are lost with their broker's disk", Fix: "use three brokers where that matters"})
	}
	if size, _ := strconv.Atoi(have["max.message.bytes"]); size < 2*batchBytes {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: check,
			Problem: fmt.Sprintf("max.message.bytes is %d: large events cannot be published", size), Fix: alter("max.message.bytes", spec.settings["max.message.bytes"])})
	}
	if ms, _ := strconv.ParseInt(have["retention.ms"], 10, 64); !spec.compact && ms >= 0 && ms < spec.keep.Milliseconds() {
		findings = append(findings, pipeline.Finding{Severity: pipeline.Warning, Check: check,
			Problem: fmt.Sprintf("it keeps events for %v, the configuration says %v", time.Duration(ms)*time.Millisecond, spec.keep), Fix: alter("retention.ms", spec.settings["retention.ms"])})
	}
	return findings, nil
}

// checkOffsets warns where the group's cursors can be forgotten before the events.
func (k *Kafka) checkOffsets(ctx context.Context, meta *kafka.MetadataResponse) ([]pipeline.Finding, error) {
	if len(meta.Brokers) == 0 {
		return nil, nil
	}
	have, err := k.settings(ctx, kafka.ResourceTypeBroker, strconv.Itoa(meta.Brokers[0].ID))
	if err != nil {
		return []pipeline.Finding{{Severity: pipeline.Note, Check: "kafka offsets.retention.minutes", Problem: fmt.Sprintf("it cannot be read: %v", k.explain(err)), Fix: "allow DescribeConfigs on the cluster, or check it by hand"}}, nil
	}
	minutes, _ := strconv.ParseInt(have["offsets.retention.minutes"], 10, 64)
	kept := time.Duration(minutes) * time.Minute
	if retention := max(k.config.Retention, 24*time.Hour); minutes > 0 && kept < retention {
		return []pipeline.Finding{{Severity: pipeline.Warning, Check: "kafka offsets.retention.minutes",
			Problem: fmt.Sprintf("an invalidator that is down for %v begins again at the oldest event", kept),
			Fix:     fmt.Sprintf("set offsets.retention.minutes=%d on the brokers", int(retention.Minutes()))}}, nil
	}
	return nil, nil
}

func (k *Kafka) settings(ctx context.Context, kind kafka.ResourceType, name string) (map[string]string, error) {
	res, err := k.reading.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kind, ResourceName: name}},
	})
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	for _, r := range res.Resources {
		if r.Error != nil {
			return nil, r.Error
		}
		for _, e := range r.ConfigEntries {
			settings[e.ConfigName] = e.ConfigValue
		}
	}
	if len(settings) == 0 {
		return nil, fmt.Errorf("no settings came for %s", name)
	}
	return settings, nil
}

func (k *Kafka) replicas(ctx context.Context, topic string) (int, error) {
	meta, err := k.reading.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{topic}})
	if err != nil {
		return 0, fmt.Errorf("look for the replicas of %s: %w", topic, k.explain(err))
	}
	for _, t := range meta.Topics {
		if t.Name == topic && len(t.Partitions) > 0 {
			return len(t.Partitions[0].Replicas), nil
		}
	}
	return 0, fmt.Errorf("look for the replicas of %s: no answer for it", topic)
}
