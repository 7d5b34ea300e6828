package wire

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/bus"
)

// logOf returns what replays the embedded log in a folder that has records, and
// that a process with an admin port has had open.
func logOf(t *testing.T, answer http.HandlerFunc) (s *sources, dir string) {
	t.Helper()
	config := write(t, map[string]string{
		"keys.yaml":      "version: 1\nkeys:\n  - {name: item, table: shop.item, key: 'item:{id}'}\n",
		"doubletap.yaml": plain,
	})
	a, err := newApp(options{config: config}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	dir = a.Config.Log.Embedded.Dir
	log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	if err := admin.TellAddr(dir, strings.TrimPrefix(server.URL, "http://")); err != nil {
		t.Fatal(err)
	}
	s = newSources(a, nil)
	t.Cleanup(s.close)
	return s, dir
}

// TestLiveLogOfAProcessThatStarts: an invalidator that is being started again when
// a replay begins is waited for, and its folder left alone.
func TestLiveLogOfAProcessThatStarts(t *testing.T) {
	var asked atomic.Int32
	var s *sources
	var dir string
	s, dir = logOf(t, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.NotFound(w, nil)
			return
		}
		w.Header().Set("Doubletap-Log", url.PathEscape(dir))
		fmt.Fprint(w, `{"partitions":[{"start":0,"end":7}]}`)
	})
	log, err := s.liveLog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if b, err := log.Bounds(t.Context()); err != nil || b[0].End != 7 || s.alone {
		t.Errorf("bounds %v, %v, opened %t", b, err, s.alone)
	}
	own, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: dir})
	if err != nil {
		t.Fatalf("the process cannot open its folder: %v", err)
	}
	if err := own.Close(); err != nil {
		t.Error(err)
	}
}

// TestLiveLogOfNobody: a folder for which nobody answers is opened, after a time
// that is waited for once, and is free again when it was read.
func TestLiveLogOfNobody(t *testing.T) {
	var asked atomic.Int32
	s, dir := logOf(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.NotFound(w, nil)
	})
	s.patience = 2500 * time.Millisecond
	for _, want := range []int32{3, 4} { // at first 0, 1 and 2 s after the beginning
		if _, err := s.liveLog(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := asked.Load(); n < want-1 || n > want || !s.alone {
			t.Errorf("asked %d times, want about %d; opened %t", n, want, s.alone)
		}
		s.close()
		log, err := bus.OpenEmbedded(bus.EmbeddedConfig{Dir: dir})
		if err != nil {
			t.Fatalf("after the end: %v", err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	}
}
