package wire

import (
	"context"
	"fmt"
	"strings"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

func (a *App) checkSource(ctx context.Context) []pipeline.Finding {
	cfg, err := a.binlogConfig()
	if err != nil {
		return refuse("source", err)
	}
	findings, srv := binlog.Preflight(ctx, cfg)
	if srv.UUID == "" {
		return findings
	}
	return append(findings, a.checkStart(ctx)...)
}

// checkStart looks whether the source has executed what source.start names, where
// that is a set of MySQL's: a set of another server begins nowhere. Only the very
// first start reads it.
func (a *App) checkStart(ctx context.Context) []pipeline.Finding {
	start := a.Config.Source.Start
	if !strings.Contains(start, ":") {
		return nil
	}
	set, err := gtid.Parse(start)
	if err != nil {
		return refuse("source.start", err)
	}
	view, err := a.askSource(ctx)
	if err != nil || view.Shown.HasAll(set) {
		return nil
	}
	return []pipeline.Finding{{
		Severity: pipeline.Warning, Check: "source.start",
		Problem: fmt.Sprintf("the source has not executed %d of the transactions that it names", view.Shown.Missing(set)),
		Fix:     "give the set that was executed when what is cached was right: SELECT @@global.gtid_executed; a position that is stored already goes before it",
	}}
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
