package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == readerCommand { // as the child of a test
		os.Exit(readerMain(os.Args[2:], os.Stdout, os.Stderr))
	}
	envtest.Main(m)
}

// The figures of so few rows mean nothing, but all of them must be there.
func TestEveryFigureIsMeasured(t *testing.T) {
	envtest.Shared(t) // skips or fails where no server can be had
	var out, progress bytes.Buffer
	if code := benchMain([]string{"-rows", "5000", "-latency-seconds", "1", "-json"}, &out, &progress); code != 0 {
		t.Fatalf("exit code %d\n%s", code, progress.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if r.Rows != 5000 || r.BytesPerRow < 200 || len(r.Results) != 9 {
		t.Errorf("%d rows of %.0f bytes, %d results; want 5000, about 300, 9", r.Rows, r.BytesPerRow, len(r.Results))
	}
	for _, x := range r.Results {
		switch l := x.Latency; {
		case x.PeakRSS <= 0:
			t.Errorf("%s: peak memory %v", x.Program, x.PeakRSS)
		case l == nil && (x.RowsPerSecond <= 0 || x.CPUPerMillion <= 0 || x.Ratio <= 0):
			t.Errorf("%s: %+v", x.Program, x)
		case l != nil && (l.N != commitsPerSecond || l.Lost != 0 || l.P50 <= 0 || l.P99 < l.P50 || l.Max < l.P99):
			t.Errorf("%s: %+v", x.Program, *l)
		}
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(table.String(), "\n"); lines != 5+len(r.Results) {
		t.Errorf("the table has %d lines:\n%s", lines, table.String())
	}
}

// Here too the figures mean nothing; but with the gates off nobody is asked.
func TestGateCostIsMeasured(t *testing.T) {
	envtest.Shared(t)
	var out, progress bytes.Buffer
	if code := benchMain([]string{"-gate", "-log", "embedded", "-rows", "2000", "-latency-seconds", "1", "-json"}, &out, &progress); code != 0 {
		t.Fatalf("exit code %d\n%s", code, progress.String())
	}
	var r gateReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if len(r.Results) != 4 {
		t.Errorf("%d results, want 4", len(r.Results))
	}
	for _, x := range r.Results {
		if x.Q.N == 0 || x.Q.Lost != 0 || x.Q.P50 <= 0 || x.Q.P99 < x.Q.P50 || x.Q.Rate <= 0 {
			t.Errorf("%s, gate %v: %+v", x.Load, x.Gate, x.Q)
		}
		if asked := x.Replica > 0; asked != x.Gate {
			t.Errorf("%s, gate %v: the replica got %.1f statements/s", x.Load, x.Gate, x.Replica)
		}
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil || strings.Count(table.String(), "\n") != 4+len(r.Results) {
		t.Errorf("error %v, table:\n%s", err, table.String())
	}
}

func TestQuantiles(t *testing.T) {
	var hundred []time.Duration
	for i := 100; i > 0; i-- {
		hundred = append(hundred, time.Duration(i)*time.Millisecond)
	}
	for name, c := range map[string]struct {
		in   []time.Duration
		want quantiles
	}{
		"none":    {nil, quantiles{}},
		"one":     {[]time.Duration{time.Millisecond}, quantiles{N: 1, P50: 1, P99: 1, Max: 1}},
		"hundred": {hundred, quantiles{N: 100, P50: 50, P99: 99, Max: 100}},
	} {
		if got := quantilesOf(c.in); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestCPUOf(t *testing.T) {
	const stat = "77 (a (strange) name) S 1 77 77 0 -1 4194560 9 0 0 0 150 25 3 4 20 0 8 0 99 1000 10"
	if got, err := cpuOf(stat); err != nil || got != 1.75 {
		t.Errorf("%v s, err %v; want 1.75", got, err)
	}
	if _, err := cpuOf("77 (short) S 1 77"); err == nil {
		t.Error("a line that is cut off is taken")
	}
}

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"-log sqlite":         "none of embedded, kafka, both",
		"-rows 0":             "-rows must be 1 or more",
		"-latency-seconds -1": "not negative",
		"extra":               `unexpected argument "extra"`,
	} {
		if _, err := parse(strings.Fields(args), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", args, err, want)
		}
	}
	o, err := parse([]string{"-log", "kafka", "-rows", "7"}, io.Discard)
	if err != nil || len(o.logs) != 1 || o.logs[0] != logKafka || o.rows != 7 || o.latency != 10*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
}

// Every key is gone at the end, with kills and without.
func TestReplayIsMeasured(t *testing.T) {
	envtest.Shared(t)
	var out, progress bytes.Buffer
	if code := benchMain([]string{"-replay", "-log", "embedded", "-rows", "60000", "-latency-seconds", "1", "-json"}, &out, &progress); code != 0 {
		t.Fatalf("exit code %d\n%s", code, progress.String())
	}
	var r replayReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if len(r.Results) != 1 {
		t.Fatalf("%d results, want 1", len(r.Results))
	}
	x := r.Results[0]
	if x.Left != 0 || x.KilledLeft != 0 || x.Kills != replayKills || x.Redone > replayKills || x.KeysPerMinute <= 0 || x.PeakRSS <= 0 {
		t.Errorf("%+v", x)
	}
	for _, q := range []quantiles{x.Before, x.Beside} {
		if q.N == 0 || q.Lost != 0 || q.P99 < q.P50 {
			t.Errorf("%+v", q)
		}
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil || strings.Count(table.String(), "\n") != 4 {
		t.Errorf("error %v, table:\n%s", err, table.String())
	}
}
