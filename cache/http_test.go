package cache

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// visit serves one request by a handler behind the middleware.
func visit(t *testing.T, h HTTP, handler http.HandlerFunc, change func(*http.Request)) *http.Response {
	t.Helper()
	s := httptest.NewServer(h.Middleware(handler))
	defer s.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	res, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	}
	return res
}

func remember(t *testing.T, ctx context.Context, token Seen) { //nolint:revive // like a handler
	t.Helper()
	if err := Remember(ctx, token); err != nil {
		t.Error(err)
	}
}

// TestMiddlewareKeepsAUsersToken: over several requests, as a browser sends them.
func TestMiddlewareKeepsAUsersToken(t *testing.T) {
	one, two, late := seen(t, serverA+":1-5"), seen(t, serverA+":9,"+serverB+":1"), seen(t, serverB+":7")
	for name, h := range map[string]HTTP{"plain": {Insecure: true}, "signed": {Insecure: true, Key: []byte("secret")}} {
		t.Run(name, func(t *testing.T) {
			var got []Seen
			mux := http.NewServeMux()
			mux.HandleFunc("/read", func(_ http.ResponseWriter, r *http.Request) { got = append(got, FromContext(r.Context())) })
			mux.HandleFunc("/one", func(_ http.ResponseWriter, r *http.Request) { remember(t, r.Context(), one) })
			mux.HandleFunc("/two", func(w http.ResponseWriter, r *http.Request) {
				var all sync.WaitGroup
				for range 10 {
					all.Go(func() { remember(t, r.Context(), two); _ = FromContext(r.Context()) })
				}
				all.Wait()
				w.WriteHeader(http.StatusTeapot)
				if Remember(r.Context(), late) == nil {
					t.Error("remembered when it was too late")
				}
			})
			mux.HandleFunc("/forget", func(_ http.ResponseWriter, r *http.Request) { Forget(r.Context()) })
			s := httptest.NewServer(h.Middleware(mux))
			defer s.Close()
			jar, err := cookiejar.New(nil)
			if err != nil {
				t.Fatal(err)
			}
			c := &http.Client{Jar: jar}
			for _, path := range []string{"/read", "/one", "/read", "/two", "/read", "/forget", "/read"} {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
				res, err := c.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				_ = res.Body.Close()
			}
			both, err := Merge(one, two)
			if err != nil || len(got) != 4 || got[0] != "" || got[1] != one || got[2] != both || got[3] != "" {
				t.Errorf("the handler sees %q, %v", got, err)
			}
		})
	}
}

// TestMiddlewareMendsTheCookie: a parallel answer has replaced the cookie of a write;
// the page still has its token and sends it, and so the cookie has it again.
func TestMiddlewareMendsTheCookie(t *testing.T) {
	write, other := seen(t, serverA+":1-5"), seen(t, serverB+":1")
	both, err := Merge(write, other)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ header, cookie, sent Seen }{
		{write, other, both},
		{write, "broken", write},
		{write, both, ""}, // it has all
		{"", other, ""},
		{write, "", ""}, // a program that needs no cookies
	} {
		res := visit(t, HTTP{}, func(http.ResponseWriter, *http.Request) {}, func(r *http.Request) {
			r.Header.Set("Doubletap-Token", string(test.header))
			if test.cookie != "" {
				r.AddCookie(&http.Cookie{Name: "doubletap-token", Value: string(test.cookie)}) //nolint:gosec // a request's
			}
		})
		var got Seen
		for _, c := range res.Cookies() {
			got = Seen(c.Value)
		}
		if got != test.sent || res.Header.Get("Doubletap-Token") != string(test.sent) {
			t.Errorf("header %q and cookie %q: the answer sets %q, want %q", test.header, test.cookie, got, test.sent)
		}
	}
}

