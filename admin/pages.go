package admin

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Pages are what a command answers over HTTP.
type Pages struct {
	Title    string // the command and its version
	Registry prometheus.Gatherer
	Ready    *Ready
	// Readers returns the servers that cache fills read from; ok is false where
	// this process watches none. It must be quick. nil is the same as false.
	Readers func(ctx context.Context) (readers []Reader, ok bool)
	// Progress returns how far the passes are, of all partitions and processes.
	// nil where this process cannot say.
	Progress func(ctx context.Context) (Progress, error)
	// Log returns the embedded log that this process has open; nil while it has
	// none. nil is a process that never has one.
	Log func() *OpenLog
}

// Progress is how far the passes are at one time.
type Progress interface {
	// Missing says what the pass has not handled yet of a set, for people; it is
	// empty where every key that a transaction of the set made stale was deleted.
	Missing(set gtid.Set, pass pipeline.Pass) []string
}

const index = `

/healthz  the process is alive
/readyz   the process can do its work, as JSON; 503 with the reasons where not
/metrics  Prometheus metrics
/readers  the servers that cache fills read from, as JSON; with ?name=HOST:PORT
          200 where that one may serve fills now, 503 where not
/wait     ?gtid=SET&timeout=5s: 200 once every key that these transactions made
          stale was deleted, 504 at the time-out; &pass=second for the second pass
/log/     for replay, which asks here while this process has an embedded log open
`

// Handler answers the requests; / lists what there is.
func (p *Pages) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		text(w, "ok\n") // the process runs; whether it can work is /readyz
	})
	mux.HandleFunc("GET /readyz", p.ready)
	mux.HandleFunc("GET /readers", p.readers)
	mux.Handle("GET /wait", newWaiter(p.Progress))
	newLogPages(p.Log).handle(mux)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { text(w, p.Title+index) })
	return mux
}

func (p *Pages) ready(w http.ResponseWriter, _ *http.Request) {
	conditions, ok := p.Ready.Conditions()
	code := http.StatusOK
	if !ok {
		code = http.StatusServiceUnavailable
	}
	answer(w, code, struct {
		Ready      bool        `json:"ready"`
		Conditions []Condition `json:"conditions"`
		Warnings   []Notice    `json:"warnings"`
	}{ok, conditions, p.Ready.Warnings()})
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(s)) // the client has gone where this fails
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body) // the client has gone where this fails
}

// problem answers with what is wrong.
func problem(w http.ResponseWriter, code int, reason string) {
	answer(w, code, struct {
		Error string `json:"error"`
	}{reason})
}
