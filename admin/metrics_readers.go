package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// readerMetrics are those of the servers that are asked, and of what the
// applications are told.
type readerMetrics struct {
	up, lag, behind    *prometheus.GaugeVec
	sourceUp           prometheus.Gauge
	posts              prometheus.Counter
	untrusted, trusted *prometheus.GaugeVec

	mu     sync.Mutex
	posted map[string]time.Time // by partition that is owned: the newest post, or since when it is owned
}

func newReaderMetrics(f factory) *readerMetrics {
	m := &readerMetrics{posted: map[string]time.Time{}}
	m.up = f.gauges("reader_up", "1 where the reader answers.", "reader")
	m.lag = f.gauges("reader_lag_seconds", "Time for which the reader has lacked a transaction that the source shows, by this machine's clock.", "reader")
	m.behind = f.gauges("reader_lag_transactions", "Transactions that the source shows and the reader does not.", "reader")
	m.sourceUp = f.gauge("source_up", "1 where the source tells this invalidator what it shows.")
	m.posts = f.counter("watermark_posts_total", "Watermarks shown to applications.")
	m.trusted = f.gauges("trusted", "0 where applications are told to trust no cached value of the partition.", "partition")
	m.untrusted = f.gauges("untrusted_rules", "Rules of which applications are told to trust no cached value, where not all are meant.", "partition")
	f.gaugeFunc("watermark_age_seconds", "Time since the watermark was posted that was not renewed for longest, of the partitions that this process owns.", m.age)
	return m
}

func (m *readerMetrics) hooks() pipeline.Hooks {
	return pipeline.Hooks{
		ReaderAsked: m.asked,
		Owned:       m.own,
		Posted:      m.watermark,
	}
}

func (m *readerMetrics) asked(i pipeline.ReaderInfo) {
	up := 1.0
	if i.Err != nil {
		up = 0
	}
	if i.Source {
		m.sourceUp.Set(up)
		return
	}
	m.up.WithLabelValues(i.Name).Set(up)
	m.lag.WithLabelValues(i.Name).Set(i.Lag.Seconds())
	m.behind.WithLabelValues(i.Name).Set(float64(i.Behind))
}

func (m *readerMetrics) watermark(partition string, w pipeline.Watermark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.posts.Inc()
	if _, owned := m.posted[partition]; !owned {
		return
	}
	m.posted[partition] = time.Now()
	trusted, rules := 1.0, len(w.Untrusted)
	for _, rule := range w.Untrusted {
		if rule == "*" {
			trusted, rules = 0, 0
			break
		}
	}
	m.trusted.WithLabelValues(partition).Set(trusted)
	m.untrusted.WithLabelValues(partition).Set(float64(rules))
}

// own keeps the metrics of a partition from outliving its ownership.
func (m *readerMetrics) own(partition string, owned bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if owned {
		m.posted[partition] = time.Now()
		return
	}
	delete(m.posted, partition)
	m.trusted.DeleteLabelValues(partition)
	m.untrusted.DeleteLabelValues(partition)
}

func (m *readerMetrics) age() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	age := 0.0
	for _, t := range m.posted {
		age = max(age, time.Since(t).Seconds())
	}
	return age
}
