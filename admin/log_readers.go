package admin

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// readerLog logs what changes about readers, and about trust: they are told of
// again and again.
type readerLog struct {
	*logger
	mu      sync.Mutex
	readers map[string]readerState // by name, "" for the source as such
	trust   map[string]string      // by partition: what was not trusted
}

type readerState struct{ down, late bool }

func newReaderLog(l *logger) *readerLog {
	return &readerLog{logger: l, readers: map[string]readerState{}, trust: map[string]string{}}
}

func (l *readerLog) hooks() pipeline.Hooks {
	return pipeline.Hooks{ReaderAsked: l.asked, ReaderOut: l.out, Posted: l.posted, Owned: l.owned, Stalled: l.stalled}
}

func (l *readerLog) asked(i pipeline.ReaderInfo) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what, name := "reader", i.Name
	if i.Source {
		what, name = "source", ""
	}
	before, now := l.readers[name], readerState{down: i.Err != nil, late: i.Late}
	l.readers[name] = now
	switch {
	case now.down && !before.down:
		l.log.Warn("the "+what+" does not say what it shows; second deletes wait for it", "reader", i.Name, "err", i.Err)
	case before.down && !now.down:
		l.log.Info("the "+what+" says again what it shows", "reader", i.Name, "server_uuid", i.Server)
	}
	switch {
	case now.late && !before.late:
		l.log.Error("a reader is later than second_delete.max_wait: let no cache fill read it until it has caught up (/readers?name= answers 503), and mend its replication",
			"reader", i.Name, "lag", i.Lag.Round(time.Second), "transactions", i.Behind)
	case before.late && !now.late:
		l.log.Info("a reader is no longer later than second_delete.max_wait", "reader", i.Name, "lag", i.Lag.Round(time.Second))
	}
}

func (l *readerLog) out(i pipeline.ReaderOutInfo) {
	if i.Out {
		l.log.Error("a reader is out: second deletes no longer wait for it, and what it puts into the cache may be stale; let no cache fill read it, mend its replication, and all that it missed is deleted once more",
			"reader", i.Reader, "partition", i.Partition, "offset", i.From, "reason", i.Reason)
		return
	}
	l.log.Info("a reader is back: second deletes wait for it again, and those that it missed are repeated",
		"reader", i.Reader, "partition", i.Partition, "offset", i.From, "reason", i.Reason)
}

func (l *readerLog) posted(partition string, w pipeline.Watermark) {
	not := strings.Join(w.Untrusted, ", ")
	l.mu.Lock()
	defer l.mu.Unlock()
	before, known := l.trust[partition]
	l.trust[partition] = not
	switch {
	case known && not == before:
	case not != "" && !known:
		l.log.Info("applications do not trust what is cached yet", "partition", partition, "rules", not)
	case not != "":
		l.log.Warn("applications are told not to trust what is cached: deletes are late", "partition", partition, "rules", not)
	case not == "":
		l.log.Info("applications are told to trust what is cached", "partition", partition)
	}
}

func (l *readerLog) owned(partition string, owned bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !owned {
		delete(l.trust, partition)
	}
}

func (l *readerLog) stalled(i pipeline.StallInfo) {
	l.limited("stalled", 1, slog.LevelWarn, "Redis stood still: second deletes do not count and are made again", "partition", i.Partition, "keys", i.Keys, "until", i.Until)
}
