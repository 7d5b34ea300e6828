package admin

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// exercise calls every hook, so that every metric has a value. The keys are ones
// that must not be seen.
func exercise(h pipeline.Hooks) {
	now := time.Now()
	txn := pipeline.Txn{GTID: "uuid:1", CommittedAt: now.Add(-time.Second)}
	h.Holding(pipeline.HeldInfo{Txn: txn, Held: 2 * time.Second})
	h.Held(pipeline.HeldInfo{Txn: txn, Held: 2 * time.Second})
	h.Published(pipeline.PublishedInfo{Txn: txn, Rows: 3, Records: 2})
	h.Checkpoint(pipeline.CheckpointInfo{Position: "uuid:1"})
	h.Gap("purged")
	h.Prepared(5, 2)
	h.Owned("t/0", true)
	h.Fetched(pipeline.FetchedInfo{Partition: "t/0", Records: 2, Behind: 7})
	h.Fetched(pipeline.FetchedInfo{Partition: "t/9", Records: 1, Behind: 7}) // not owned any more
	for _, pass := range []pipeline.Pass{pipeline.First, pipeline.Second} {
		h.Deleted(pipeline.DeletedInfo{
			Partition: "t/0", Pass: pass, Events: 2, Keys: []string{"s3cret:1", "s3cret:2", "s3cret:3"},
			Patterns: []string{"item:*"}, Swept: 5, Committed: []time.Time{now.Add(-time.Millisecond), {}},
		})
	}
	h.Deleted(pipeline.DeletedInfo{Partition: "t/0", Pass: pipeline.Second, Events: 4, Keys: []string{"s3cret:1"}, Skipped: true})
	h.Deleted(pipeline.DeletedInfo{Partition: "t/0", Pass: pipeline.Second, Events: 3, Release: pipeline.ReleaseReaders, Skipped: true})
	h.Stored("t/0", pipeline.Cursors{First: 9, Second: 4})
	h.Stalled(pipeline.StallInfo{Partition: "t/0", Until: now, Keys: 11})
	h.ReaderAsked(pipeline.ReaderInfo{Name: "p:3306", Source: true, Server: "uuid"})
	h.ReaderAsked(pipeline.ReaderInfo{Name: "r:3306", Server: "uuid"})
	h.ReaderAsked(pipeline.ReaderInfo{Name: "r:3306", Err: errors.New("no route to r"), Behind: 12, Lag: 13 * time.Second, Late: true})
	for _, partition := range []string{"t/0", "t/9"} {
		h.ReaderOut(pipeline.ReaderOutInfo{Partition: partition, Reader: "r:3306", Out: true, From: 4, Reason: "it lags"})
		h.Posted(partition, pipeline.Watermark{Partitions: 8})
		h.Posted(partition, pipeline.Watermark{Partitions: 8, Untrusted: []string{"item", "price"}})
	}
	h.OverInvalidated(pipeline.OverInfo{Scope: pipeline.Everything, Reason: "a gap"})
	h.DeadLettered(pipeline.DeadLetter{Partition: "t/0", Offset: 3, Reason: "unknown version", Data: []byte("s3cret")})
	h.WhenErrors(2)
	h.SchemaDiffers("abcd")
	for _, partition := range []string{"t/0", "t/9"} {
		h.OtherSchema(pipeline.OtherSchemaInfo{Partition: partition, Schema: "abcd", Held: true, For: time.Minute})
	}
	h.Refused(6)
	h.Retry("first delete", 1, errors.New("no route"), time.Second)
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, h := NewMetrics(reg)
	m.SetBuild("v1", false)
	exercise(h)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(all).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	for name, want := range map[string]float64{
		"published_rows_total": 3, "published_events_total": 2, "published_transactions_total": 1,
		"checkpoints_total": 1, "gaps_total": 1, "partitions_owned": 1, "fetched_records_total": 3,
		"records_behind": 7, "pending_second_deletes": 5, "deletes_total": 4, "deleted_keys_total": 6,
		"sweeps_total": 2, "swept_keys_total": 10, "second_deletes_skipped_total": 7, "second_deletes_total": 3,
		"xa_prepared": 5, "xa_forgotten_total": 2, "stalls_total": 1, "stall_repeats_total": 11, "reader_up": 0, "source_up": 1, "reader_lag_seconds": 13,
		"reader_lag_transactions": 12, "reader_out": 1, "watermark_posts_total": 4, "trusted": 1, "untrusted_rules": 2,
		"protected_keys_refused_total": 6, "over_invalidations_total": 1, "dead_letters_total": 1,
		"when_errors_total": 2, "schema_differences_total": 1, "retries_total": 1, "build_info": 1, "gate_holding_seconds": 2, "observing": 0,
	} {
		if got := sum(t, reg, prefix+name); got != want {
			t.Errorf("%s = %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]uint64{"commit_to_delete_seconds": 2, "gate_held_seconds": 1} {
		var got uint64
		for _, v := range family(t, reg, prefix+name).GetMetric() {
			got += v.GetHistogram().GetSampleCount()
		}
		if got != want {
			t.Errorf("%s has %d samples, want %d", name, got, want)
		}
	}
	if lag := sum(t, reg, prefix+"source_lag_seconds"); lag < 1 || lag > 60 {
		t.Errorf("source_lag_seconds = %v", lag)
	}
	h.Owned("t/0", false)
	for _, name := range []string{"records_behind", "pending_second_deletes", "reader_out", "trusted", "untrusted_rules"} {
		if n := len(family(t, reg, prefix+name).GetMetric()); n != 0 {
			t.Errorf("%d %s outlive the partition", n, name)
		}
	}
}

func family(t *testing.T, reg prometheus.Gatherer, name string) *dto.MetricFamily {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f
		}
	}
	return nil // no metric of it has a value
}

