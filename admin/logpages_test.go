package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/doubletap-cdc/doubletap/bus"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// logHandler answers with the pages of an embedded log that has these records.
func logHandler(t *testing.T, records ...[]byte) (http.Handler, *bus.Embedded) {
	t.Helper()
	dir := t.TempDir()
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	list := make([]pipeline.Record, len(records))
	for i, data := range records {
		list[i].Data = data
	}
	done := make(chan error, 1)
	if err := log.Publisher().Publish(t.Context(), list, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	open := &OpenLog{History: log.History(), Dir: dir, Token: testToken}
	p := Pages{Registry: prometheus.NewRegistry(), Ready: NewReady("start"), Log: func() *OpenLog { return open }}
	return p.Handler(), log
}

const testToken = "the test's token"

// ask asks as a process of this machine does.
func ask(t *testing.T, h http.Handler, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
	r.RemoteAddr, r.Host = "127.0.0.1:4711", "127.0.0.1:9090"
	r.Header.Set(tokenHeader, testToken)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestLogPagesAreForThisMachine(t *testing.T) {
	h, _ := logHandler(t, []byte("s3cret"))
	local := &net.TCPAddr{IP: net.ParseIP("10.1.2.3"), Port: 9090}
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		code   int
	}{
		{"loopback", nil, 200},
		{"loopback of IPv6", func(r *http.Request) { r.RemoteAddr, r.Host = "[::1]:4711", "[::1]:9090" }, 200},
		{"loopback in IPv6", func(r *http.Request) { r.RemoteAddr = "[::ffff:127.0.0.1]:4711" }, 200},
		{"localhost", func(r *http.Request) { r.Host = "localhost:9090" }, 200},
		{"its own other address", func(r *http.Request) {
			r.RemoteAddr, r.Host = "10.1.2.3:4711", "10.1.2.3:9090"
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
		}, 200},
		{"elsewhere", func(r *http.Request) {
			r.RemoteAddr = "10.1.2.4:4711"
			*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, net.Addr(local)))
		}, 403},
		{"no address", func(r *http.Request) { r.RemoteAddr = "@" }, 403},
		{"a proxy", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "10.1.2.4") }, 403},
		{"a name that was made to mean here", func(r *http.Request) { r.Host = "evil.example:9090" }, 403},
		{"a proxy of this machine that adds nothing", func(r *http.Request) { r.Header.Del(tokenHeader) }, 401},
		{"another token", func(r *http.Request) { r.Header.Set(tokenHeader, testToken+"x") }, 401},
		{"a part of the token", func(r *http.Request) { r.Header.Set(tokenHeader, testToken[:5]) }, 401},
		{"another method", func(r *http.Request) { r.Method = "POST" }, 405},
	} {
		for _, path := range []string{"/log/bounds", "/log/records?partition=0&from=0&until=1", "/log/dead?skip=0", "/log/offset?partition=0&time=2026-01-01T00:00:00Z"} {
			w := ask(t, h, path, c.change)
			if w.Code != c.code {
				t.Errorf("%s: %s: %d %s", c.name, path, w.Code, w.Body)
			}
			if (c.code == 401 || c.code == 403) && !strings.Contains(w.Body.String(), `"error"`) {
				t.Errorf("%s: %s: does not say why: %s", c.name, path, w.Body)
			}
		}
	}
}

func TestLogPagesRefuse(t *testing.T) {
	h, _ := logHandler(t, []byte("x"))
	for path, code := range map[string]int{
		"/log/records?partition=0&from=0":                   400,
		"/log/records?partition=0&from=-1&until=1":          400,
		"/log/records?partition=1&from=0&until=1":           400,
		"/log/records?partition=0&from=0&until=2":           410,
		"/log/offset?partition=0&time=yesterday":            400,
		"/log/dead?skip=x":                                  400,
		"/log/other":                                        404,
		"/log/records?partition=0&from=0&until=1":           200,
		"/log/offset?partition=0&time=1970-01-01T00:00:00Z": 200,
	} {
		if w := ask(t, h, path, nil); w.Code != code {
			t.Errorf("%s: %d %s, want %d", path, w.Code, w.Body, code)
		}
	}
	for _, open := range []func() *OpenLog{nil, func() *OpenLog { return nil }} {
		p := Pages{Registry: prometheus.NewRegistry(), Ready: NewReady("start"), Log: open}
		if w := ask(t, p.Handler(), "/log/bounds", nil); w.Code != 404 || !strings.Contains(w.Body.String(), "no embedded log") {
			t.Errorf("without a log: %d %s", w.Code, w.Body)
		}
	}
}