// TestMiddlewareBeforeTheHeader: the token is sent whatever way the answer begins.
func TestMiddlewareBeforeTheHeader(t *testing.T) {
	one := seen(t, serverA+":1-5")
	for name, begin := range map[string]func(http.ResponseWriter) error{
		"nothing":      func(http.ResponseWriter) error { return nil },
		"a status":     func(w http.ResponseWriter) error { w.WriteHeader(http.StatusNotFound); return nil },
		"early hints":  func(w http.ResponseWriter) error { w.WriteHeader(http.StatusEarlyHints); return nil },
		"bytes":        func(w http.ResponseWriter) error { _, err := w.Write([]byte("x")); return err },
		"a copy":       func(w http.ResponseWriter) error { _, err := io.Copy(w, strings.NewReader("x")); return err },
		"a flush":      func(w http.ResponseWriter) error { return http.NewResponseController(w).Flush() },
		"an old flush": func(w http.ResponseWriter) error { w.(http.Flusher).Flush(); return nil },
		"a deadline": func(w http.ResponseWriter) error {
			return http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Hour))
		},
		"server error": func(w http.ResponseWriter) error { http.Error(w, "no", http.StatusInternalServerError); return nil },
	} {
		res := visit(t, HTTP{}, func(w http.ResponseWriter, r *http.Request) {
			remember(t, r.Context(), one)
			if err := begin(w); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}, nil)
		c := res.Cookies()
		if len(c) != 1 || c[0].Name != "doubletap-token" || c[0].Value != string(one) || !c[0].HttpOnly || !c[0].Secure ||
			c[0].SameSite != http.SameSiteLaxMode || c[0].MaxAge != 600 || res.Header.Get("Doubletap-Token") != string(one) {
			t.Errorf("%s: cookies %v, header %v", name, c, res.Header)
		}
	}
}

func TestMiddlewareHijack(t *testing.T) {
	s := httptest.NewServer(Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 0\r\n\r\n")
	})))
	defer s.Close()
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	res, err := s.Client().Do(r)
	if err != nil || res.StatusCode != 299 {
		t.Fatal(res, err)
	}
	_ = res.Body.Close()
}

// TestMiddlewareIgnoresWhatIsHostile: it neither reaches the handler nor comes back.
func TestMiddlewareIgnoresWhatIsHostile(t *testing.T) {
	mine := seen(t, serverA+":1-5")
	signed, other := HTTP{Key: []byte("secret")}, HTTP{Key: []byte("another")}
	for name, c := range map[string]struct {
		h       HTTP
		cookie  string
		header  string
		visible Seen
	}{
		"good":                {HTTP{}, string(mine), "", mine},
		"in the header":       {HTTP{}, "", string(mine), mine},
		"in both":             {HTTP{}, string(seen(t, serverA+":6")), string(mine), seen(t, serverA+":1-6")},
		"one of both is bad":  {HTTP{}, "!", string(mine), mine},
		"garbage":             {HTTP{}, "AAAAAAAA", "x", ""},
		"long":                {HTTP{}, strings.Repeat("A", 3500), "", ""},
		"cut":                 {HTTP{}, string(mine[:10]), "", ""},
		"signed":              {signed, signed.sign(mine), "", mine},
		"not signed":          {signed, string(mine), string(mine), ""},
		"signed by another":   {signed, other.sign(mine), "", ""},
		"signed, then more":   {signed, signed.sign(mine) + "A", "", ""},
		"another's signature": {signed, string(seen(t, serverA+":1-6")) + strings.TrimPrefix(signed.sign(mine), string(mine)), "", ""},
	} {
		res := visit(t, c.h, func(_ http.ResponseWriter, r *http.Request) {
			if got := FromContext(r.Context()); got != c.visible {
				t.Errorf("%s: the handler sees %q, want %q", name, got, c.visible)
			}
		}, func(r *http.Request) {
			if c.cookie != "" {
				r.Header.Set("Cookie", "doubletap-token="+c.cookie)
			}
			if c.header != "" {
				r.Header.Set("Doubletap-Token", c.header)
			}
		})
		mends := c.visible != "" && c.cookie != "" && c.header != "" // the cookie holds less
		if len(res.Cookies()) > 0 != mends || (res.Header.Get("Doubletap-Token") != "") != mends {
			t.Errorf("%s: what comes back: %v", name, res.Header)
		}
	}
}

func TestRememberElsewhere(t *testing.T) {
	one := seen(t, serverA+":1-5")
	if err := Remember(t.Context(), one); err == nil || FromContext(t.Context()) != "" {
		t.Errorf("without a memory: %v", err)
	}
	Forget(t.Context()) // does nothing
	ctx := NewContext(t.Context(), one)
	if err := Remember(ctx, seen(t, serverB+":1")); err != nil {
		t.Error(err)
	}
	if got, want := FromContext(ctx), seen(t, serverA+":1-5,"+serverB+":1"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