// sum adds up the values of a counter or gauge over its labels.
func sum(t *testing.T, reg prometheus.Gatherer, name string) (total float64) {
	t.Helper()
	for _, m := range family(t, reg, name).GetMetric() {
		total += m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return total
}

func TestNoKeyInMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, h := NewMetrics(reg)
	exercise(h)
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprint(all); strings.Contains(text, "s3cret") {
		t.Error("a metric shows a key: ", text)
	}
}

// registered returns all metrics there are, each with a value.
func registered(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	reg := prometheus.NewRegistry()
	m, h := NewMetrics(reg)
	m.SetBuild("v1", false)
	exercise(pipeline.Join(h, NewReplayMetrics(reg)))
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What is replayed is counted apart: nothing of it is in the metrics of live
// events, and there is no latency.
func TestReplayMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, live := NewMetrics(reg)
	before, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	h := NewReplayMetrics(reg)
	exercise(pipeline.Join(h, silent(live)))
	after, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	replayed := 0
	for _, f := range after {
		switch i := slices.IndexFunc(before, func(b *dto.MetricFamily) bool { return b.GetName() == f.GetName() }); {
		case strings.HasPrefix(f.GetName(), replayPrefix):
			replayed++
			if !strings.Contains(f.GetHelp(), "replay") {
				t.Errorf("%s does not say that it is about replays: %s", f.GetName(), f.GetHelp())
			}
		case i < 0:
			t.Errorf("replays make %s", f.GetName())
		case f.GetName() != prefix+"checkpoint_age_seconds" && f.String() != before[i].String():
			t.Errorf("a replay changes %s from %v to %v", f.GetName(), before[i], f)
		}
	}
	if replayed != 21 {
		t.Errorf("%d metrics of replays", replayed)
	}
	for name, want := range map[string]float64{
		"deletes_total": 4, "deleted_keys_total": 6, "records_behind": 7, "pending_second_deletes": 5, "second_deletes_total": 3,
		"reader_out": 1, "stall_repeats_total": 11, "dead_letters_total": 1, "retries_total": 1, "partitions_owned": 1, "held_for_schema": 1,
	} {
		if got := sum(t, reg, replayPrefix+name); got != want {
			t.Errorf("replay_%s = %v, want %v", name, got, want)
		}
	}
	h.Owned("t/0", false)
	if n := len(family(t, reg, replayPrefix+"reader_out").GetMetric()); n != 0 {
		t.Errorf("%d reader_out outlive the partition", n)
	}
}

// silent returns hooks that are called and do nothing, where h has any.
func silent(h pipeline.Hooks) (none pipeline.Hooks) {
	from, to := reflect.ValueOf(h), reflect.ValueOf(&none).Elem()
	for i := range from.NumField() {
		if !from.Field(i).IsNil() {
			to.Field(i).Set(reflect.MakeFunc(from.Field(i).Type(), func([]reflect.Value) []reflect.Value { return nil }))
		}
	}
	return none
}

// TestDocumented compares the table in docs/metrics.md with the registry;
// UPDATE=1 writes it.
func TestDocumented(t *testing.T) {
	all := registered(t)
	var table strings.Builder
	table.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range all {
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp())
	}
	const file, begin, end = "../docs/metrics.md", "<!-- table: begin -->\n", "<!-- table: end -->"
	doc, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(doc), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no table between %q and %q", file, begin, end)
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(before+begin+table.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != table.String() {
		t.Errorf("%s is not what is registered; run UPDATE=1 go test ./admin. Want:\n%s", file, table.String())
	}
}

func TestReasonClass(t *testing.T) {
	for reason, want := range map[string]string{
		"the log no longer holds offset 3": "gap", "gap in the source's history: purged": "gap",
		"first start": "start", "TRUNCATE TABLE shop.item": "statement", "ALTER TABLE": "statement",
		"a statement that is not understood (FOO)": "statement", "a column is missing": "row", "?": "other",
		"made for another key schema: its keys are those of ab12, and this invalidator has cd34": "schema",
	} {
		if got := reasonClass(pipeline.OverInfo{Reason: reason}); got != want || !slices.Contains(reasonClasses, got) {
			t.Errorf("%q is %s, want %s", reason, got, want)
		}
	}
	if got := reasonClass(pipeline.OverInfo{Rule: "item", Reason: "x"}); got != "row" {
		t.Errorf("a rule's is %s", got)
	}
	reg := prometheus.NewRegistry()
	NewMetrics(reg)
	if n := len(family(t, reg, prefix+"over_invalidations_total").GetMetric()); n != len(reasonClasses) {
		t.Errorf("%d reasons are shown as 0 at first, want %d", n, len(reasonClasses))
	}
}

// What the documents tell people to watch is there.
func TestDocumentsNameMetricsThatExist(t *testing.T) {
	all := registered(t)
	known := map[string]bool{}
	for _, f := range all {
		known[f.GetName()] = true
	}
	for _, file := range []string{"../README.md", "../docs/metrics.md", "../docs/operations.md"} {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(prefix+`[a-z_]+`).FindAllString(string(doc), -1) {
			if !known[name] && !known[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s names %s, which is not registered", file, name)
			}
		}
	}
}
