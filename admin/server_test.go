package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func get(t *testing.T, base, path string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestServe(t *testing.T) {
	reg := NewRegistry()
	m, hooks := NewMetrics(reg)
	m.SetBuild("v1.2.3", true)
	hooks.Gap("x")
	ready := NewReady("redis", "log")
	l, err := Listen(t.Context(), "127.0.0.1:0", true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Serve(ctx, l, (&Pages{Title: "invalidator v1.2.3", Registry: reg, Ready: ready}).Handler())
	}()
	base := "http://" + l.Addr().String()

	if code, body := get(t, base, "/healthz"); code != 200 || body != "ok\n" {
		t.Errorf("/healthz: %d %q", code, body)
	}
	if code, body := get(t, base, "/"); code != 200 || !strings.Contains(body, "invalidator v1.2.3") {
		t.Errorf("/: %d %q", code, body)
	}
	if code, _ := get(t, base, "/none"); code != 404 {
		t.Errorf("/none: %d", code)
	}
	_, body := get(t, base, "/metrics")
	for _, want := range []string{"doubletap_gaps_total 1", `doubletap_build_info{goversion="go`, `version="v1.2.3"} 1`, "doubletap_observing 1", "go_goroutines", "process_"} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	wantReady := func(code int, want ...Condition) {
		t.Helper()
		gotCode, body := get(t, base, "/readyz")
		var got struct {
			Ready      bool
			Conditions []Condition
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || gotCode != code || got.Ready != (code == 200) {
			t.Errorf("/readyz: %d %s %v, want %d", gotCode, body, err, code)
		}
		for i, c := range want {
			if len(got.Conditions) != len(want) || got.Conditions[i] != c {
				t.Errorf("/readyz: %+v, want %+v", got.Conditions, want)
				break
			}
		}
	}
	wantReady(503, Condition{"log", false, "starting"}, Condition{"redis", false, "starting"})
	ready.Set("redis", "")
	wantReady(503, Condition{"log", false, "starting"}, Condition{"redis", true, ""})
	ready.Set("log", "")
	wantReady(200, Condition{"log", true, ""}, Condition{"redis", true, ""})

	cancel()
	if err := <-ended; err != nil {
		t.Error("Serve returned", err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeFails(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	l.Close() //nolint:errcheck // that is the fault
	if err := Serve(t.Context(), l, http.NotFoundHandler()); err == nil {
		t.Error("Serve on a closed listener returned nil")
	}
}

func TestListenTakesTheNextPort(t *testing.T) {
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	busy, err := Listen(t.Context(), "127.0.0.1:0", false, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	if log.Len() > 0 {
		t.Errorf("port 0 logged %s", log.String())
	}
	if l, err := Listen(t.Context(), busy.Addr().String(), true, logger); err == nil {
		l.Close() //nolint:errcheck // it should not be there
		t.Error("a busy port was given to somebody who wants exactly it")
	}
	next, err := Listen(t.Context(), busy.Addr().String(), false, logger)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if out := log.String(); !strings.Contains(out, "level=WARN") || !strings.Contains(out, next.Addr().String()) {
		t.Errorf("the taken port is not logged: %s", out)
	}
}

func TestListenRefuses(t *testing.T) {
	for _, addr := range []string{"127.0.0.1", "127.0.0.1:http", "203.0.113.1:9400"} {
		if l, err := Listen(t.Context(), addr, false, slog.New(slog.DiscardHandler)); err == nil {
			l.Close() //nolint:errcheck // it should not be there
			t.Errorf("Listen(%s) succeeded", addr)
		}
	}
}

func TestTroubleIsNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewReady()
		retry := r.Hooks().Retry
		want := func(when string, ready bool) {
			t.Helper()
			if all, got := r.Conditions(); got != ready || (len(all) == 0) != ready {
				t.Errorf("%s: ready %v, %+v", when, got, all)
			}
		}
		want("at first", true)
		retry("first delete", 1, errors.New("no route"), time.Second)
		retry("first delete", 2, errors.New("no route"), time.Second)
		want("after two failures", true)
		retry("first delete", 3, errors.New("no route"), 5*time.Second)
		want("after three", false)
		time.Sleep(14 * time.Second)
		want("before the end", false)
		time.Sleep(2 * time.Second)
		want("when nothing more was told", true)
	})
}

func TestHandlerOnlyReads(t *testing.T) {
	w := httptest.NewRecorder()
	h := (&Pages{Title: "x", Registry: NewRegistry(), Ready: NewReady()}).Handler()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/readyz", http.NoBody))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST /readyz: %d", w.Code)
	}
}
