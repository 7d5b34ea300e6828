package admin

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// repeatAfter is how long a line of the same kind is held back; the next one
// says how many there were.
const repeatAfter = 10 * time.Second

// longHold is a gate's time that is worth a line.
const longHold = time.Second

// LogHooks returns hooks that log: a change of state at Info, what is tried again
// at Warn, data at risk at Error, each transaction and delete at Debug. Keys are
// counted, never shown.
func LogHooks(log *slog.Logger) pipeline.Hooks {
	l := &logger{log: log, lines: map[string]*line{}}
	return pipeline.Join(newReaderLog(l).hooks(), pipeline.Hooks{
		Held:      l.held,
		Holding:   l.holding,
		Published: l.published,
		Checkpoint: func(i pipeline.CheckpointInfo) {
			log.Debug("position stored", "position", string(i.Position))
		},
		Gap: func(reason string) {
			log.Error("a part of the source's history is lost: any key may be stale", "reason", reason)
		},
		Prepared: func(_, forgotten int) {
			if forgotten > 0 {
				l.limited("forgotten", forgotten, slog.LevelWarn, "too many XA transactions are prepared: the rows of the oldest are forgotten, and their COMMIT will invalidate everything")
			}
		},
		Owned: func(partition string, owned bool) {
			if owned {
				log.Info("partition taken", "partition", partition)
			} else {
				log.Info("partition given up", "partition", partition)
			}
		},
		Deleted:         l.deleted,
		OverInvalidated: l.over,
		DeadLettered: func(d pipeline.DeadLetter) {
			l.limited("dead letter", 1, slog.LevelError, "a record could not be turned into keys: it was over-invalidated and put into the dead-letter log",
				"partition", d.Partition, "offset", d.Offset, "reason", d.Reason)
		},
		WhenErrors: func(n int) {
			l.limited("when", n, slog.LevelWarn, "conditions (when:) could not be evaluated and were taken as true")
		},
		SchemaDiffers: func(eventHash string) {
			log.Warn("events were published with another key schema; keys are built with the one of this process", "event_schema", eventHash)
		},
		OtherSchema: func(i pipeline.OtherSchemaInfo) {
			if i.Held {
				l.limited("other schema "+i.Schema, 1, slog.LevelWarn, "records are for another key schema than this process's, and are held back: a process that has it should take the partition; else all keys of their tables are deleted, and they become dead letters",
					"partition", i.Partition, "schema", i.Schema, "for", i.For.Round(time.Second))
			}
		},
		Recovered: func(op string, failures int) {
			l.limited("recovered "+op, 1, slog.LevelInfo, "works again", "op", op, "failures", failures)
		},
		Retry: func(op string, attempt int, err error, in time.Duration) {
			l.limited("retry "+op, 1, slog.LevelWarn, "failed, trying again", "op", op, "attempt", attempt, "err", err, "in", in)
		},
	})
}

type logger struct {
	log   *slog.Logger
	mu    sync.Mutex
	lines map[string]*line
}

// line is the state of one kind of line.
type line struct {
	after time.Time // held back until then
	count int       // since the last line
}

// maxLines bounds the kinds of lines that are remembered.
const maxLines = 1000

// limited logs the first line of a kind at once, and then one every repeatAfter
// with the number of times since.
func (l *logger) limited(kind string, n int, level slog.Level, msg string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if len(l.lines) >= maxLines {
		clear(l.lines)
	}
	s := l.lines[kind]
	if s == nil {
		s = &line{}
		l.lines[kind] = s
	}
	s.count += n
	if now.Before(s.after) {
		return
	}
	if s.count > 1 {
		args = append(args, "times", s.count)
	}
	s.count, s.after = 0, now.Add(repeatAfter)
	l.log.Log(context.Background(), level, msg, args...)
}

func (l *logger) held(i pipeline.HeldInfo) {
	if i.Held >= longHold {
		l.limited("held", 1, slog.LevelInfo, "the gate held a transaction until the source showed it", "gtid", i.Txn.GTID, "held", i.Held)
	}
}

func (l *logger) holding(i pipeline.HeldInfo) {
	if i.Held > 0 {
		l.limited("holding", 1, slog.LevelWarn, "the gate is holding a transaction, and all behind it: the source does not show it yet", "gtid", i.Txn.GTID, "for", i.Held.Round(time.Second))
	}
}

func (l *logger) published(i pipeline.PublishedInfo) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("published", "gtid", i.Txn.GTID, "rows", i.Rows, "records", i.Records)
	}
}

func (l *logger) deleted(i pipeline.DeletedInfo) {
	if len(i.Patterns) > 0 && !i.Skipped {
		l.log.Info("whole tables deleted", "partition", i.Partition, "pass", i.Pass, "patterns", i.Patterns, "deleted", i.Swept)
	}
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("deleted", "partition", i.Partition, "pass", i.Pass, "events", i.Events, "keys", len(i.Keys), "skipped", i.Skipped)
	}
}

func (l *logger) over(i pipeline.OverInfo) {
	l.limited("over "+i.Scope.DB+"."+i.Scope.Table+" "+i.Rule, 1, slog.LevelInfo, "invalidating whole tables",
		"table", i.Scope.DB+"."+i.Scope.Table, "rule", i.Rule, "reason", i.Reason)
}
