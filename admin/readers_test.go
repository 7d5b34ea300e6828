package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// page asks a handler without a network.
func page(t *testing.T, p *Pages, path string) (code int, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
	return w.Code, w.Body.String()
}

func TestReadersPage(t *testing.T) {
	all := []Reader{
		{Name: "p:3306", ServerUUID: "u1", Up: true, OutPartitions: []string{}, MayServe: true},
		{Name: "R:3306", Late: true, LagSeconds: 700.5, BehindTransactions: 9, OutPartitions: []string{"t/0"}, Reason: "it is out"},
	}
	p := &Pages{Registry: NewRegistry(), Ready: NewReady(), Readers: func(context.Context) ([]Reader, bool) { return all, all != nil }}
	for _, c := range []struct {
		path string
		code int
		want string
	}{
		{"/readers", 200, `"name": "R:3306"`},
		{"/readers?name=p:3306", 200, `"may_serve": true`},
		{"/readers?name=r:3306", 503, `"reason": "it is out"`},
		{"/readers?name=", 404, "not one of"},
		{"/readers?name=x:1", 404, "not one of"},
	} {
		if code, body := page(t, p, c.path); code != c.code || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s, want %d with %s", c.path, code, body, c.code, c.want)
		}
	}
	_, body := page(t, p, "/readers")
	var got struct{ Readers []Reader }
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got.Readers) != 2 || got.Readers[1].LagSeconds != 700.5 {
		t.Errorf("/readers: %v, %s", err, body)
	}
	all = nil
	if code, _ := page(t, p, "/readers"); code != 404 {
		t.Errorf("/readers of a process that watches none: %d", code)
	}
	if code, _ := page(t, &Pages{Registry: NewRegistry(), Ready: NewReady()}, "/readers?name=p:3306"); code != 404 {
		t.Errorf("/readers of a tailer: %d", code)
	}
}

