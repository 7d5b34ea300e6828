package admin

import "github.com/prometheus/client_golang/prometheus"

// prefix of every metric's name.
const prefix = "doubletap_"

// factory makes metrics and registers them. A name that is registered already is
// a mistake of the program: it panics.
type factory struct {
	reg    prometheus.Registerer
	prefix string // of the names
	about  string // before each help text
}

func made[T prometheus.Collector](f factory, c T) T {
	f.reg.MustRegister(c)
	return c
}

func (f factory) counter(name, help string) prometheus.Counter {
	return made(f, prometheus.NewCounter(prometheus.CounterOpts{Name: f.prefix + name, Help: f.about + help}))
}

func (f factory) counters(name, help string, labels ...string) *prometheus.CounterVec {
	return made(f, prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.prefix + name, Help: f.about + help}, labels))
}

func (f factory) gauge(name, help string) prometheus.Gauge {
	return made(f, prometheus.NewGauge(prometheus.GaugeOpts{Name: f.prefix + name, Help: f.about + help}))
}

func (f factory) gauges(name, help string, labels ...string) *prometheus.GaugeVec {
	return made(f, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.prefix + name, Help: f.about + help}, labels))
}

func (f factory) gaugeFunc(name, help string, value func() float64) prometheus.GaugeFunc {
	return made(f, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: f.prefix + name, Help: f.about + help}, value))
}

func (f factory) histogram(name, help string) prometheus.Histogram {
	return made(f, prometheus.NewHistogram(prometheus.HistogramOpts{Name: f.prefix + name, Help: f.about + help, Buckets: latencyBuckets}))
}

func (f factory) histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return made(f, prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.prefix + name, Help: f.about + help, Buckets: latencyBuckets}, labels))
}
