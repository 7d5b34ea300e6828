package admin

import (
	"runtime"
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

	mu    sync.Mutex
	saved time.Time
}

// latencyBuckets reach from half a millisecond to an hour: the first delete is
// looked for at the lower end, a second delete or an outage at the upper.
var latencyBuckets = []float64{
	0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.125, 0.25, 0.5,
	1, 2, 5, 10, 30, 60, 300, 900, 3600,
}

// NewMetrics registers all metrics at reg and returns the hooks that feed them.
func NewMetrics(reg prometheus.Registerer) (*Metrics, pipeline.Hooks) {
	f := factory{reg, prefix, ""}
	m := &Metrics{saved: time.Now()}
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

	deletes := newDeleteMetrics(f)
	deletes.latency = f.histograms("commit_to_delete_seconds", "Time from a transaction's commit, by the source's clock, to the acknowledged delete, by this machine's.", "pass")
	return m, pipeline.Join(m.hooks(), deletes.hooks(), newReaderMetrics(f).hooks())
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
