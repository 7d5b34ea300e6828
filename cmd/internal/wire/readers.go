package wire

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// watching is what asks the source, and every server that cache fills read from,
// what it shows.
type watching struct {
	*pipeline.Readers
	elsewhere outElsewhere
	closers   []func()
}

// watch makes it. It does not connect. The caller closes it when it no longer runs.
func (a *App) watch() (*watching, error) {
	source, err := a.binlogConfig()
	if err != nil {
		return nil, err
	}
	asked := binlog.NewReader(source, source.Addr, "")
	w := &watching{
		Readers: &pipeline.Readers{Source: asked, MaxWait: a.Config.SecondDelete.MaxWait, Hooks: a.Hooks},
		closers: []func(){asked.Close},
	}
	for _, one := range a.Config.SecondDelete.Readers {
		cfg, err := a.readerConfig(one)
		if err != nil {
			return nil, err
		}
		server := binlog.NewReader(cfg, one.Addr, one.ServerUUID)
		w.closers = append(w.closers, server.Close)
		w.Servers = append(w.Servers, server)
	}
	return w, nil
}

func (w *watching) close() {
	for _, c := range w.closers {
		c()
	}
}

// readerConfig is how to connect to a reader.
func (a *App) readerConfig(r config.Reader) (binlog.Config, error) {
	tls, err := a.Config.ReaderTLS(r).Config()
	if err != nil {
		return binlog.Config{}, fmt.Errorf("tls of the reader %s: %w", r.Addr, err)
	}
	user, password := a.Config.ReaderLogin()
	return binlog.Config{
		Name: a.Config.Source.Name, Addr: r.Addr, User: user, Password: password.Reveal(), TLS: tls, Logger: a.Log,
	}, nil
}

// readerPage is what /readers shows, once this process watches any.
func (a *App) readerPage(ctx context.Context) ([]admin.Reader, bool) {
	w := a.watching.Load()
	if w == nil || len(w.Servers) == 0 {
		return nil, false
	}
	out := w.elsewhere.list(func() (watermark.Trust, error) {
		const patience = 500 * time.Millisecond // of a proxy
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		return a.trust(ctx)
	})
	all := []admin.Reader{}
	for _, s := range w.State() {
		if s.Source {
			continue
		}
		// One that its owner could never ask may be any that is behind at all.
		isOut := slices.Contains(out, s.Server) || slices.Contains(out, "*") && s.Behind > 0
		r := admin.Reader{
			Name: s.Name, ServerUUID: s.Server, Up: s.Err == nil, LagSeconds: s.Lag.Seconds(), BehindTransactions: s.Behind,
			Late: s.Late, OutPartitions: append([]string{}, s.Out...), MayServe: s.MayServe && !isOut,
		}
		switch {
		case s.Err != nil:
			r.Error, r.Reason = s.Err.Error(), "it does not say what it shows"
		case len(s.Out) > 0:
			r.Reason = "second deletes go on without it, and are owed to it"
		case s.Late:
			r.Reason = "it is later than second_delete.max_wait"
		case isOut:
			r.Reason = "second deletes go on without it in partitions of another invalidator"
		}
		all = append(all, r)
	}
	return all, true
}

// checkLag looks whether the source can be asked how far it is. An invalidator
// that reads its events from Kafka does its work without that.
func (a *App) checkLag(ctx context.Context) []pipeline.Finding {
	if _, err := a.askSource(ctx); err != nil {
		c := a.Config.Source
		return []pipeline.Finding{{
			Severity: pipeline.Warning, Check: "source",
			Problem: fmt.Sprintf("%s does not say what it shows: %v; deletes are made, but until it does applications are told not to trust the cache, because nobody knows how late the deletes are", c.Addr, err),
			Fix:     binlog.ConnectFix(err, c.User),
		}}
	}
	return nil
}

// askSource asks the source once what it shows.
func (a *App) askSource(ctx context.Context) (pipeline.View, error) {
	cfg, err := a.binlogConfig()
	if err != nil {
		return pipeline.View{}, err
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	source := binlog.NewReader(cfg, cfg.Addr, "")
	defer source.Close()
	return source.Ask(ctx)
}
