package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// OpenLog is an embedded log that this process has open, so that nobody else can.
type OpenLog struct {
	pipeline.History
	Dir string // its folder; answers name it
	// Token is what callers must know, from MakeToken; where it is empty, nobody is
	// answered.
	Token string
}

// logAnswer is about how much of records or dead letters one answer of the log's
// pages holds, in bytes before they are encoded. One record comes in any case.
const logAnswer = 1 << 20

// logPages answer what is under /log/: what a replay reads of a log that this
// process has open. Records hold rows, so nobody from elsewhere may, and nobody who
// may not read the log's folder either.
type logPages struct {
	open  func() *OpenLog
	limit *rate.Limiter // in bytes before they are encoded
}

// logRate bounds the bytes of records and dead letters, before they are encoded,
// that this process answers with in a second, to all callers together: about 400,000
// rows. It has live changes to handle with the same processors.
const logRate = 8 << 20

func newLogPages(open func() *OpenLog) logPages {
	return logPages{open, rate.NewLimiter(logRate, logAnswer)}
}

func (p logPages) handle(mux *http.ServeMux) {
	for path, page := range map[string]func(http.ResponseWriter, *http.Request, *OpenLog, url.Values) error{
		"/log/bounds": logBounds, "/log/offset": logOffset, "/log/records": p.records, "/log/dead": p.dead,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			if reason := refuseRemote(r); reason != "" {
				problem(w, http.StatusForbidden, reason)
				return
			}
			var log *OpenLog
			if p.open != nil {
				log = p.open()
			}
			if log == nil {
				problem(w, http.StatusNotFound, "this process has no embedded log open: it uses Kafka, or is still starting")
				return
			}
			w.Header().Set(dirHeader, url.PathEscape(log.Dir))
			if reason := log.refuseStranger(r); reason != "" {
				problem(w, http.StatusUnauthorized, reason)
				return
			}
			if err := page(w, r, log, r.URL.Query()); err != nil {
				logProblem(w, err)
			}
		})
	}
}

// errAsked marks an error of the question.
var errAsked = errors.New("cannot be answered")

func logProblem(w http.ResponseWriter, err error) {
	if gap, ok := errors.AsType[*pipeline.LogGapError](err); ok {
		answer(w, http.StatusGone, struct {
			Error string `json:"error"`
			From  int64  `json:"from"`
			Start int64  `json:"start"`
		}{err.Error(), gap.From, gap.Start})
		return
	}
	code := http.StatusInternalServerError
	if errors.Is(err, errAsked) || errors.Is(err, pipeline.ErrFatal) {
		code = http.StatusBadRequest
	}
	problem(w, code, err.Error())
}

// number returns a parameter that must be there.
func number(q url.Values, name string) (int64, error) {
	n, err := strconv.ParseInt(q.Get(name), 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %s=%q is not a whole number from 0", errAsked, name, q.Get(name))
	}
	return n, nil
}

func logBounds(w http.ResponseWriter, r *http.Request, log *OpenLog, _ url.Values) error {
	all, err := log.Bounds(r.Context())
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, struct {
		Partitions []pipeline.Bounds `json:"partitions"`
	}{all})
	return nil
}

func logOffset(w http.ResponseWriter, r *http.Request, log *OpenLog, q url.Values) error {
	partition, err := number(q, "partition")
	if err != nil {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, q.Get("time"))
	if err != nil {
		return fmt.Errorf("%w: time=%q is not like 2006-01-02T15:04:05Z", errAsked, q.Get("time"))
	}
	offset, err := log.OffsetAt(r.Context(), int(partition), at)
	if err != nil {
		return err
	}
	answer(w, http.StatusOK, struct {
		Offset int64 `json:"offset"`
	}{offset})
	return nil
}

// logLine is one line of an answer: a record, a dead letter, or at the end where
// to go on, without which the answer was cut off.
type logLine struct {
	Offset *int64               `json:"offset,omitempty"`
	Data   []byte               `json:"data,omitempty"`
	Letter *pipeline.DeadLetter `json:"letter,omitempty"`
	Next   *int64               `json:"next,omitempty"`
	// End says that there is no more now.
	End bool `json:"end,omitempty"`
}

// logLines collects an answer, so that an error in the middle can be one.
type logLines struct {
	body bytes.Buffer
	size int
	next int64
}

// errEnough ends the reading when an answer is full.
var errEnough = errors.New("enough")

func (l *logLines) add(line logLine, size int) error {
	if l.size > 0 && l.size+size > logAnswer {
		return errEnough
	}
	l.size += size + 1
	return json.NewEncoder(&l.body).Encode(line)
}

// finish sends what was collected until the reading ended with err, in its turn.
func (l *logLines) finish(w http.ResponseWriter, r *http.Request, limit *rate.Limiter, err error) error {
	if err != nil && !errors.Is(err, errEnough) && l.size == 0 {
		return err // what came before an error is sent first
	}
	if err := limit.WaitN(r.Context(), min(l.size, limit.Burst())); err != nil {
		return err
	}
	if err := json.NewEncoder(&l.body).Encode(logLine{Next: &l.next, End: err == nil}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = l.body.WriteTo(w) // the client has gone where this fails
	return nil
}

func (p logPages) records(w http.ResponseWriter, r *http.Request, log *OpenLog, q url.Values) error {
	partition, err1 := number(q, "partition")
	from, err2 := number(q, "from")
	until, err3 := number(q, "until")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	lines := logLines{next: from}
	err := log.Read(r.Context(), int(partition), from, until, func(messages []pipeline.Message) error {
		for _, m := range messages {
			if err := lines.add(logLine{Offset: &m.Offset, Data: m.Data}, len(m.Data)); err != nil {
				return err
			}
			lines.next = m.Offset + 1
		}
		return nil
	})
	return lines.finish(w, r, p.limit, err)
}

func (p logPages) dead(w http.ResponseWriter, r *http.Request, log *OpenLog, q url.Values) error {
	skip, err := number(q, "skip")
	if err != nil {
		return err
	}
	lines := logLines{next: skip}
	err = log.DeadLetters(r.Context(), skip, func(letter pipeline.DeadLetter) error {
		if err := lines.add(logLine{Letter: &letter}, len(letter.Data)); err != nil {
			return err
		}
		lines.next++
		return nil
	})
	return lines.finish(w, r, p.limit, err)
}
