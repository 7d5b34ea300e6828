package wire

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/replay"
	"github.com/doubletap-cdc/doubletap/replay/history"
)

func (a *replayArgs) logSpec() history.LogSpec {
	s := history.LogSpec{Since: a.since.Time}
	if a.Until != "" {
		s.Until = a.until.Time
	}
	if a.Partition >= 0 || a.From >= 0 {
		s.Ranges = []history.LogRange{{Partition: a.Partition, From: a.From, Until: a.To}}
	}
	return s
}

func (a *replayArgs) binlogSpec() history.BinlogSpec {
	s := history.BinlogSpec{Files: a.Files, Set: a.GTIDs, Since: a.since.Time}
	if a.Until != "" {
		s.Until = a.until.Time
	}
	return s
}

func (s *sources) openLog(ctx context.Context, kind string, spec json.RawMessage) (replay.Source, error) {
	log, err := s.liveLog(ctx)
	if err != nil {
		return nil, err
	}
	d := history.LogDeps{Log: log, Schema: s.app.Schema, Old: s.old, Name: s.app.Config.Source.Name, GTIDs: s.askGTIDs(), Look: s.look}
	if kind == kindDead {
		return opened(spec, func(spec history.DeadSpec) (replay.Source, error) { return history.OpenDead(d, spec) })
	}
	return opened(spec, func(spec history.LogSpec) (replay.Source, error) { return history.OpenLog(d, spec) })
}

// liveLog is the live log, opened once: nobody can open a folder twice.
func (s *sources) liveLog(ctx context.Context) (pipeline.History, error) {
	if s.log != nil {
		return s.log, nil
	}
	patience := s.patience
	if s.alone { // nobody answered for as long as that before
		patience = 0
	}
	log, alone, done, err := s.app.liveLog(ctx, patience)
	if err != nil {
		return nil, err
	}
	s.log, s.alone = log, alone
	s.closers = append(s.closers, done)
	return log, nil
}

// liveLog is what the live log holds. The process that has an embedded log open is
// asked, for a time; where none answers then, its folder is opened: alone is true,
// and no invalidator can start until done is called.
func (a *App) liveLog(ctx context.Context, patience time.Duration) (log pipeline.History, alone bool, done func(), err error) {
	if a.Config.Log.Kafka != nil {
		k, err := a.openKafka()
		if err != nil {
			return nil, false, nil, err
		}
		return k.History(), false, func() { _ = closeLog(context.Background(), k) }, nil
	}
	dir := a.Config.Log.Embedded.Dir
	if _, err := os.Stat(dir); err != nil {
		return nil, false, nil, fmt.Errorf("open the log: %w", err)
	}
	client, err := a.askForLog(ctx, dir, patience)
	if err == nil {
		return client, false, func() {}, nil
	}
	if ctx.Err() != nil {
		return nil, false, nil, err
	}
	own, openErr := a.openEmbedded()
	if openErr != nil {
		return nil, false, nil, fmt.Errorf("%w; and its folder cannot be opened: %w", err, openErr)
	}
	return own.History(), true, func() { _ = own.Close() }, nil
}

const (
	// askPatience is how long an invalidator may take to answer for its log.
	askPatience = 5 * time.Second
	// startPatience is how long one may take that is being started again.
	startPatience = 30 * time.Second
	askEvery      = time.Second // meanwhile
)

// askForLog asks the process that has a folder open until it answers, or patience
// and ctx end. Where no such process was ever there, it asks once.
func (a *App) askForLog(ctx context.Context, dir string, patience time.Duration) (*history.Client, error) {
	client := history.NewClient(func() string { return cmp.Or(admin.AddrOf(dir), a.Config.Admin.Listen) }, dir, a.Hooks)
	if admin.AddrOf(dir) == "" {
		patience = 0
	}
	t := time.NewTicker(askEvery)
	defer t.Stop()
	for first, until := true, time.Now().Add(patience); ; first = false {
		asked, cancel := context.WithTimeout(ctx, askPatience)
		_, err := client.Bounds(asked)
		cancel()
		if err == nil || ctx.Err() != nil || !time.Now().Add(askEvery).Before(until) {
			return client, err
		}
		if first {
			a.Log.Warn("no invalidator answers for the log; its folder is opened when none has for a while", "dir", dir, "for", patience)
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		}
	}
}

// liveSchema is the hash of the schema with which the tailer published last; ""
// where that is not known. It is asked for while a pipeline runs.
func (a *App) liveSchema(ctx context.Context) (hash string) {
	log, _, done, err := a.liveLog(ctx, startPatience)
	if err != nil {
		return ""
	}
	defer done()
	all, err := log.Bounds(ctx)
	if err != nil || len(all) == 0 || all[0].End == all[0].Start {
		return ""
	}
	last := all[0]
	const few = 10 // Kafka counts markers too
	err = log.Read(ctx, 0, max(last.Start, last.End-few), last.End, func(messages []pipeline.Message) error {
		for _, m := range messages {
			if e, err := pipeline.DecodeEvent(m.Data); err == nil {
				hash = e.Schema
			}
		}
		return nil
	})
	if err != nil {
		return ""
	}
	return hash
}

// binlogConfig is how the binlog is read: with the columns of both schemas, and a
// server id of its own.
func (s *sources) binlogConfig(ctx context.Context) (cfg binlog.Config, srv binlog.Server, err error) {
	a := s.app
	if cfg, err = a.binlogConfig(); err != nil {
		return cfg, srv, err
	}
	cfg.Schema, cfg.ServerID = s.reading, 0 // the tailer has the configured id
	srv, err = retryStart(ctx, a, "look at source", func(ctx context.Context) (binlog.Server, error) { return binlog.Detect(ctx, cfg) })
	if err != nil {
		return cfg, srv, err
	}
	release, err := a.leaseServerID(ctx, &cfg)
	if err != nil {
		return cfg, srv, err
	}
	s.closers = append(s.closers, release)
	return cfg, srv, nil
}

func (s *sources) openBinlog(ctx context.Context, spec history.BinlogSpec) (replay.Source, error) {
	if len(spec.Files) > 0 {
		return s.openFiles(spec)
	}
	a := s.app
	cfg, srv, err := s.binlogConfig(ctx)
	if err != nil {
		return nil, err
	}
	source, err := binlog.NewSource(cfg, srv)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	return history.OpenBinlog(history.BinlogDeps{
		Source: source, Name: cfg.Name, Schema: a.Schema.Hash(), Logger: a.Log,
		Since: func(ctx context.Context, t time.Time) (pipeline.Position, time.Time, error) {
			return binlog.Since(ctx, cfg, srv, t)
		},
	}, spec)
}

// openFiles reads binlog files; the source is asked for the names of columns that
// the files lack.
func (s *sources) openFiles(spec history.BinlogSpec) (replay.Source, error) {
	cfg, err := s.app.binlogConfig()
	if err != nil {
		return nil, err
	}
	cfg.Schema = s.reading
	files, err := binlog.NewFiles(binlog.FilesConfig{Config: cfg, Paths: spec.Files, Earlier: s.files})
	if err != nil {
		return nil, err
	}
	s.files = files
	return history.OpenBinlog(history.BinlogDeps{
		Source: files, Since: files.Since, Notes: files.Notes, Holes: files.Holes, InOrder: files.InOrder, Name: cfg.Name, Schema: s.app.Schema.Hash(), Logger: s.app.Log,
	}, spec)
}
