package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Client asks the process that has an embedded log open, through its admin port.
// It is a replay.Log and safe for concurrent use. Until that process has answered
// once, trouble is an error, which says what to do; from then on it is retried.
type Client struct {
	addr  func() string
	dir   string
	http  *http.Client
	hooks pipeline.Hooks
	met   atomic.Bool
}

// NewClient returns a client of the process that has the embedded log in dir open.
// addr returns its admin address (host:port), and is asked each time, since it can
// be another one after a restart. NewClient does not connect. The answers of a
// process with another log are refused.
func NewClient(addr func() string, dir string, hooks pipeline.Hooks) *Client {
	transport := &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second}
	return &Client{addr: addr, dir: dir, hooks: hooks, http: &http.Client{Transport: transport, Timeout: clientTimeout}}
}

// dirHeader names the folder of the log that an answer is about.
const dirHeader = "Doubletap-Log"

// The process leaves a token in the log's folder when it opens the log, and answers
// those who know it.
const (
	tokenHeader = "Doubletap-Token"
	tokenFile   = "admin.token"
)

// token returns the token of the process that has the log open now; "" where there
// is none: that process says what it wants.
func (c *Client) token() (string, error) {
	text, err := os.ReadFile(filepath.Join(c.dir, tokenFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read what proves that this process may read the log (run replay as the invalidator's user): %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

const (
	clientTimeout = 20 * time.Second // for one answer, which is small
	clientAnswer  = 16 << 20         // more is no answer of ours
)

// Bounds implements replay.Log.
func (c *Client) Bounds(ctx context.Context) ([]pipeline.Bounds, error) {
	var answer struct {
		Partitions []pipeline.Bounds `json:"partitions"`
	}
	err := c.ask(ctx, "/log/bounds", nil, func(body io.Reader) error {
		return json.NewDecoder(body).Decode(&answer)
	})
	return answer.Partitions, err
}

func sameDir(a, b string) bool {
	sa, errA := os.Stat(a)
	sb, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(sa, sb)
	}
	return filepath.Clean(a) == filepath.Clean(b)
}

// OffsetAt implements replay.Log.
func (c *Client) OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error) {
	if t.Year() < 1 { // has no form in RFC 3339
		t = time.Time{}
	}
	var answer struct {
		Offset *int64 `json:"offset"`
	}
	q := url.Values{"partition": {strconv.Itoa(partition)}, "time": {t.UTC().Format(time.RFC3339Nano)}}
	err := c.ask(ctx, "/log/offset", q, func(body io.Reader) error {
		if err := json.NewDecoder(body).Decode(&answer); err != nil || answer.Offset != nil {
			return err
		}
		return errors.New("no offset is in it")
	})
	if err != nil {
		return 0, err
	}
	return *answer.Offset, nil
}

// clientLine is one line of an answer: a record, a dead letter, or the last line.
type clientLine struct {
	Offset *int64               `json:"offset"`
	Data   []byte               `json:"data"`
	Letter *pipeline.DeadLetter `json:"letter"`
	Next   *int64               `json:"next"`
	End    bool                 `json:"end"`
}

// lines reads an answer whole, since one that was cut off is asked for again.
func (c *Client) lines(ctx context.Context, path string, q url.Values) (lines []clientLine, last clientLine, err error) {
	err = c.ask(ctx, path, q, func(body io.Reader) error {
		lines, last = nil, clientLine{}
		for dec := json.NewDecoder(body); last.Next == nil; {
			var line clientLine
			if err := dec.Decode(&line); err != nil {
				return fmt.Errorf("it was cut off: %w", err)
			}
			if line.Next != nil {
				last = line
			} else {
				lines = append(lines, line)
			}
		}
		return nil
	})
	return lines, last, err
}

// Read implements replay.Log.
func (c *Client) Read(ctx context.Context, partition int, from, until int64, fn func([]pipeline.Message) error) error {
	for from < until {
		lines, last, err := c.lines(ctx, "/log/records", url.Values{
			"partition": {strconv.Itoa(partition)}, "from": {strconv.FormatInt(from, 10)}, "until": {strconv.FormatInt(until, 10)},
		})
		if err != nil {
			return err
		}
		messages := make([]pipeline.Message, 0, len(lines))
		for _, l := range lines {
			if l.Offset == nil || *l.Offset < from || *l.Offset >= until {
				return fmt.Errorf("the process at %s answered with a record that was not asked for: it is of another version", c.addr())
			}
			messages = append(messages, pipeline.Message{Offset: *l.Offset, Data: l.Data})
		}
		if len(messages) > 0 {
			if err := fn(messages); err != nil {
				return err
			}
		}
		if *last.Next <= from && !last.End {
			return fmt.Errorf("the process at %s does not go on behind offset %d", c.addr(), from)
		}
		from = *last.Next
		if last.End {
			return nil
		}
	}
	return ctx.Err()
}

// DeadLetters implements replay.Log.
func (c *Client) DeadLetters(ctx context.Context, skip int64, fn func(pipeline.DeadLetter) error) error {
	for {
		lines, last, err := c.lines(ctx, "/log/dead", url.Values{"skip": {strconv.FormatInt(skip, 10)}})
		if err != nil {
			return err
		}
		for _, l := range lines {
			if l.Letter == nil {
				return fmt.Errorf("the process at %s answered with a line that is no dead letter: it is of another version", c.addr())
			}
			if err := fn(*l.Letter); err != nil {
				return err
			}
			skip++
		}
		switch {
		case last.End:
			return nil
		case len(lines) == 0:
			return fmt.Errorf("the process at %s does not go on behind dead letter %d", c.addr(), skip)
		}
	}
}

// ask asks until there is an answer that take can read, or a refusal.
func (c *Client) ask(ctx context.Context, path string, q url.Values, take func(io.Reader) error) error {
	err := pipeline.Retry(ctx, &c.hooks, "ask for "+path, func(ctx context.Context) error {
		err := c.askOnce(ctx, path, q, take)
		if err != nil && !c.met.Load() {
			err = fmt.Errorf("%w: %w", err, pipeline.ErrFatal)
		}
		return err
	})
	switch {
	case err == nil:
		c.met.Store(true)
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case c.met.Load() || errors.Is(err, errRefused):
		return err
	}
	return fmt.Errorf("no process answers for the log in %s: start the invalidator that has it open, or give its admin address; if none runs, stop whatever else has the folder open, and replay reads it itself: %w", c.dir, err)
}

// errRefused marks an answer that asking again does not change.
var errRefused = errors.New("the process refused")

func (c *Client) askOnce(ctx context.Context, path string, q url.Values, take func(io.Reader) error) error {
	base := "http://" + c.addr()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path+"?"+q.Encode(), nil)
	if err != nil {
		return fmt.Errorf("%w: %w: %w", errRefused, pipeline.ErrFatal, err)
	}
	token, err := c.token()
	if err != nil {
		return err
	}
	r.Header.Set(tokenHeader, token)
	res, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body := io.LimitReader(res.Body, clientAnswer)
	if has := res.Header.Get(dirHeader); has != "" {
		if dir, err := url.PathUnescape(has); err != nil || !sameDir(dir, c.dir) {
			return fmt.Errorf("the process at %s has the log in %s open, not the one in %s", base, dir, c.dir)
		}
	} else if res.StatusCode == http.StatusOK {
		return fmt.Errorf("what answers at %s is another program, or another version", base)
	}
	if res.StatusCode == http.StatusOK {
		if err := take(body); err != nil {
			return fmt.Errorf("read the answer of %s%s: %w", base, path, err)
		}
		return nil
	}
	var no struct {
		Error string `json:"error"`
		From  int64  `json:"from"`
		Start int64  `json:"start"`
	}
	if err := json.NewDecoder(body).Decode(&no); err != nil {
		no.Error = "no reason is given: it may be another program"
	}
	err = fmt.Errorf("%s%s answered %s: %s", base, path, res.Status, no.Error)
	switch code := res.StatusCode; {
	case code == http.StatusGone:
		return fmt.Errorf("%w: %w: %w", errRefused, pipeline.ErrFatal, &pipeline.LogGapError{From: no.From, Start: no.Start})
	case code == http.StatusForbidden, code == http.StatusBadRequest, code == http.StatusMethodNotAllowed, code == http.StatusUnauthorized && !c.met.Load():
		return fmt.Errorf("%w: %w: %w", errRefused, pipeline.ErrFatal, err)
	}
	return err // 404 while it starts or ends, 401 where it has made a new token since, 5xx
}
