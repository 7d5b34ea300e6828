package history

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
)

// embedded opens a log in a folder of the test's own.
func embedded(t *testing.T) (*bus.Embedded, string) {
	t.Helper()
	dir := t.TempDir()
	e, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e, dir
}

// pages answer as a process that has the log open.
func pages(t *testing.T, h pipeline.History, dir string) http.Handler {
	t.Helper()
	token, err := admin.MakeToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	open := &admin.OpenLog{History: h, Dir: dir, Token: token}
	p := admin.Pages{Registry: prometheus.NewRegistry(), Ready: admin.NewReady("start"), Log: func() *admin.OpenLog { return open }}
	return p.Handler()
}

// clientOf returns a client of a handler that listens.
func clientOf(t *testing.T, h http.Handler, dir string, hooks pipeline.Hooks) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return NewClient(func() string { return strings.TrimPrefix(server.URL, "http://") }, dir, hooks)
}

func TestClientPassesTheSuite(t *testing.T) {
	pipelinetest.RunHistory(t, func(t *testing.T) pipelinetest.HistoryUnderTest {
		e, dir := embedded(t)
		c := clientOf(t, pages(t, e.History(), dir), dir, pipeline.Hooks{})
		return pipelinetest.HistoryUnderTest{History: c, Publisher: e.Publisher(), Dead: e.DeadLetters()}
	})
}

// Before anybody has answered, each trouble is an error that says what to do.
func TestClientSaysWhatToDo(t *testing.T) {
	e, dir := embedded(t)
	_, other := embedded(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	logPages := pages(t, e.History(), dir)
	for _, c := range []struct {
		name   string
		client *Client
		want   string
	}{
		{"nobody listens", NewClient(func() string { return nobody }, dir, pipeline.Hooks{}), "start the invalidator"},
		{"another log", clientOf(t, pages(t, e.History(), other), dir, pipeline.Hooks{}), "not the one in " + dir},
		{"another program", clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }), dir, pipeline.Hooks{}), "another program"},
		{"it has none", clientOf(t, http.NotFoundHandler(), dir, pipeline.Hooks{}), "404"},
		{"a proxy between", clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Set("X-Forwarded-For", "10.1.2.3")
			logPages.ServeHTTP(w, r)
		}), dir, pipeline.Hooks{}), "callers of this machine"},
		{"a user who cannot read the token", clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del(tokenHeader)
			logPages.ServeHTTP(w, r)
		}), dir, pipeline.Hooks{}), "run it as a user who can"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for what, call := range map[string]func() error{
				"bounds": func() error { _, err := c.client.Bounds(t.Context()); return err },
				"offset": func() error { _, err := c.client.OffsetAt(t.Context(), 0, time.Now()); return err },
				"read": func() error {
					return c.client.Read(t.Context(), 0, 0, 1, func([]pipeline.Message) error { return nil })
				},
				"dead": func() error {
					return c.client.DeadLetters(t.Context(), 0, func(pipeline.DeadLetter) error { return nil })
				},
			} {
				if err := call(); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: %v; want %q in it", what, err, c.want)
				}
			}
		})
	}
}

// cut breaks the connection in the middle of an answer.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// Once it has answered, a process that stalls, restarts at another port, or is
// cut off is waited for, and every record comes once.
func TestClientIsPatient(t *testing.T) {
	e, dir := embedded(t)
	const n = 30
	for i := range n {
		append1(t, e.Publisher(), 0, []byte(strings.Repeat(string(rune('a'+i)), 100_000)))
	}
	var asked, retries atomic.Int64
	var inner atomic.Value
	inner.Store(pages(t, e.History(), dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 2, 6:
			inner.Store(pages(t, e.History(), dir)) // with another token, as after a restart
			http.Error(w, "starting", http.StatusServiceUnavailable)
		case 3:
			w = &cut{w, 300_000}
		case 5:
			w = &cut{w, 20}
		}
		inner.Load().(http.Handler).ServeHTTP(w, r)
	}))
	defer server.Close()
	addr := func() string {
		if asked.Load() == 4 { // as if it had moved, and nobody is there any more
			asked.Add(1)
			return "127.0.0.1:1"
		}
		return strings.TrimPrefix(server.URL, "http://")
	}
	c := NewClient(addr, dir, pipeline.Hooks{Retry: func(string, int, error, time.Duration) { retries.Add(1) }})
	if _, err := c.Bounds(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := int64(0)
	err := c.Read(t.Context(), 0, 0, n, func(messages []pipeline.Message) error {
		for _, m := range messages {
			if m.Offset != next || len(m.Data) != 100_000 {
				t.Fatalf("record %d with %d bytes, want %d", m.Offset, len(m.Data), next)
			}
			next++
		}
		return nil
	})
	if err != nil || next != n {
		t.Fatalf("%d records, %v", next, err)
	}
	if retries.Load() < 4 {
		t.Errorf("%d retries: the troubles did not happen", retries.Load())
	}
}

// While it waits for the process, it can be ended.
func TestClientEnds(t *testing.T) {
	e, dir := embedded(t)
	ctx, cancel := context.WithCancel(t.Context())
	broken := atomic.Bool{}
	inner := pages(t, e.History(), dir)
	c := clientOf(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			cancel()
			panic(http.ErrAbortHandler)
		}
		inner.ServeHTTP(w, r)
	}), dir, pipeline.Hooks{})
	if _, err := c.Bounds(ctx); err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	if _, err := c.Bounds(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
}

// append1 publishes a record and waits until it is durable.
func append1(t *testing.T, p pipeline.Publisher, partition int, data []byte) {
	t.Helper()
	done := make(chan error, 1)
	if err := p.Publish(t.Context(), []pipeline.Record{{Partition: partition, Data: data}}, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
