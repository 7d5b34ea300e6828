package config

import "time"

// Default returns a Config with every default that does not depend on another
// setting. Those of a section that may be missing are in the functions below.
func Default() Config {
	return Config{
		Source: Source{Start: "current", Driver: "auto", Gate: true, OnGap: OnGapInvalidate},
		Redis:  Redis{Mode: "auto", ScanRate: 100_000},
		// Too long only costs a longer time in which a stale value may be read; too
		// short loses the promise. A fill that takes over 5 s is rare.
		SecondDelete: SecondDelete{
			Fill: 5 * time.Second, Fallback: longFallback, MaxWait: longWait,
			// A healthy Redis answers within a few milliseconds. A repeat costs one
			// more delete, so the limit may be near to that.
			Stall: 100 * time.Millisecond,
		},
		Trust:     Trust{MaxLag: 10 * time.Second},
		Admin:     Admin{Listen: "127.0.0.1:9400"},
		Mode:      ModeActive,
		LogLevel:  "info",
		LogFormat: "text",
	}
}

// setDefaults is called on a section when the file has it.
type defaulter interface{ setDefaults() }

func (k *Kafka) setDefaults() {
	k.Partitions = 8
	k.Retention = 7 * 24 * time.Hour
	k.PreparedRetention = 30 * 24 * time.Hour
}

func (e *Embedded) setDefaults() { e.Retain = 24 * time.Hour }

// derive fills in the defaults that depend on other settings.
func (l *loader) derive(c *Config) {
	if k := c.Log.Kafka; k != nil && k.Group == "" && k.Topic != "" {
		k.Group = k.Topic + ".invalidator"
	}
	c.SecondDelete.derive(func(name string) bool { return l.lines["second_delete."+name] > 0 })
	if c.Redis.Mode == "auto" && c.Redis.Master != "" {
		c.Redis.Mode = "sentinel"
	}
}
