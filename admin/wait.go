package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Bounds of /wait.
const (
	usualWait   = 5 * time.Second
	longestWait = time.Minute
	firstAnswer = time.Second // the least time for one answer, also where the time-out is shorter
	maxWaiting  = 1000
	maxSet      = 64 << 10 // bytes of a GTID set

	// How often is asked: soon at first, because the first pass is some
	// milliseconds behind. All who wait share the answers.
	soonest = 5 * time.Millisecond
	latest  = 50 * time.Millisecond
)

// waiter answers /wait.
type waiter struct {
	read    func(ctx context.Context) (Progress, error)
	waiting chan struct{} // who waits

	asking chan struct{} // held by who asks
	// What was answered last, held by asking.
	progress Progress
	err      error
	at       time.Time
}

func newWaiter(read func(ctx context.Context) (Progress, error)) *waiter {
	return &waiter{read: read, waiting: make(chan struct{}, maxWaiting), asking: make(chan struct{}, 1)}
}

// waitRequest is what is asked for.
type waitRequest struct {
	set     gtid.Set
	pass    pipeline.Pass
	timeout time.Duration
}

func parseWait(q url.Values) (w waitRequest, err error) {
	for name, values := range q {
		switch {
		case name != "gtid" && name != "pass" && name != "timeout":
			return w, fmt.Errorf("%q is none of gtid, timeout and pass", name)
		case len(values) > 1:
			return w, fmt.Errorf("%s is given %d times", name, len(values))
		}
	}
	text := q.Get("gtid")
	switch {
	case text == "":
		return w, errors.New("gtid is needed: a GTID or a set of them, as the source's gtid_executed after the commit")
	case len(text) > maxSet:
		return w, fmt.Errorf("gtid has %d bytes, more than %d", len(text), maxSet)
	}
	if w.set, err = gtid.Parse(text); err != nil {
		return w, fmt.Errorf("gtid: %w", err)
	}
	if w.set.Empty() {
		return w, errors.New("gtid names no transaction")
	}
	w.pass, w.timeout = pipeline.First, usualWait
	switch pass := q.Get("pass"); pass {
	case "", string(pipeline.First):
	case string(pipeline.Second):
		w.pass = pipeline.Second
	default:
		return w, fmt.Errorf("pass %q is neither first nor second", pass)
	}
	if q.Has("timeout") {
		if w.timeout, err = time.ParseDuration(q.Get("timeout")); err != nil || w.timeout < 0 || w.timeout > longestWait {
			return w, fmt.Errorf("timeout %q is not a duration from 0s to %v, such as 500ms or 5s", q.Get("timeout"), longestWait)
		}
	}
	return w, nil
}

// waitAnswer is the body of an answer.
type waitAnswer struct {
	Done    bool     `json:"done"`
	Pass    string   `json:"pass"`
	Missing []string `json:"missing,omitempty"`
	Error   string   `json:"error,omitempty"` // why the progress is not known
}

func (h *waiter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.read == nil {
		problem(w, http.StatusNotFound, "this process does not know the progress of the passes: ask an invalidator")
		return
	}
	req, err := parseWait(r.URL.Query())
	if err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		problem(w, http.StatusTooManyRequests, fmt.Sprintf("%d requests are waiting already", maxWaiting))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), req.timeout)
	defer cancel()
	a := h.wait(ctx, req)
	code := http.StatusOK
	if !a.Done {
		code = http.StatusGatewayTimeout
	}
	answer(w, code, a)
}

// wait asks until it is done or ctx ends, and at least once.
func (h *waiter) wait(ctx context.Context, req waitRequest) waitAnswer {
	a := waitAnswer{Pass: string(req.pass)}
	first, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(req.timeout, firstAnswer))
	defer cancel()
	progress, err := h.ask(first)
	for pause := soonest; ; pause = min(2*pause, latest) {
		switch {
		case err == nil:
			a.Missing, a.Error = progress.Missing(req.set, req.pass), ""
			a.Done = len(a.Missing) == 0
		case ctx.Err() == nil || a.Error == "" && a.Missing == nil:
			a.Error = err.Error()
		}
		if a.Done || ctx.Err() != nil {
			return a
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return a
		case <-t.C:
		}
		progress, err = h.ask(ctx)
	}
}

// ask returns the progress as it was at most soonest ago. Only one asks at a
// time, and the others take its answer, unless it had no time to wait for one.
func (h *waiter) ask(ctx context.Context) (Progress, error) {
	select {
	case h.asking <- struct{}{}:
		defer func() { <-h.asking }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if time.Since(h.at) < soonest {
		return h.progress, h.err
	}
	progress, err := h.read(ctx)
	if ctx.Err() == nil {
		h.progress, h.err, h.at = progress, err, time.Now()
	}
	return progress, err
}
