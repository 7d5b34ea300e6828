package wire

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/config"
)

// openEmbedded opens the log in a folder.
func (a *App) openEmbedded() (*bus.Embedded, error) {
	c := a.Config.Log.Embedded
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: c.Dir, Retain: c.Retain, Logger: a.Log, Hooks: a.Hooks})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EROFS) {
		err = fmt.Errorf("%w; %s", err, dirFix)
	}
	return log, err
}

// showLog lets replay ask this process for what it has open.
func (a *App) showLog(log *bus.Embedded) {
	dir := a.Config.Log.Embedded.Dir
	token, err := admin.MakeToken(dir)
	if err != nil {
		a.Log.Warn("replay cannot read the log while this process has it open", "err", err)
	}
	a.openLog.Store(&admin.OpenLog{History: log.History(), Dir: dir, Token: token})
	if err := admin.TellAddr(dir, a.listening); err != nil {
		a.Log.Warn("replay has to be told the admin address", "err", err)
	}
}

// openKafka makes the log in Kafka; it does not connect.
func (a *App) openKafka() (*bus.Kafka, error) {
	c := a.Config.Log.Kafka
	tls, err := c.TLS.Config()
	if err != nil {
		return nil, fmt.Errorf("log.kafka.tls: %w", err)
	}
	kc := bus.KafkaConfig{
		Brokers: c.Brokers, Topic: c.Topic, Partitions: c.Partitions, Replication: c.Replication,
		Retention: c.Retention, PreparedRetention: c.PreparedRetention, TLS: tls, Logger: a.Log, Hooks: a.Hooks,
	}
	if s := c.SASL; s != nil {
		kc.SASL = &bus.SASL{Mechanism: s.Mechanism, User: s.User, Password: s.Password.Reveal()}
	}
	return bus.NewKafka(kc)
}

// drainTime bounds how long a stopping command waits for its last events to
// become durable. What is not durable by then is read from the binlog again.
const drainTime = 5 * time.Second

// closeLog closes a log in Kafka within drainTime, whatever became of ctx.
func closeLog(ctx context.Context, log *bus.Kafka) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	err := log.Close(ctx)
	if errors.Is(err, bus.ErrClosed) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// consumerName names the cursors. What was only looked at was not deleted, so
// mode observe has cursors of its own, not to be taken for the active ones.
func consumerName(c *config.Config) string {
	name := "invalidator"
	if k := c.Log.Kafka; k != nil {
		name = k.Group
	}
	if c.Mode == config.ModeObserve {
		name += ".observe"
	}
	return name
}
