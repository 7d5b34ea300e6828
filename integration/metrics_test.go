package integration

// Names of metrics that the tests read (docs/metrics.md).
const (
	metricSkipped = "doubletap_second_deletes_skipped_total"
)
