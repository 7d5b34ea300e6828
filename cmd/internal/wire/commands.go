package wire

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Tailer is the command binlog-tailer.
var Tailer = Command{
	Name:     "binlog-tailer",
	Synopsis: "follows a MySQL or MariaDB binlog and publishes the row\nchanges that the key schema names to Kafka.",
	Check: func(ctx context.Context, a *App, create bool) []pipeline.Finding {
		if a.Config.Log.Kafka == nil {
			return []pipeline.Finding{{
				Severity: pipeline.Refusal, Check: "log", Problem: "the log is embedded, so the tailer runs inside the invalidator",
				Fix: "start the invalidator alone, or set log.kafka to run them apart",
			}}
		}
		findings := append(a.checkSource(ctx), a.checkKafka(ctx, create)...)
		if slices.ContainsFunc(findings, func(f pipeline.Finding) bool { return f.Severity == pipeline.Refusal }) {
			return findings // perhaps there is no broker to ask
		}
		return append(findings, a.checkKafkaSource(ctx)...)
	},
	Run: func(ctx context.Context, a *App) error {
		return a.withKafka(ctx, func(log kafkaLog) error {
			return a.tail(ctx, log.Publisher(), log.Positions(a.Config.Source.Name), log.Prepared())
		})
	},
}

// Invalidator is the command invalidator.
var Invalidator = Command{
	Name:     "invalidator",
	Synopsis: "deletes the Redis keys that published row changes make stale, at\nonce and a second time when due. With log.embedded it follows the binlog too,\nand is the whole pipeline.",
	Deletes:  true,
	Check: func(ctx context.Context, a *App, create bool) []pipeline.Finding {
		findings := a.checkRedis(ctx)
		if a.Config.Log.Kafka != nil {
			findings = slices.Concat(findings, a.checkKafka(ctx, create), a.checkLag(ctx))
		} else {
			findings = slices.Concat(findings, a.checkDir(), a.checkSource(ctx))
		}
		return append(findings, a.checkReaders(ctx)...)
	},
	Run: func(ctx context.Context, a *App) error {
		if a.Config.Log.Embedded != nil {
			return a.runEmbedded(ctx)
		}
		return a.withKafka(ctx, func(log kafkaLog) error {
			return a.invalidate(ctx, log.Consumer(consumerName(a.Config)), log.DeadLetters(), a.handleReplays)
		})
	},
}

// kafkaLog is what the commands use of a log in Kafka.
type kafkaLog interface {
	Publisher() pipeline.Publisher
	Positions(source string) pipeline.Positions
	Prepared() pipeline.Prepared
	Consumer(group string) pipeline.Consumer
	DeadLetters() pipeline.DeadLetters
}

func (a *App) withKafka(ctx context.Context, fn func(kafkaLog) error) error {
	log, err := a.openKafka()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	err = fn(log)
	return errors.Join(err, closeLog(ctx, log))
}

// runEmbedded is the whole pipeline in one process.
func (a *App) runEmbedded(ctx context.Context) (err error) {
	log, err := a.openEmbedded()
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	a.showLog(log)
	a.awaitSource()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return a.tail(ctx, log.Publisher(), log.Positions(a.Config.Source.Name), log.Prepared())
	})
	g.Go(func() error {
		return a.invalidate(ctx, log.Consumer(consumerName(a.Config)), log.DeadLetters(), nil)
	})
	err = g.Wait()
	a.openLog.Store(nil)
	return errors.Join(err, log.Close())
}
