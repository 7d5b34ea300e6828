package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// report is all that was measured.
type report struct {
	Machine     machineInfo `json:"machine"`
	Rows        int         `json:"rows"`
	BytesPerRow float64     `json:"binlog_bytes_per_row"`
	Results     []result    `json:"results"`
}

// result is one line of the table; zero means not measured.
type result struct {
	Program       string     `json:"program"`
	RowsPerSecond float64    `json:"rows_per_second"`
	Ratio         float64    `json:"ratio_to_plain_reader"`
	CPUPerMillion float64    `json:"cpu_seconds_per_million_rows"`
	PeakRSS       float64    `json:"peak_rss_mb"` // of all its processes together
	Startup       float64    `json:"startup_seconds,omitempty"`
	Latency       *quantiles `json:"commit_to_first_delete_ms,omitempty"`
}

// quantiles are of latencies, in milliseconds.
type quantiles struct {
	N    int     `json:"n"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
	Lost int     `json:"lost"` // commits whose delete was not seen
	Rate float64 `json:"commits_per_second"`
}

func quantilesOf(latencies []time.Duration) quantiles {
	if len(latencies) == 0 {
		return quantiles{}
	}
	slices.Sort(latencies)
	at := func(q float64) float64 {
		i := int(math.Ceil(q*float64(len(latencies)))) - 1
		return float64(latencies[max(i, 0)]) / float64(time.Millisecond)
	}
	return quantiles{N: len(latencies), P50: at(0.5), P99: at(0.99), Max: at(1)}
}

type machineInfo struct {
	Cores      int    `json:"cores"`
	Go         string `json:"go"`
	OS         string `json:"os"`
	Servers    string `json:"servers"`
	LoadBefore string `json:"load_before"` // 1, 5 and 15 minutes
	LoadAfter  string `json:"load_after"`
}

func machine(servers string) machineInfo {
	return machineInfo{
		Cores: runtime.NumCPU(), Go: runtime.Version(), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Servers: servers, LoadBefore: startLoad,
	}
}

// startLoad is read before bench adds to it.
var startLoad = loadAverage()

func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(text))
	return strings.Join(fields[:min(3, len(fields))], " ")
}

func (r *report) print(out io.Writer) error {
	m := r.Machine
	fmt.Fprintf(out, "%d cores shared with the servers, %s, %s; %s\n", m.Cores, m.OS, m.Go, m.Servers)
	fmt.Fprintf(out, "load average before %s, after %s\n", m.LoadBefore, m.LoadAfter)
	fmt.Fprintf(out, "backlog: %d row events, %.0f bytes of binlog each\n\n", r.Rows, r.BytesPerRow)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprint(w, "program\trows/s\t÷ plain reader\tCPU-s per M rows\tpeak RSS MB\tcommit → first delete p50 / p99 ms\t\n")
	for _, x := range r.Results {
		rate, ratio, cpu, latency := "", "", "", ""
		if x.RowsPerSecond > 0 {
			rate, ratio = fmt.Sprintf("%.0f", x.RowsPerSecond), fmt.Sprintf("%.2f", x.Ratio)
			cpu = fmt.Sprintf("%.1f", x.CPUPerMillion)
		}
		if l := x.Latency; l != nil {
			latency = fmt.Sprintf("%.1f / %.1f", l.P50, l.P99)
			if l.Lost > 0 {
				latency += fmt.Sprintf(" (%d of %d not seen)", l.Lost, l.Lost+l.N)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%.0f\t%s\t\n", x.Program, rate, ratio, cpu, x.PeakRSS, latency)
	}
	return w.Flush()
}

// progress says what is being done, and how long it took.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w: w, began: time.Now()} }

func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.w, "%5.1fs  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}
