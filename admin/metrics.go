package admin

import (
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// NewRegistry returns a registry with the metrics of the Go runtime and the process.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// Metrics are all metrics of doubletap. docs/metrics.md lists them; a test
// compares.
type Metrics struct {
	build     *prometheus.GaugeVec
	observing prometheus.Gauge

	held          prometheus.Histogram
	holding       prometheus.Gauge
	transactions  prometheus.Counter
	rows          prometheus.Counter
	events        prometheus.Counter
	lag           prometheus.Gauge
	checkpoints   prometheus.Counter
	checkpointAge prometheus.GaugeFunc
	gaps          prometheus.Counter
	prepared      prometheus.Gauge
	forgotten     prometheus.Counter

	owned     prometheus.Gauge
	fetched   prometheus.Counter
	behind    *prometheus.GaugeVec
	pending   *prometheus.GaugeVec
	deletes   *prometheus.CounterVec
	keys      *prometheus.CounterVec
	sweeps    *prometheus.CounterVec
	swept     *prometheus.CounterVec
	latency   *prometheus.HistogramVec
	skipped   prometheus.Counter
	refused   prometheus.Counter
	over      *prometheus.CounterVec
	letters   prometheus.Counter
	whens     prometheus.Counter
	schemas   prometheus.Counter
	retries   *prometheus.CounterVec
	mu        sync.Mutex
	saved     time.Time
	partition map[string]bool // that are owned
}

// latencyBuckets reach from half a millisecond to an hour: the first delete is
// looked for at the lower end, a second delete or an outage at the upper.
var latencyBuckets = []float64{
	0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5,
	1, 2, 5, 10, 30, 60, 300, 900, 3600,
}

// NewMetrics registers all metrics at reg and returns the hooks that feed them.
func NewMetrics(reg prometheus.Registerer) (*Metrics, pipeline.Hooks) {
	f := factory{reg}
	m := &Metrics{partition: map[string]bool{}, saved: time.Now()}
	m.build = f.gauges("build_info", "Always 1; the labels say what runs.", "version", "goversion")
	m.observing = f.gauge("observing", "1 in mode observe, where deletes are counted but not made.")

	m.held = f.histogram("gate_held_seconds", "Time that the visibility gate held a transaction back.")
	m.holding = f.gauge("gate_holding_seconds", "Time for which the visibility gate has been holding the transaction that it holds now; 0 in the first second, and when it holds none.")
	m.transactions = f.counter("published_transactions_total", "Transactions whose events are all durable in the log.")
	m.rows = f.counter("published_rows_total", "Row changes in the log.")
	m.events = f.counter("published_events_total", "Records written to the log.")
	m.lag = f.gauge("source_lag_seconds", "Time from the newest published transaction's commit, by the source's clock, to its publishing, by this machine's.")
	m.checkpoints = f.counter("checkpoints_total", "Positions stored.")
	m.checkpointAge = f.gaugeFunc("checkpoint_age_seconds", "Time since a position was last stored, or since the start; grows while the source is quiet.", m.age)
	m.gaps = f.counter("gaps_total", "Times that a part of the source's history was lost.")
	m.prepared = f.gauge("xa_prepared", "XA transactions that are prepared and neither committed nor rolled back.")
	m.forgotten = f.counter("xa_forgotten_total", "Prepared XA transactions whose rows are no longer remembered, because there were too many: their COMMIT invalidates everything.")

	m.owned = f.gauge("partitions_owned", "Partitions that this process owns.")
	m.fetched = f.counter("fetched_records_total", "Records read from the log by the first pass.")
	m.behind = f.gauges("records_behind", "Records in the log that the first pass has not read.", "partition")
	m.pending = f.gauges("pending_second_deletes", "Records between the stored cursors of the first and the second pass.", "partition")
	m.deletes = f.counters("deletes_total", "Events whose deletes Redis has acknowledged.", "pass")
	m.keys = f.counters("deleted_keys_total", "Keys named in acknowledged deletes, whether they existed or not.", "pass")
	m.sweeps = f.counters("sweeps_total", "Whole-table patterns whose keys were all deleted.", "pass")
	m.swept = f.counters("swept_keys_total", "Existing keys deleted by whole-table patterns.", "pass")
	m.latency = f.histograms("commit_to_delete_seconds", "Time from a transaction's commit, by the source's clock, to the acknowledged delete, by this machine's.", "pass")
	m.skipped = f.counter("second_deletes_skipped_total", "Events whose first delete was late enough to be the second one too.")
	m.refused = f.counter("protected_keys_refused_total", "Keys not deleted because redis.protect covers them.")
	m.over = f.counters("over_invalidations_total", "Invalidations of more keys than a change named.", "reason")
	m.letters = f.counter("dead_letters_total", "Records put into the dead-letter log.")
	m.whens = f.counter("when_errors_total", "Conditions of the key schema that could not be evaluated and were taken as true.")
	m.schemas = f.counter("schema_differences_total", "Times that events of another key schema began.")
	m.retries = f.counters("retries_total", "Failures that were tried again.", "op")

	for _, pass := range []pipeline.Pass{pipeline.First, pipeline.Second} {
		for _, v := range []*prometheus.CounterVec{m.deletes, m.keys, m.sweeps, m.swept} {
			v.WithLabelValues(string(pass)) // a zero shows that there is nothing, not that it is unknown
		}
	}
	return m, pipeline.Join(m.hooks(), newReaderMetrics(f).hooks())
}

// SetBuild says what runs.
func (m *Metrics) SetBuild(version string, observing bool) {
	m.build.WithLabelValues(version, runtime.Version()).Set(1)
	if observing {
		m.observing.Set(1)
	}
}

func (m *Metrics) age() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.saved).Seconds()
}

