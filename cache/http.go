package cache

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"time"
)

// HTTP carries tokens between a browser, or another client, and handlers, in a
// cookie and in a header. The zero value is usable.
type HTTP struct {
	Cookie string // its name; "" for doubletap-token
	Header string // its name, in requests and answers; "" for Doubletap-Token

	// MaxAge is for how long a user's reads are in order, since his last one that saw
	// something new; 0 for 10 minutes, which is far longer than deletes take.
	MaxAge time.Duration
	// SameSite is the cookie's; 0 for Lax.
	SameSite http.SameSite
	// Insecure lets the cookie through without TLS.
	Insecure bool
	// Key signs tokens, so that only what a handler has remembered comes back. Without
	// it anybody can claim to have seen what does not exist, which makes his own reads
	// slow, and makes them load from the primary.
	Key []byte
}

// Middleware puts what a request's user has seen into its context, where
// [FromContext] and [Remember] find it, and sends back what changed. A token that is
// broken, or not signed with the key, is ignored. Answers that carry a cookie are
// for one user: keep them out of shared caches.
//
// Requests of one user must not overlap a write of his: a request that began before
// the write knows nothing of its token, and if its answer arrives last and sets the
// cookie, the token is lost (docs/read-your-writes.md says what to do).
func (h HTTP) Middleware(next http.Handler) http.Handler {
	if h.Cookie == "" {
		h.Cookie = "doubletap-token"
	}
	if h.Header == "" {
		h.Header = "Doubletap-Token"
	}
	if h.MaxAge == 0 {
		h.MaxAge = 10 * time.Minute
	}
	if h.SameSite == 0 {
		h.SameSite = http.SameSiteLaxMode
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		was, behind := h.read(r)
		m := &memory{seen: was}
		rw := &responseWriter{ResponseWriter: w, before: func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.sent = true
			if m.seen != was || behind {
				h.write(w, m.seen)
			}
		}}
		next.ServeHTTP(rw, r.WithContext(context.WithValue(r.Context(), memoryKey{}, m)))
		rw.begin()
	})
}

// Middleware is that of a zero [HTTP].
func Middleware(next http.Handler) http.Handler { return HTTP{}.Middleware(next) }

// read merges what the request carries, and reports whether its cookie holds less:
// then the header makes up for a cookie that a parallel answer has replaced, which
// requests without the header need as well. Of tokens that are too long together it
// takes the header's: a program that sends one knows what it does.
func (h HTTP) read(r *http.Request) (seen Seen, behind bool) {
	header := h.verify(r.Header.Get(h.Header))
	c, err := r.Cookie(h.Cookie)
	if err != nil {
		return header, false
	}
	cookie := h.verify(c.Value)
	both, err := Merge(header, cookie)
	if err != nil {
		return header, false
	}
	return both, both != cookie
}

func (h HTTP) write(w http.ResponseWriter, seen Seen) {
	c := &http.Cookie{
		Name: h.Cookie, Value: h.sign(seen), Path: "/", MaxAge: int(h.MaxAge / time.Second),
		HttpOnly: true, Secure: !h.Insecure, SameSite: h.SameSite,
	}
	if seen == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
	w.Header().Set(h.Header, c.Value)
}

// sign returns a token as it travels: with a MAC of 16 bytes behind it, if there is
// a key.
func (h HTTP) sign(seen Seen) string {
	if len(h.Key) == 0 || seen == "" {
		return string(seen)
	}
	return string(seen) + "." + base64.RawURLEncoding.EncodeToString(h.mac(string(seen)))
}

func (h HTTP) mac(text string) []byte {
	m := hmac.New(sha256.New, h.Key)
	m.Write([]byte(text))
	return m.Sum(nil)[:16]
}

// verify returns the token that was signed, "" where it was not.
func (h HTTP) verify(text string) Seen {
	if len(h.Key) > 0 {
		var mac string
		text, mac, _ = strings.Cut(text, ".")
		got, err := base64.RawURLEncoding.Strict().DecodeString(mac)
		if err != nil || !hmac.Equal(got, h.mac(text)) {
			return ""
		}
	}
	seen, err := ParseSeen(text)
	if err != nil {
		return ""
	}
	return seen
}

// responseWriter calls before when the answer's header is about to be sent.
type responseWriter struct {
	http.ResponseWriter
	before func()
	begun  bool
}

func (w *responseWriter) begin() {
	if !w.begun {
		w.begun = true
		w.before()
	}
}

// WriteHeader implements http.ResponseWriter. Answers of 1xx are not the last.
func (w *responseWriter) WriteHeader(code int) {
	if code >= http.StatusOK || code == http.StatusSwitchingProtocols {
		w.begin()
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *responseWriter) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

// ReadFrom implements io.ReaderFrom, for the sake of the one below.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	return io.Copy(w.ResponseWriter, r)
}

// FlushError is what http.ResponseController looks for.
func (w *responseWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// Unwrap lets http.ResponseController reach Hijack and the like.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
