package wire

import (
	"errors"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/config"
)

// openEmbedded opens the embedded log.
func (a *App) openEmbedded() (*bus.Embedded, error) {
	c := a.Config.Log.Embedded
	return bus.OpenEmbedded(bus.EmbeddedConfig{Dir: c.Dir, Retain: c.Retain, Logger: a.Log, Hooks: a.Hooks})
}

var errEmbedded = errors.New("the log is embedded, so the tailer runs inside the invalidator: start `invalidator` alone, or set log.kafka to run them apart")

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
