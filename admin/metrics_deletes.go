package admin

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// replayPrefix of the metrics of replays: with a label instead, whoever adds up
// live deletes without naming it would count replayed ones too.
const replayPrefix = prefix + "replay_"

// NewReplayMetrics registers the metrics of replayed events at reg, and returns
// the hooks that feed them. How long ago a replayed change was committed says
// nothing, so there is no such metric.
func NewReplayMetrics(reg prometheus.Registerer) pipeline.Hooks {
	f := factory{reg, replayPrefix, "Of replays: "}
	m := newDeleteMetrics(f)
	m.held = f.gauges("held_for_schema", "1 where records are held back because they are for another key schema than this process's.", "partition")
	return m.hooks()
}

// deleteMetrics are those of one log and its two passes.
type deleteMetrics struct {
	owned    prometheus.Gauge
	fetched  prometheus.Counter
	behind   *prometheus.GaugeVec
	pending  *prometheus.GaugeVec
	standing *standing
	held     *prometheus.GaugeVec // nil: of live changes nothing is held back
	deletes  *prometheus.CounterVec
	keys     *prometheus.CounterVec
	sweeps   *prometheus.CounterVec
	swept    *prometheus.CounterVec
	latency  *prometheus.HistogramVec // nil: it is not measured
	releases *prometheus.CounterVec
	skipped  prometheus.Counter
	stalls   prometheus.Counter
	repeats  prometheus.Counter
	out      *prometheus.GaugeVec
	refused  prometheus.Counter
	over     *prometheus.CounterVec
	letters  prometheus.Counter
	whens    prometheus.Counter
	schemas  prometheus.Counter
	retries  *prometheus.CounterVec

	mu        sync.Mutex
	partition map[string]bool // that are owned
}

func newDeleteMetrics(f factory) *deleteMetrics {
	m := &deleteMetrics{partition: map[string]bool{}, standing: newStanding()}
	m.owned = f.gauge("partitions_owned", "Partitions that this process owns.")
	m.fetched = f.counter("fetched_records_total", "Records read from the log by the first pass.")
	m.behind = f.gauges("records_behind", "Records in the log that the first pass has not read.", "partition")
	m.pending = f.gauges("pending_second_deletes", "Records between the stored cursors of the first and the second pass.", "partition")
	f.gaugeFunc("second_pass_standing_seconds", "Time for which the second pass of a partition has not moved although something waits for it; the longest of this process's partitions.", func() float64 {
		_, d := m.standing.longest()
		return d.Seconds()
	})
	m.deletes = f.counters("deletes_total", "Events whose deletes Redis has acknowledged.", "pass")
	m.keys = f.counters("deleted_keys_total", "Keys named in acknowledged deletes, whether they existed or not.", "pass")
	m.sweeps = f.counters("sweeps_total", "Whole-table patterns whose keys were all deleted.", "pass")
	m.swept = f.counters("swept_keys_total", "Existing keys deleted by whole-table patterns.", "pass")
	m.releases = f.counters("second_deletes_total", "Events that had their second delete, by what made it due.", "release")
	m.skipped = f.counter("second_deletes_skipped_total", "Events whose first delete was late enough to be the second one too.")
	m.stalls = f.counter("stalls_total", "Times that second deletes did not count because Redis had stood still.")
	m.repeats = f.counter("stall_repeats_total", "Keys that are deleted once more because of a stall.")
	m.out = f.gauges("reader_out", "1 where the partition's second deletes no longer wait for the reader, and are owed to it.", "reader", "partition")
	m.refused = f.counter("protected_keys_refused_total", "Keys not deleted because redis.protect covers them.")
	m.over = f.counters("over_invalidations_total", "Invalidations of more keys than a change named.", "reason")
	m.letters = f.counter("dead_letters_total", "Records put into the dead-letter log.")
	m.whens = f.counter("when_errors_total", "Conditions of the key schema that could not be evaluated and were taken as true.")
	m.schemas = f.counter("schema_differences_total", "Times that events of another key schema began.")
	m.retries = f.counters("retries_total", "Failures that were tried again.", "op")

	// A zero shows that there is nothing, not that it is unknown.
	for _, pass := range []pipeline.Pass{pipeline.First, pipeline.Second} {
		for _, v := range []*prometheus.CounterVec{m.deletes, m.keys, m.sweeps, m.swept} {
			v.WithLabelValues(string(pass))
		}
	}
	for _, r := range []pipeline.Release{
		pipeline.ReleaseReaders, pipeline.ReleaseWithout, pipeline.ReleaseSource, pipeline.ReleaseFallback, pipeline.ReleaseLost,
	} {
		m.releases.WithLabelValues(string(r))
	}
	for _, c := range reasonClasses { // an alert on its increase must see the first one
		m.over.WithLabelValues(c)
	}
	return m
}

