package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// OpenLog is an embedded log that this process has open, so that nobody else can.
type OpenLog struct {
	pipeline.History
	Dir string // its folder; answers name it
}

// dirHeader names the folder of the log that an answer is about: another process
// may have taken the port.
const dirHeader = "Doubletap-Log"

// addrFile is in the folder of an embedded log: the admin address of the process
// that has it open, or had it last.
const addrFile = "admin.addr"

// TellAddr leaves the admin address of this process, which has the embedded log
// in dir open, where AddrOf finds it: the port may be another one than configured.
func TellAddr(dir, addr string) error {
	if err := os.WriteFile(filepath.Join(dir, addrFile), []byte(addr+"\n"), 0o600); err != nil {
		return fmt.Errorf("leave the admin address for replay: %w", err)
	}
	return nil
}

// AddrOf returns the address that TellAddr left in a folder, for a caller on the
// same machine; "" where there is none.
func AddrOf(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, addrFile))
	if err != nil {
		return ""
	}
	host, port, err := net.SplitHostPort(strings.TrimSpace(string(data)))
	if err != nil {
		return ""
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// logAnswer is about how much of records or dead letters one answer of the log's
// pages holds, in bytes before they are encoded. One record comes in any case.
const logAnswer = 1 << 20

// logPages answer what is under /log/: what a replay reads of a log that this
// process has open. Records hold rows, so nobody from elsewhere may.
type logPages struct {
	open func() *OpenLog
}

func (p logPages) handle(mux *http.ServeMux) {
	for path, page := range map[string]func(http.ResponseWriter, *http.Request, *OpenLog, url.Values) error{
		"/log/bounds": logBounds, "/log/offset": logOffset, "/log/records": logRecords, "/log/dead": logDead,
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
			if err := page(w, r, log, r.URL.Query()); err != nil {
				logProblem(w, err)
			}
		})
	}
}

// refuseRemote returns why a request is not answered, "" where it comes from a
// process of this machine. A name as the host may be anybody's, resolved to
// here for a browser; and what a proxy passes on comes from elsewhere.
func refuseRemote(r *http.Request) string {
	const fix = "; run replay on the machine (or in the container) of this process"
	caller, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return fmt.Sprintf("the log is shown to callers of this machine only, and %q is no address%s", r.RemoteAddr, fix)
	}
	own := false
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		to, err := netip.ParseAddrPort(addr.String())
		own = err == nil && to.Addr().Unmap() == caller.Addr().Unmap()
	}
	if !own && !caller.Addr().Unmap().IsLoopback() {
		return fmt.Sprintf("the log is shown to callers of this machine only, not to %v%s", caller.Addr(), fix)
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "Via"} {
		if r.Header.Get(name) != "" {
			return "the log is shown to callers of this machine only, not through a proxy" + fix
		}
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
		return fmt.Sprintf("the log is shown by address only: ask 127.0.0.1, not %q", host)
	}
	return ""
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

// finish sends what was collected until the reading ended with err.
func (l *logLines) finish(w http.ResponseWriter, err error) error {
	if err != nil && !errors.Is(err, errEnough) && l.size == 0 {
		return err // what came before an error is sent first
	}
	if err := json.NewEncoder(&l.body).Encode(logLine{Next: &l.next, End: err == nil}); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	_, _ = l.body.WriteTo(w) // the client has gone where this fails
	return nil
}

func logRecords(w http.ResponseWriter, r *http.Request, log *OpenLog, q url.Values) error {
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
	return lines.finish(w, err)
}

func logDead(w http.ResponseWriter, r *http.Request, log *OpenLog, q url.Values) error {
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
	return lines.finish(w, err)
}
