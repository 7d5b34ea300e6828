package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

const (
	// sessionTimeout is how long a member that was killed holds its partitions.
	sessionTimeout    = 8 * time.Second
	heartbeatInterval = 1500 * time.Millisecond
	joinBackoff       = 500 * time.Millisecond
	// slowOwner is when an owner that does not return holds up the whole group.
	slowOwner = 5 * time.Second
)

// Consumer returns a new member of a consumer group.
//
// It is built on kafka-go's ConsumerGroup, not on its Reader, which commits
// under a generation that is not the one a message was read in, and skips what
// retention removed without a word (v0.4.51 reader.go).
func (k *Kafka) Consumer(group string) pipeline.Consumer { return &kafkaConsumer{k, group} }

type kafkaConsumer struct {
	k     *Kafka
	group string
}

// Run implements pipeline.Consumer. A topic that does not exist is an error: a
// group that joins would create it, with the broker's defaults.
func (c *kafkaConsumer) Run(ctx context.Context, own func(context.Context, pipeline.Partition) error) error {
	if err := c.topicExists(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: c.group, Brokers: c.k.config.Brokers, Dialer: c.k.dialer, Topics: []string{c.k.config.Topic},
		GroupBalancers:    []kafka.GroupBalancer{kafka.RangeGroupBalancer{}},
		HeartbeatInterval: heartbeatInterval, SessionTimeout: sessionTimeout, RebalanceTimeout: sessionTimeout,
		JoinGroupBackoff: joinBackoff, StartOffset: kafka.FirstOffset, Timeout: readTimeout,
		WatchPartitionChanges: true, PartitionWatchInterval: 2 * time.Second,
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", c.group, err)
	}
	// Close waits for the owners, and then leaves the group, so that the other
	// members need not wait for the session to end.
	defer func() { _ = group.Close() }()
	fatal := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for attempt := 1; ; {
		generation, err := c.next(ctx, group, fatal)
		switch {
		case err == nil && generation == nil:
			return nil
		case err == nil:
			attempt = 1
			c.start(generation, own, fatal)
		case errors.Is(err, errOwner):
			return errors.Unwrap(err)
		default:
			// The group itself waits, and tries again.
			reportRetry(c.k.config.Hooks, c.k.logger, "join group "+c.group, attempt, c.k.explain(err), joinBackoff)
			attempt++
		}
	}
}

// errOwner marks an error of own.
var errOwner = errors.New("owner failed")

type ownerError struct{ error }

func (e ownerError) Is(target error) bool { return target == errOwner }
func (e ownerError) Unwrap() error        { return e.error }

// next returns the next generation; nil when ctx has ended.
func (c *kafkaConsumer) next(ctx context.Context, group *kafka.ConsumerGroup, fatal <-chan error) (*kafka.Generation, error) {
	type result struct {
		generation *kafka.Generation
		err        error
	}
	wait, cancel := context.WithCancel(ctx)
	results := make(chan result, 1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		g, err := group.Next(wait)
		results <- result{g, err}
	})
	select {
	case err := <-fatal:
		return nil, ownerError{err}
	case r := <-results:
		if ctx.Err() != nil {
			return nil, nil
		}
		return r.generation, r.err
	}
}

// start runs own for each partition of a generation.
func (c *kafkaConsumer) start(g *kafka.Generation, own func(context.Context, pipeline.Partition) error, fatal chan<- error) {
	assigned := g.Assignments[c.k.config.Topic]
	c.k.logger.Info("joined the group", "group", c.group, "generation", g.ID, "partitions", len(assigned))
	if joined := c.k.config.Hooks.Joined; joined != nil {
		joined(len(assigned))
	}
	for _, a := range assigned {
		g.Start(func(gctx context.Context) {
			// gctx has no values and ends with the generation; a context that can
			// be derived from cheaply is made of it once.
			ctx, cancel := context.WithCancel(gctx)
			defer cancel()
			err := c.own(ctx, g, a.ID, own)
			if gctx.Err() != nil {
				return
			}
			if err != nil && !errors.Is(err, pipeline.ErrFenced) {
				select {
				case fatal <- err:
				default:
				}
			}
			// Returning ends the generation for the whole member: not in a spin.
			pause(gctx, joinBackoff)
		})
	}
}

func (c *kafkaConsumer) own(ctx context.Context, g *kafka.Generation, partition int, own func(context.Context, pipeline.Partition) error) error {
	p := &kafkaPartition{k: c.k, group: c.group, generation: g, id: partition}
	if err := p.load(ctx); err != nil {
		return err
	}
	defer p.fence()
	late := context.AfterFunc(ctx, func() {
		p.late(slowOwner)
	})
	defer late()
	return own(ctx, p)
}

// topicExists waits until Kafka answers, or ctx ends. A new topic takes a moment
// until every broker knows it.
func (c *kafkaConsumer) topicExists(ctx context.Context) error {
	for attempt := 1; ctx.Err() == nil; attempt++ {
		partitions, err := c.k.partitions(ctx, c.k.config.Topic)
		if err == nil && partitions > 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("topic %s does not exist; start the tailer first, which creates it, or create it with %d partitions",
				c.k.config.Topic, c.k.config.Partitions)
			if attempt > 5 {
				return err
			}
		}
		reportRetry(c.k.config.Hooks, c.k.logger, "look for the topic", attempt, c.k.explain(err), joinBackoff)
		pause(ctx, joinBackoff)
	}
	return nil
}