func (m *Metrics) hooks() pipeline.Hooks {
	return pipeline.Hooks{
		Held:      func(i pipeline.HeldInfo) { m.held.Observe(i.Held.Seconds()) },
		Holding:   func(i pipeline.HeldInfo) { m.holding.Set(i.Held.Seconds()) },
		Published: m.published,
		Checkpoint: func(pipeline.CheckpointInfo) {
			m.checkpoints.Inc()
			m.mu.Lock()
			defer m.mu.Unlock()
			m.saved = time.Now()
		},
		Gap: func(string) { m.gaps.Inc() },
		Prepared: func(open, forgotten int) {
			m.prepared.Set(float64(open))
			m.forgotten.Add(float64(forgotten))
		},
		Owned: m.own,
		Fetched: func(i pipeline.FetchedInfo) {
			m.fetched.Add(float64(i.Records))
			m.set(m.behind, i.Partition, i.Behind)
		},
		Deleted: m.deleted,
		Stored: func(partition string, c pipeline.Cursors) {
			m.set(m.pending, partition, c.First-c.Second)
		},
		OverInvalidated: func(i pipeline.OverInfo) { m.over.WithLabelValues(reasonClass(i)).Inc() },
		DeadLettered:    func(pipeline.DeadLetter) { m.letters.Inc() },
		WhenErrors:      func(n int) { m.whens.Add(float64(n)) },
		SchemaDiffers:   func(string) { m.schemas.Inc() },
		Refused:         func(n int) { m.refused.Add(float64(n)) },
		Retry: func(op string, _ int, _ error, _ time.Duration) {
			m.retries.WithLabelValues(op).Inc()
		},
	}
}

func (m *Metrics) published(i pipeline.PublishedInfo) {
	m.transactions.Inc()
	m.rows.Add(float64(i.Rows))
	m.events.Add(float64(i.Records))
	if !i.Txn.CommittedAt.IsZero() {
		m.lag.Set(max(0, time.Since(i.Txn.CommittedAt).Seconds()))
	}
}

func (m *Metrics) deleted(i pipeline.DeletedInfo) {
	if i.Skipped {
		m.skipped.Add(float64(i.Events))
		return
	}
	pass := string(i.Pass)
	m.deletes.WithLabelValues(pass).Add(float64(i.Events))
	m.keys.WithLabelValues(pass).Add(float64(len(i.Keys)))
	m.sweeps.WithLabelValues(pass).Add(float64(len(i.Patterns)))
	m.swept.WithLabelValues(pass).Add(float64(i.Swept))
	latency := m.latency.WithLabelValues(pass)
	for _, t := range i.Committed {
		if !t.IsZero() {
			latency.Observe(max(0, time.Since(t).Seconds()))
		}
	}
}

// own keeps the metrics of a partition from outliving its ownership.
func (m *Metrics) own(partition string, owned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if owned {
		m.partition[partition] = true
	} else {
		delete(m.partition, partition)
		m.behind.DeleteLabelValues(partition)
		m.pending.DeleteLabelValues(partition)
	}
	m.owned.Set(float64(len(m.partition)))
}

func (m *Metrics) set(v *prometheus.GaugeVec, partition string, n int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.partition[partition] {
		v.WithLabelValues(partition).Set(float64(n))
	}
}

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
	} {
		for word := range strings.FieldsSeq(c.words) {
			if strings.Contains(reason, strings.ReplaceAll(word, "-", " ")) {
				return c.class
			}
		}
	}
	return "other"
}
