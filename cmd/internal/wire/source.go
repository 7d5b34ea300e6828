package wire

import (
	"context"
	"errors"
	"fmt"

	"github.com/doubletap-cdc/doubletap/binlog"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// binlogConfig maps the source's section. The server id is resolved later.
func (a *App) binlogConfig() (binlog.Config, error) {
	s := a.Config.Source
	tls, err := s.TLS.Config()
	if err != nil {
		return binlog.Config{}, fmt.Errorf("source.tls: %w", err)
	}
	driver := s.Driver
	if driver == "auto" {
		driver = ""
	}
	return binlog.Config{
		Name: s.Name, Addr: s.Addr, User: s.User, Password: s.Password.Reveal(), TLS: tls,
		ServerID: s.ServerID, Driver: driver, Schema: a.Schema, Logger: a.Log,
	}, nil
}

// tail runs the tailer as the only active one of its source and log, until ctx
// ends. Another one that is active is waited for; one whose lock is lost stops
// and waits again.
func (a *App) tail(ctx context.Context, pub pipeline.Publisher, pos pipeline.Positions, prepared pipeline.Prepared) error {
	cfg, err := a.binlogConfig()
	if err != nil {
		return err
	}
	for {
		err := a.tailLocked(ctx, cfg, pub, pos, prepared)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errLogLost) {
			a.Log.Error("tailing begins again at the stored position, and with an invalidation of everything", "err", err)
			continue
		}
		if err != nil {
			return err
		}
		a.Log.Warn("the lock on the source was lost, perhaps to another tailer: waiting for it again")
	}
}

// tailLocked returns nil when the lock was lost, and errLogLost when the position
// has to be loaded again.
func (a *App) tailLocked(ctx context.Context, cfg binlog.Config, pub pipeline.Publisher, pos pipeline.Positions, prepared pipeline.Prepared) error {
	a.awaitSource()
	lock, err := retryStart(ctx, a, "lock source", func(ctx context.Context) (*binlog.SourceLock, error) {
		return binlog.Lock(ctx, cfg, a.logName())
	})
	if err != nil {
		return err
	}
	defer lock.Release()
	srv, err := retryStart(ctx, a, "look at source", func(ctx context.Context) (binlog.Server, error) {
		return binlog.Detect(ctx, cfg)
	})
	if err != nil {
		return err
	}
	release, err := a.leaseServerID(ctx, &cfg)
	if err != nil {
		return err
	}
	defer release()
	source, err := binlog.NewSource(cfg, srv)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	t := &pipeline.Tailer{
		Name: cfg.Name, Schema: a.Schema, Source: source, Publisher: pub, Positions: placed{pos, a, stop}, Prepared: prepared,
		Start: a.Config.Source.Start, OnGap: pipeline.OnGap(a.Config.Source.OnGap), Hooks: a.Hooks,
	}
	if a.Config.Source.Gate {
		gate := binlog.NewGate(cfg, a.Hooks)
		defer gate.Close()
		t.Gate = gate
	} else {
		a.Log.Warn("source.gate is off: events are published before readers can see the change, and a reader in between can put the old value back")
	}
	a.Log.Info("tailing", "source", cfg.Name, "addr", cfg.Addr, "flavor", srv.Flavor, "version", srv.Version, "server_id", cfg.ServerID)
	if err := t.Run(whileHeld(ctx, lock)); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errLogLost) {
		return cause
	}
	return nil
}

// errLogLost ends a tailer under which the log lost what was published.
var errLogLost = errors.New("the log lost records that were published: its topic was made anew, or lost its tail")

// awaitSource makes the process not ready until its position is known.
func (a *App) awaitSource() {
	a.Ready.Set("source", "waiting for the source, or for another tailer to end")
	a.Ready.Set("start", "")
}

// placed says when the position is known: from then on every change is covered
// by an event of its own, and not only by the first start's invalidation.
// It stops the tailer when the log says that it lost records after that.
type placed struct {
	pipeline.Positions
	a    *App
	stop context.CancelCauseFunc
}

func (p placed) Load(ctx context.Context) (pipeline.Checkpoint, error) {
	c, err := p.Positions.Load(ctx)
	if err != nil {
		return c, err
	}
	if c.Position != "" {
		p.a.Ready.Set("source", "")
	}
	if log, ok := p.Positions.(interface{ Lost() <-chan struct{} }); ok {
		lost := log.Lost()
		go func() {
			select {
			case <-lost:
				p.stop(errLogLost)
			case <-ctx.Done():
			}
		}()
	}
	return c, nil
}

func (p placed) Save(ctx context.Context, c pipeline.Checkpoint) error {
	err := p.Positions.Save(ctx, c)
	if err == nil {
		p.a.Ready.Set("source", "")
	}
	return err
}

// leaseServerID sets cfg's server id to one that no other replica uses.
func (a *App) leaseServerID(ctx context.Context, cfg *binlog.Config) (release func(), err error) {
	_, err = retryStart(ctx, a, "lease server id", func(ctx context.Context) (id uint32, err error) {
		id, release, err = binlog.LeaseServerID(ctx, *cfg)
		if err == nil {
			cfg.ServerID = id
		}
		return id, err
	})
	return release, err
}

// whileHeld returns a context that ends when the lock is lost or ctx ends.
func whileHeld(ctx context.Context, lock *binlog.SourceLock) context.Context {
	held, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		select {
		case <-lock.Lost():
		case <-ctx.Done():
		}
	}()
	return held
}

// logName tells the logs of one source apart: each has an active tailer.
func (a *App) logName() string {
	if k := a.Config.Log.Kafka; k != nil {
		return "kafka/" + k.Topic
	}
	return "embedded/" + a.Config.Log.Embedded.Dir
}