// An answer is bounded, and says where to go on.
func TestLogPagesBoundAnswers(t *testing.T) {
	var records [][]byte
	for i := range 40 {
		records = append(records, bytes.Repeat([]byte{byte('a' + i%20)}, 100_000))
	}
	h, log := logHandler(t, records...)
	var got [][]byte
	answers := 0
	for from := int64(0); from < int64(len(records)); answers++ {
		w := ask(t, h, fmt.Sprintf("/log/records?partition=0&from=%d&until=%d", from, len(records)), nil)
		if w.Code != 200 || w.Body.Len() > 2*logAnswer {
			t.Fatalf("from %d: %d, %d bytes", from, w.Code, w.Body.Len())
		}
		for dec := json.NewDecoder(w.Body); dec.More(); {
			var line logLine
			if err := dec.Decode(&line); err != nil {
				t.Fatal(err)
			}
			if line.Next != nil {
				from = *line.Next
			} else {
				got = append(got, line.Data)
			}
		}
	}
	if len(got) != len(records) || !bytes.Equal(bytes.Join(got, nil), bytes.Join(records, nil)) {
		t.Errorf("%d records came, of %d", len(got), len(records))
	}
	if answers != 4 {
		t.Errorf("%d answers for 4 MB", answers)
	}
	for i := range 3 {
		if err := log.DeadLetters().Add(t.Context(), pipeline.DeadLetter{Offset: int64(i), Data: records[i]}); err != nil {
			t.Fatal(err)
		}
	}
	if w := ask(t, h, "/log/dead?skip=1", nil); strings.Count(w.Body.String(), `"letter"`) != 2 || !strings.Contains(w.Body.String(), `{"next":3,"end":true}`) {
		t.Errorf("dead letters: %d, %.300s", w.Code, w.Body)
	}
}

// wide is a log that has as much as one asks for.
type wide struct{ pipeline.History }

func (wide) Read(_ context.Context, _ int, from, until int64, fn func([]pipeline.Message) error) error {
	for data := make([]byte, 256<<10); from < until; from++ {
		if err := fn([]pipeline.Message{{Offset: from, Data: data}}); err != nil {
			return err
		}
	}
	return nil
}

// This process has live changes to handle, so no caller gets more than logRate.
func TestLogPagesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := Pages{Registry: prometheus.NewRegistry(), Ready: NewReady("start"), Log: func() *OpenLog { return &OpenLog{History: wide{}, Token: testToken} }}
		h := p.Handler()
		began, size := time.Now(), 0
		for size < 3*logRate {
			w := ask(t, h, "/log/records?partition=0&from=0&until=4", nil)
			if w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			size += strings.Count(w.Body.String(), `"offset"`) * 256 << 10
		}
		if took := time.Since(began); took < 2500*time.Millisecond || took > 3500*time.Millisecond {
			t.Errorf("%d bytes in %v", size, took)
		}
		ctx, gone := context.WithCancel(t.Context())
		gone()
		if w := ask(t, h, "/log/records?partition=0&from=0&until=4", func(r *http.Request) { *r = *r.WithContext(ctx) }); w.Code != 500 {
			t.Errorf("for a caller who is gone: %d", w.Code)
		}
	})
}

// The token is another one each time, is whole, and is for the folder's owner only.
func TestMakeToken(t *testing.T) {
	dir := t.TempDir()
	first, err := MakeToken(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, tokenFile), 0o644); err != nil { // somebody's mistake does not last
		t.Fatal(err)
	}
	second, err := MakeToken(dir)
	if err != nil || second == first || len(second) < 20 {
		t.Fatalf("%q and then %q, %v", first, second, err)
	}
	info, err := os.Stat(filepath.Join(dir, tokenFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, tokenFile)); err != nil || strings.TrimSpace(string(text)) != second {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("the folder holds %v, %v", all, err)
	}
	if token, err := MakeToken(dir + "/missing"); !errors.Is(err, os.ErrNotExist) || token != "" {
		t.Errorf("no folder: %q, %v", token, err)
	}
	h := (&Pages{Registry: prometheus.NewRegistry(), Ready: NewReady("start"), Log: func() *OpenLog { return &OpenLog{Dir: dir} }}).Handler()
	if w := ask(t, h, "/log/bounds", func(r *http.Request) { r.Header.Set(tokenHeader, "") }); w.Code != 401 {
		t.Errorf("without any token: %d %s", w.Code, w.Body)
	}
}

func TestAddrOf(t *testing.T) {
	dir := t.TempDir()
	if got := AddrOf(dir); got != "" {
		t.Errorf("without a file: %q", got)
	}
	for told, want := range map[string]string{
		"127.0.0.1:9090": "127.0.0.1:9090", "[::]:9091": "127.0.0.1:9091", "0.0.0.0:9090": "127.0.0.1:9090",
		":9090": "127.0.0.1:9090", "10.1.2.3:9090": "10.1.2.3:9090", "[::1]:9090": "[::1]:9090", "nonsense": "",
	} {
		if err := TellAddr(dir, told); err != nil {
			t.Fatal(err)
		}
		if got := AddrOf(dir); got != want {
			t.Errorf("%q: %q, want %q", told, got, want)
		}
	}
	if err := TellAddr(dir+"/missing", "127.0.0.1:1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