func (m *deleteMetrics) hooks() pipeline.Hooks {
	return pipeline.Join(m.standing.hooks(), pipeline.Hooks{
		Owned: m.own,
		Fetched: func(i pipeline.FetchedInfo) {
			m.fetched.Add(float64(i.Records))
			m.set(m.behind, i.Partition, i.Behind)
		},
		Deleted: m.deleted,
		Stored: func(partition string, c pipeline.Cursors) {
			m.set(m.pending, partition, c.First-c.Second)
		},
		Stalled: func(i pipeline.StallInfo) {
			m.stalls.Inc()
			m.repeats.Add(float64(i.Keys))
		},
		ReaderOut:       m.readerOut,
		OverInvalidated: func(i pipeline.OverInfo) { m.over.WithLabelValues(reasonClass(i)).Inc() },
		DeadLettered:    func(pipeline.DeadLetter) { m.letters.Inc() },
		WhenErrors:      func(n int) { m.whens.Add(float64(n)) },
		SchemaDiffers:   func(string) { m.schemas.Inc() },
		Refused:         func(n int) { m.refused.Add(float64(n)) },
		OtherSchema:     m.otherSchema,
		Retry: func(op string, _ int, _ error, _ time.Duration) {
			m.retries.WithLabelValues(op).Inc()
		},
	})
}

func (m *deleteMetrics) deleted(i pipeline.DeletedInfo) {
	if i.Release != "" {
		m.releases.WithLabelValues(string(i.Release)).Add(float64(i.Events))
	}
	if i.Skipped {
		m.skipped.Add(float64(i.Events))
		return
	}
	pass := string(i.Pass)
	m.deletes.WithLabelValues(pass).Add(float64(i.Events))
	m.keys.WithLabelValues(pass).Add(float64(len(i.Keys)))
	m.sweeps.WithLabelValues(pass).Add(float64(len(i.Patterns)))
	m.swept.WithLabelValues(pass).Add(float64(i.Swept))
	if m.latency == nil {
		return
	}
	latency := m.latency.WithLabelValues(pass)
	for _, t := range i.Committed {
		if !t.IsZero() {
			latency.Observe(max(0, time.Since(t).Seconds()))
		}
	}
}

// own keeps the metrics of a partition from outliving its ownership.
func (m *deleteMetrics) own(partition string, owned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if owned {
		m.partition[partition] = true
	} else {
		delete(m.partition, partition)
		m.behind.DeleteLabelValues(partition)
		m.pending.DeleteLabelValues(partition)
		m.out.DeletePartialMatch(prometheus.Labels{"partition": partition})
		if m.held != nil {
			m.held.DeleteLabelValues(partition)
		}
	}
	m.owned.Set(float64(len(m.partition)))
}

func (m *deleteMetrics) set(v *prometheus.GaugeVec, partition string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.partition[partition] {
		v.WithLabelValues(partition).Set(float64(n))
	}
}

func (m *deleteMetrics) otherSchema(i pipeline.OtherSchemaInfo) {
	if m.held == nil {
		return
	}
	held := int64(0)
	if i.Held {
		held = 1
	}
	m.set(m.held, i.Partition, held)
}

func (m *deleteMetrics) readerOut(i pipeline.ReaderOutInfo) {
	out := 0.0
	if i.Out {
		out = 1
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.partition[i.Partition] {
		m.out.WithLabelValues(i.Reader, i.Partition).Set(out)
	}
}

// reasonClasses are what reasonClass returns.
var reasonClasses = []string{"row", "statement", "gap", "start", "schema", "other"}

// reasonClass puts the reason, which is for people, into one of a few classes,
// so that the label stays small.
func reasonClass(i pipeline.OverInfo) string {
	if i.Rule != "" {
		return "row" // the rule's key could not be built from a row
	}
	reason := strings.ToLower(i.Reason)
	for _, c := range []struct{ class, words string }{
		{"gap", "gap lost purged history no-longer damaged"},
		{"start", "start"},
		{"statement", "truncate drop alter create rename statement repair"},
		{"row", "row column decode image"},
		{"schema", "another-key-schema"},
	} {
		for word := range strings.FieldsSeq(c.words) {
			if strings.Contains(reason, strings.ReplaceAll(word, "-", " ")) {
				return c.class
			}
		}
	}
	return "other"
}
