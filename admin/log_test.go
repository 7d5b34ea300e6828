package admin

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// output is a log to look at.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	defer o.buf.Reset()
	return o.buf.String()
}

func TestLogHooks(t *testing.T) {
	var out output
	h := LogHooks(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	_, all := NewMetrics(prometheus.NewRegistry())
	exercise(pipeline.Join(h, all)) // has every hook
	h.Owned("t/0", false)
	got := out.take()
	if strings.Contains(got, "s3cret") {
		t.Error("a log line shows a key or a record")
	}
	for _, want := range []string{
		`level=ERROR msg="a part of the source's history is lost`, `level=ERROR msg="a record could not`,
		`level=WARN msg="failed, trying again" op="first delete" attempt=1 err="no route" in=1s`,
		`level=WARN msg="conditions`, "times=2", "level=WARN msg=\"events were published", `level=INFO msg="invalidating whole tables" table=*.* rule="" reason="a gap"`,
		`level=INFO msg="partition taken" partition=t/0`, `level=INFO msg="partition given up"`,
		`level=INFO msg="whole tables deleted" partition=t/0 pass=first patterns=[item:*] deleted=5`,
		`level=WARN msg="the reader does not say what it shows; second deletes wait for it" reader=r:3306 err="no route to r"`,
		`level=ERROR msg="a reader is later than second_delete.max_wait:`, `lag=13s transactions=12`,
		`level=ERROR msg="a reader is out:`, `reader=r:3306 partition=t/0 offset=4 reason="it lags"`,
		`level=INFO msg="applications are told to trust`, `level=WARN msg="applications are told not to trust what is cached: deletes are late" partition=t/0 rules="item, price"`,
		`level=WARN msg="too many XA transactions`,
		`level=WARN msg="Redis stood still`, "keys=11",
		`level=WARN msg="the gate is holding`, `gtid=uuid:1 for=2s`, `level=INFO msg="the gate held`, "level=DEBUG msg=published", "level=DEBUG msg=deleted", "keys=3", "level=DEBUG msg=\"position stored\"",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestRetriesAreNotLoggedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		h := LogHooks(slog.New(slog.NewTextHandler(&out, nil)))
		for i := range 100 { // over 25 s, by several partitions at once
			h.Retry("first delete", i/8+1, errors.New("no route"), time.Second)
			time.Sleep(250 * time.Millisecond)
		}
		h.Retry("second delete", 1, errors.New("no route"), time.Second)
		got := out.take()
		if n := strings.Count(got, `op="first delete"`); n != 3 {
			t.Errorf("%d lines of one operation in 25 s, want 3:\n%s", n, got)
		}
		if !strings.Contains(got, "times=40") || !strings.Contains(got, `op="second delete"`) {
			t.Errorf("got\n%s", got)
		}
	})
}

// A topic full of foreign records fills the counter, not the log.
func TestDeadLettersAreNotLoggedOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out output
		reg := prometheus.NewRegistry()
		_, metrics := NewMetrics(reg)
		h := pipeline.Join(LogHooks(slog.New(slog.NewTextHandler(&out, nil))), metrics)
		for i := range 100 { // over 25 s
			h.DeadLettered(pipeline.DeadLetter{Partition: "t/0", Offset: int64(i), Reason: "unknown version"})
			time.Sleep(250 * time.Millisecond)
		}
		got := out.take()
		if n := strings.Count(got, "level=ERROR"); n != 3 {
			t.Errorf("%d lines in 25 s, want 3:\n%s", n, got)
		}
		for _, want := range []string{"offset=0 ", "offset=40 ", "offset=80 ", "times=40"} {
			if !strings.Contains(got, want) {
				t.Errorf("no %s in\n%s", want, got)
			}
		}
		if n := counted(t, reg, "dead_letter"); n != 100 {
			t.Errorf("%v are counted, want 100", n)
		}
	})
}

// counted is the value of the only counter whose name contains part.
func counted(t *testing.T, reg *prometheus.Registry, part string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.Contains(f.GetName(), part) {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", part)
	return 0
}

func TestLimitedKindsAreBounded(t *testing.T) {
	l := &logger{log: slog.New(slog.DiscardHandler), lines: map[string]*line{}}
	for i := range 3 * maxLines {
		l.over(pipeline.OverInfo{Scope: pipeline.Scope{DB: "d", Table: strings.Repeat("x", i)}})
	}
	if len(l.lines) > maxLines {
		t.Errorf("%d kinds are remembered", len(l.lines))
	}
}
