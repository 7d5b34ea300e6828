package wire

import (
	"context"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

func (a *App) checkSource(ctx context.Context) []pipeline.Finding {
	cfg, err := a.binlogConfig()
	if err != nil {
		return refuse("source", err)
	}
	findings, _ := binlog.Preflight(ctx, cfg)
	return findings
}

// checkReaders looks at the servers that cache fills read from.
func (a *App) checkReaders(ctx context.Context) []pipeline.Finding {
	source, err := a.binlogConfig()
	if err != nil {
		return refuse("source", err)
	}
	var readers []binlog.ReaderConfig
	for _, r := range a.Config.SecondDelete.Readers {
		cfg, err := a.readerConfig(r)
		if err != nil {
			return refuse("second_delete", err)
		}
		own := &a.Config.SecondDelete
		readers = append(readers, binlog.ReaderConfig{
			Config: cfg, Server: r.ServerUUID, SourceLogin: own.User == "", SourceTLS: own.TLS == nil && cfg.TLS != nil,
		})
	}
	return binlog.PreflightReaders(ctx, source, readers, a.Config.SecondDelete.MaxWait)
}

func (a *App) checkKafka(ctx context.Context, create bool) []pipeline.Finding {
	return a.lookAtKafka(ctx, func(log *bus.Kafka) ([]pipeline.Finding, error) { return log.EnsureTopics(ctx, create) })
}

// checkKafkaSource looks whose topic it is. It comes after checkKafka, which has
// looked for the brokers.
func (a *App) checkKafkaSource(ctx context.Context) []pipeline.Finding {
	return a.lookAtKafka(ctx, func(log *bus.Kafka) ([]pipeline.Finding, error) {
		return log.CheckSource(ctx, a.Config.Source.Name)
	})
}

func (a *App) lookAtKafka(ctx context.Context, look func(*bus.Kafka) ([]pipeline.Finding, error)) []pipeline.Finding {
	log, err := a.openKafka()
	if err != nil {
		return refuse("log", err)
	}
	findings, err := look(log)
	if err != nil {
		findings = append(findings, refuse("log", err)...)
	}
	if err := closeLog(ctx, log); err != nil {
		return append(findings, refuse("log", err)...)
	}
	return findings
}

func (a *App) checkRedis(ctx context.Context) []pipeline.Finding {
	redis, err := a.openRedis()
	if err != nil {
		return refuse("redis", err)
	}
	defer redis.Close()
	return redis.Preflight(ctx)
}

func refuse(check string, err error) []pipeline.Finding {
	return []pipeline.Finding{{Severity: pipeline.Refusal, Check: check, Problem: err.Error()}}
}