// A reader that is late or out is named, and the process stays ready.
func TestReadyNamesReaders(t *testing.T) {
	r := NewReady()
	h := r.Hooks()
	p := &Pages{Registry: NewRegistry(), Ready: r}
	want := func(when string, warnings ...string) {
		t.Helper()
		code, body := page(t, p, "/readyz")
		var got struct {
			Ready    bool
			Warnings []Notice
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil || code != 200 || !got.Ready {
			t.Fatalf("%s: %d %s", when, code, body)
		}
		names := []string{}
		for _, w := range got.Warnings {
			names = append(names, w.Name+": "+w.Reason)
		}
		if len(names) != len(warnings) {
			t.Fatalf("%s: %q, want %q", when, names, warnings)
		}
		for i := range warnings {
			if !strings.Contains(names[i], warnings[i]) {
				t.Errorf("%s: %q, want %q", when, names[i], warnings[i])
			}
		}
	}
	asked := func(late bool, err error) {
		h.ReaderAsked(pipeline.ReaderInfo{Name: "r:1", Late: late, Lag: 11*time.Minute + time.Millisecond, Err: err})
	}
	out := func(partition string, out bool) {
		h.ReaderOut(pipeline.ReaderOutInfo{Partition: partition, Reader: "r:1", Out: out})
	}
	want("at first")
	asked(false, nil)
	want("asked")
	asked(true, nil)
	asked(true, errors.New("no route"))
	want("late and silent", "reader r:1 is late: it lags by 11m0s, more than", "reader r:1 is silent: it does not say what it shows, and second deletes wait for it: no route")
	asked(true, nil)
	want("late", "is late")
	for _, name := range []string{"t/0", "t/1", "t/2", "t/3", "t/4", "t/5", "t/6"} {
		out(name, true)
	}
	want("out", "is late", "reader r:1 is out: second deletes no longer wait for it in t/0, t/1, t/2, t/3, t/4 and 2 more,")
	asked(false, nil)
	for _, name := range []string{"t/2", "t/3", "t/4", "t/5", "t/6"} {
		out(name, false)
	}
	want("some are back", "wait for it in t/0, t/1,")
	h.Owned("t/0", false)
	want("one was given up", "wait for it in t/1,")
	out("t/1", false)
	out("t/1", false)
	want("all are back")
	h.ReaderAsked(pipeline.ReaderInfo{Name: "s:1", Source: true, Late: true, Err: errors.New("refused")})
	h.Posted("t/0", pipeline.Watermark{Untrusted: []string{"item", "price"}})
	want("no trust", "source is silent: it does not say what it shows: refused", "trust in t/0: applications are told not to trust what is cached for item, price")
	h.ReaderAsked(pipeline.ReaderInfo{Name: "s:1", Source: true})
	want("the source is back", "trust in t/0")
	h.Owned("t/0", false)
	want("and given up")
	h.Posted("t/1", pipeline.Watermark{Untrusted: []string{"*"}})
	h.Posted("t/1", pipeline.Watermark{})
	want("trusted")
}

// An invalidator that waits for its partitions is not ready until it has one, or
// is told that there is none for it.
func TestReadyAwaitsPartitions(t *testing.T) {
	for _, c := range []struct {
		name string
		tell func(h pipeline.Hooks)
		want bool
	}{
		{"nothing", func(pipeline.Hooks) {}, false},
		{"joined", func(h pipeline.Hooks) { h.Joined(3) }, false},
		{"none for it", func(h pipeline.Hooks) { h.Joined(0) }, true},
		{"one", func(h pipeline.Hooks) { h.Joined(3); h.Owned("t/0", true) }, true},
		{"given up", func(h pipeline.Hooks) { h.Owned("t/0", false) }, false},
		{"rebalance", func(h pipeline.Hooks) { h.Owned("t/0", true); h.Owned("t/0", false); h.Joined(1) }, true},
	} {
		r := NewReady()
		c.tell(r.Hooks()) // a process that awaits none, such as a tailer
		if all, _ := r.Conditions(); len(all) != 0 {
			t.Errorf("%s: %+v", c.name, all)
		}
		r = NewReady(Partitions)
		c.tell(r.Hooks())
		if _, got := r.Conditions(); got != c.want {
			t.Errorf("%s: ready %t", c.name, got)
		}
	}
}

// What is told each second is logged when it changes.
func TestReadersAreLoggedWhenTheyChange(t *testing.T) {
	var out output
	h := LogHooks(slog.New(slog.NewTextHandler(&out, nil)))
	lines := func(when string, want int, parts ...string) {
		t.Helper()
		got := out.take()
		if n := strings.Count(got, "\n"); n != want {
			t.Errorf("%s: %d lines, want %d:\n%s", when, n, want, got)
		}
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s: no %s in\n%s", when, part, got)
			}
		}
	}
	tell := func(i pipeline.ReaderInfo) {
		for range 3 {
			h.ReaderAsked(i)
		}
	}
	tell(pipeline.ReaderInfo{Name: "p:1", Source: true})
	tell(pipeline.ReaderInfo{Name: "p:1"})
	lines("all is well", 0)
	tell(pipeline.ReaderInfo{Name: "p:1", Source: true, Err: errors.New("refused")})
	lines("the source is away", 1, "the source does not say")
	tell(pipeline.ReaderInfo{Name: "p:1", Err: errors.New("refused"), Late: true, Lag: time.Hour})
	lines("the reader is away, and late", 2, "level=WARN", "level=ERROR", "lag=1h0m0s")
	tell(pipeline.ReaderInfo{Name: "p:1", Source: true})
	tell(pipeline.ReaderInfo{Name: "p:1"})
	lines("back", 3, "the source says again", "the reader says again", "no longer later")

	for range 3 {
		h.Posted("t/0", pipeline.Watermark{Untrusted: []string{"*"}})
	}
	lines("at the start", 1, "level=INFO", "do not trust what is cached yet")
	for range 3 {
		h.Posted("t/0", pipeline.Watermark{})
	}
	lines("trusted", 1, "level=INFO")
	for range 3 {
		h.Posted("t/0", pipeline.Watermark{Untrusted: []string{"*"}})
	}
	lines("late", 1, "level=WARN")
	h.Owned("t/0", false)
	out.take()
	h.ReaderOut(pipeline.ReaderOutInfo{Partition: "t/0", Reader: "p:1", Reason: "it has caught up"})
	lines("in again", 1, "level=INFO", "a reader is back")
}
