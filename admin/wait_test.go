package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

const server = "3e11fa47-71ca-11e1-9e33-c80aa9429562"

// passes is a Progress of one partition.
type passes struct{ first, second string }

func (p passes) Missing(set gtid.Set, pass pipeline.Pass) []string {
	text := p.first
	if pass == pipeline.Second {
		text = p.second
	}
	have, err := gtid.Parse(text)
	if err != nil {
		panic(err)
	}
	if have.HasAll(set) {
		return nil
	}
	return []string{fmt.Sprintf("partition 0: %d", have.Missing(set))}
}

func wait(t *testing.T, h *waiter, query string) (code int, a waitAnswer, body string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/wait?"+query, nil))
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		t.Fatal(err, w.Body)
	}
	return w.Code, a, w.Body.String()
}

// TestWait advances by one transaction each 100 ms, the second pass a second later.
func TestWait(t *testing.T) {
	for _, c := range []struct {
		query string
		code  int
		took  time.Duration // about
		want  string
	}{
		{"gtid=" + server + ":1", 200, 0, `"done": true`},
		{"gtid=" + server + ":1-20", 200, 2 * time.Second, `"pass": "first"`},
		{"pass=first&gtid=" + server + ":20", 200, 2 * time.Second, `"done": true`},
		{"timeout=1s&gtid=" + server + ":1-20", 504, time.Second, `"partition 0: 1`},
		{"timeout=0s&gtid=" + server + ":1-20", 504, 0, `"partition 0: 19"`},
		{"timeout=10s&pass=second&gtid=" + server + ":1-20", 200, 3 * time.Second, `"pass": "second"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			h := newWaiter(func(context.Context) (Progress, error) {
				set := func(since time.Duration) string {
					return fmt.Sprintf("%s:1-%d", server, max(1, since/(100*time.Millisecond)))
				}
				return passes{set(time.Since(began)), set(time.Since(began) - time.Second)}, nil
			})
			code, _, body := wait(t, h, c.query)
			took := time.Since(began)
			if code != c.code || !strings.Contains(body, c.want) || took < c.took || took > c.took+2*latest {
				t.Errorf("%s: %d after %v: %s", c.query, code, took, body)
			}
		})
	}
}

func TestWaitRefuses(t *testing.T) {
	h := newWaiter(func(context.Context) (Progress, error) { t.Error("asked"); return passes{}, nil })
	for _, query := range []string{
		"", "gtid=", "gtid=x", "gtid=" + server, "gtid=,", "gtid=" + server + ":0", "gtid=" + server + ":1&pass=third",
		"gtid=" + server + ":1&timeout=5", "gtid=" + server + ":1&timeout=-1s", "gtid=" + server + ":1&timeout=2m",
		"gtid=" + server + ":1&timeuot=1s", "gtid=0-1-1&gtid=0-1-2", "gtid=" + url.QueryEscape(strings.Repeat("0-1-1,", maxSet)),
	} {
		if code, _, body := wait(t, h, query); code != 400 || !strings.Contains(body, `"error"`) {
			t.Errorf("%.60s: %d %s", query, code, body)
		}
	}
	if code, _, _ := wait(t, newWaiter(nil), "gtid=0-1-1"); code != 404 {
		t.Errorf("a process that does not know: %d", code)
	}
	for range maxWaiting {
		h.waiting <- struct{}{}
	}
	if code, _, _ := wait(t, h, "gtid=0-1-1"); code != 429 {
		t.Errorf("too many: %d", code)
	}
}

// Many who wait ask no more often than one, and one that has no time to wait for
// a slow answer does not spoil it for the others.
func TestWaitersShareAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, asked := time.Now(), 0
		h := newWaiter(func(ctx context.Context) (Progress, error) {
			asked++ // by one at a time
			if since := time.Since(began); since < 3*time.Second {
				select {
				case <-time.After(3*time.Second - since):
				case <-ctx.Done():
				}
				return nil, errors.New("redis does not answer")
			}
			if time.Since(began) > 4*time.Second {
				return passes{"0-1-9", ""}, nil
			}
			return passes{"0-1-1", ""}, nil
		})
		var wg sync.WaitGroup
		wg.Go(func() {
			if code, a, _ := wait(t, h, "gtid=0-1-9&timeout=2s"); code != 504 || a.Error == "" {
				t.Errorf("in a hurry: %d %+v", code, a)
			}
			if took := time.Since(began); took > 2100*time.Millisecond {
				t.Errorf("in a hurry: %v", took)
			}
		})
		for range 100 {
			wg.Go(func() {
				if code, a, _ := wait(t, h, "gtid=0-1-9&timeout=10s"); code != 200 || a.Error != "" || len(a.Missing) > 0 {
					t.Errorf("patient: %d %+v", code, a)
				}
			})
		}
		wg.Wait()
		if most := int(2*time.Second/soonest) + 3; asked > most {
			t.Errorf("asked %d times, more than %d", asked, most)
		}
		if took := time.Since(began); took > 4200*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
}
