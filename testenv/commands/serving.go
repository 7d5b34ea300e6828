package commands

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Serve is Start for a command with an admin server: it gets the flag -admin with
// an address of 127.0.0.1 on which nobody listened before.
func Serve(s Spec) (*Process, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a local bind does not block
	if err != nil {
		return nil, err
	}
	admin := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	s.Args = append(slices.Clip(s.Args), "-admin", admin)
	p, err := Start(s)
	if err != nil {
		return nil, err
	}
	p.Admin = admin
	return p, nil
}

// Ready blocks until the process says that it is, as Poll does.
func (p *Process) Ready(ctx context.Context) error {
	return p.Poll(ctx, func() bool {
		code, _, err := p.Get(ctx, "/readyz")
		return err == nil && code == http.StatusOK
	})
}

// Poll asks every 50 ms until cond holds. It fails when the process ends, when ctx
// does, or when a minute is over, and kills nothing.
func (p *Process) Poll(ctx context.Context, cond func() bool) error {
	limit := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.ended:
			return p.EndedEarly()
		case <-limit:
			return fmt.Errorf("%s made no progress for a minute\n%s", p.Name(), p.LogTail())
		case <-tick.C:
		}
	}
	return nil
}

// EndedEarly is the error for a process that nobody has asked to end, with the end
// of its log; nil while it runs.
func (p *Process) EndedEarly() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended early: %s\n%s", p.Name(), p.cmd.ProcessState, p.LogTail())
	default:
		return nil
	}
}

// client asks for plain text: compressing it would count as the process's work.
var client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableCompression: true}}

// Get asks the admin server, for at most 5 s, and returns the status and the body.
func (p *Process) Get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Admin+path, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// Metrics are what a process says of itself, by their names.
type Metrics map[string]*dto.MetricFamily

// Metrics asks for the process's metrics, as Get does.
func (p *Process) Metrics(ctx context.Context) (Metrics, error) {
	status, body, err := p.Get(ctx, "/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d", status)
	}
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", p.Name(), err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	m, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read the metrics of %s: %w", p.Name(), err)
	}
	return m, nil
}

// Series are those series of a metric that have all the labels, each written as in
// the text format, such as pass="first".
func (m Metrics) Series(name string, labels ...string) []*dto.Metric {
	return slices.DeleteFunc(slices.Clone(m[name].GetMetric()), func(s *dto.Metric) bool {
		return slices.ContainsFunc(labels, func(want string) bool {
			return !slices.ContainsFunc(s.GetLabel(), func(l *dto.LabelPair) bool {
				return l.GetName()+"="+strconv.Quote(l.GetValue()) == want
			})
		})
	})
}

// Sum adds up those series of a counter or a gauge; it is 0 where there are none.
func (m Metrics) Sum(name string, labels ...string) (total float64) {
	for _, s := range m.Series(name, labels...) {
		total += s.GetCounter().GetValue() + s.GetGauge().GetValue()
	}
	return total
}
