package binlog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// ReaderConfig is a server that cache fills read from.
type ReaderConfig struct {
	Config        // Addr, User, Password and TLS are used
	Server string // the identity that it must have (Server.UUID); "" is any
	// SourceLogin and SourceTLS say that User and TLS are the source's, because the
	// configuration has none for readers: advice names the right setting then.
	SourceLogin, SourceTLS bool
}

// PreflightReaders looks at the servers that the second pass will wait for and
// returns all findings, each with what to do about it: docs/preflight.md lists
// them. What would make a second delete unsound is refused: an address behind
// which several servers are, filters, skipped errors, a server that has nothing to
// do with the source. What time can mend is a warning: a reader that is down, or
// behind. maxWait is how late a reader may be before it is put out. It reads only,
// opens several connections to each reader, and takes about 10 s at most.
func PreflightReaders(ctx context.Context, source Config, readers []ReaderConfig, maxWait time.Duration) []pipeline.Finding {
	if len(readers) == 0 {
		return nil
	}
	checks := make([]*readerCheck, len(readers))
	var wg sync.WaitGroup
	for i, r := range readers {
		checks[i] = &readerCheck{preflight: preflight{cfg: r.Config}, reader: r, maxWait: maxWait}
		wg.Go(func() { checks[i].run(ctx) })
	}
	wg.Wait()
	// After the readers: what they have is then compared with a newer set.
	from, err := showsNow(ctx, source)
	var findings []pipeline.Finding
	// Where the source is a reader too, its own findings say so already.
	said := slices.ContainsFunc(checks, func(c *readerCheck) bool { return c.cfg.Addr == source.Addr && len(c.findings) > 0 })
	if err != nil && !said {
		findings = append(findings, pipeline.Finding{
			Severity: pipeline.Warning, Check: "source", Problem: fmt.Sprintf("it is not known whether the readers replicate from it: %v", err),
			Fix: "let this machine connect to it, with source.user; then check again",
		})
	}
	first := make(map[string]string) // address by identity
	for _, c := range checks {
		if err == nil {
			c.compare(from)
		}
		if c.srv.UUID != "" && !c.several { // else it is one of theirs, by chance
			if name, ok := first[c.srv.UUID]; ok {
				c.warn("server", fmt.Sprintf("it is the same server as %s", name), "name it once")
			}
			first[c.srv.UUID] = c.cfg.Addr
		}
		for _, f := range c.findings {
			f.Check = "reader " + c.cfg.Addr + ": " + f.Check
			findings = append(findings, f)
		}
	}
	return findings
}

func showsNow(ctx context.Context, source Config) (pipeline.View, error) {
	ctx, cancel := context.WithTimeout(ctx, gateRead)
	defer cancel()
	r := NewReader(source, source.Addr, "")
	defer r.Close()
	return r.Ask(ctx)
}

// readerCheck collects the findings about one reader.
type readerCheck struct {
	preflight
	reader   ReaderConfig
	maxWait  time.Duration
	several  bool // servers are behind the address
	channels int  // that it replicates through
	shown    gtid.Set
	asked    bool // shown is known
}

// readerSetting is what the configuration calls a reader in a fix.
const readerSetting = "second_delete"

// readerVariables are the global variables that a reader's check looks at.
var readerVariables = append([]string{
	"replica_skip_errors", "slave_skip_errors", "sql_replica_skip_counter", "sql_slave_skip_counter",
	"replica_exec_mode", "slave_exec_mode", "read_only",
}, preflightVariables...)

func (c *readerCheck) run(ctx context.Context) {
	sessions := c.connect(ctx)
	defer func() {
		for _, s := range sessions {
			s.close()
		}
	}()
	if len(sessions) == 0 {
		return
	}
	c.s = sessions[0]
	var err error
	if c.vars, err = c.s.variables(ctx, readerVariables...); err == nil {
		c.srv, err = serverOf(c.vars)
	}
	if err != nil {
		c.refuse("server", "it does not say what it is: "+err.Error(), "point it at a MySQL or MariaDB server")
		return
	}
	for _, check := range []struct {
		name string
		run  func(context.Context, []*session) error
	}{
		{"server", c.oneServer},
		{"shows", c.shows},
		{"replication", c.replication},
	} {
		if err := check.run(ctx, sessions); err != nil {
			c.warn(check.name, "it could not be checked: "+err.Error(), "see the other findings, then check again")
		}
	}
	c.gtid()
	c.skips()
}

// probes is how many connections are compared. A balancer that deals out two
// servers at random would go unnoticed once in 128 times.
const probes = 8

// connect opens several connections and keeps all open: a balancer that goes by
// their number must deal out more than one server.
func (c *readerCheck) connect(ctx context.Context) (sessions []*session) {
	for range probes {
		s, err := openSession(ctx, c.cfg, gateRead)
		if err == nil {
			sessions = append(sessions, s)
			continue
		}
		fix := c.connectFix(err)
		switch code := serverCode(err); {
		case len(sessions) > 0:
			c.warn("connection", fmt.Sprintf("it gave %d of %d connections, so whether several servers are behind the address is not certain: %v", len(sessions), probes, err), fix)
		case code != 0 && code != codeTooManyConnections || isTLSError(err):
			c.refuse("connection", err.Error(), fix)
		default:
			c.warn("connection", fmt.Sprintf("%v; second deletes wait for it, and go on without it after %v", err, c.maxWait), fix)
		}
		break
	}
	return sessions
}

// connectFix says what to do about an error of dial.
func (c *readerCheck) connectFix(err error) string {
	if c.reader.SourceTLS && isTLSError(err) {
		return "give " + readerSetting + ".tls the CA that signed the server's certificate and the name in it; source.tls is used where it is not set"
	}
	fix := strings.ReplaceAll(connectFix(err, c.cfg.User, readerSetting, "REPLICATION CLIENT"), readerSetting+".addr", readerSetting+".readers")
	if c.reader.SourceLogin {
		own := readerSetting + ".user and " + readerSetting + ".password"
		fix = strings.ReplaceAll(fix, own, "source.user and source.password, which are used because "+readerSetting+".user is not set")
	}
	return fix
}

// These name the server that answers this very statement.
const (
	identityMySQL   = "SELECT @@server_uuid"
	identityMariaDB = "SELECT CONCAT(@@server_id, ' ', @@hostname, ' ', @@port)"
)

// oneServer refuses an address behind which are several servers, and a server
// that is not the one that was named.
func (c *readerCheck) oneServer(ctx context.Context, sessions []*session) error {
	sql := identityMySQL
	if c.srv.MariaDB() {
		sql = identityMariaDB
	}
	seen := make(map[string]bool)
	for range 2 { // an SQL proxy can change the server within a connection
		for _, s := range sessions {
			id, err := s.value(ctx, sql)
			if err != nil {
				return err
			}
			seen[id] = true
		}
	}
	switch {
	case len(seen) > 1:
		c.several = true
		c.refuse("server", fmt.Sprintf("%d servers answered at this address: it is load-balanced, and what one of them shows says nothing of the others", len(seen)),
			"name each server by its own address in "+readerSetting+".readers")
	case c.reader.Server == "":
		c.note("server", "any server at this address would be believed", fmt.Sprintf("name the server: {addr: %q, server_uuid: %q}", c.cfg.Addr, c.srv.UUID))
	case !strings.EqualFold(c.reader.Server, c.srv.UUID):
		c.refuse("server", fmt.Sprintf("it is %s, not %s as configured", c.srv.UUID, c.reader.Server),
			fmt.Sprintf("correct the address; or, where the server was replaced: {addr: %q, server_uuid: %q}", c.cfg.Addr, c.srv.UUID))
	}
	return nil
}

// shows asks as the second pass will.
func (c *readerCheck) shows(ctx context.Context, _ []*session) error {
	if c.srv.MariaDB() {
		if ok, err := c.mayAsk(ctx); err != nil || !ok {
			return err
		}
	}
	r := NewReader(c.cfg, c.cfg.Addr, "")
	defer r.Close()
	v, err := r.Ask(ctx)
	c.shown, c.asked = v.Shown, err == nil
	return err
}

// mayAsk says whether a MariaDB server lets the user ask what is visible.
func (c *readerCheck) mayAsk(ctx context.Context) (ok bool, err error) {
	if ok, err = c.may(ctx, "SHOW ENGINE INNODB STATUS", "SHOW ENGINE INNODB STATUS"); err != nil {
		return false, err
	} else if !ok {
		c.lacks(ctx, "PROCESS", pipeline.Note, "second deletes behind a new binlog file may have to wait for the next commit")
	}
	if c.vars["log_bin"] == "OFF" {
		c.note("log_bin", "it is OFF: what this server writes itself is not seen, only what it replicates", "")
	} else if ok, err = c.may(ctx, "SHOW MASTER STATUS", "SHOW MASTER STATUS"); err == nil && !ok {
		c.lacks(ctx, "BINLOG MONITOR", pipeline.Refusal, "it cannot be asked what is visible")
	}
	c.visibility()
	return ok && !c.is("binlog_optimize_thread_scheduling", "OFF"), err
}

// lacks adds a finding about a privilege, with the statement that gives it.
func (c *readerCheck) lacks(ctx context.Context, privilege string, sev pipeline.Severity, why string) {
	account, err := c.account(ctx)
	if err != nil {
		account = quote(c.cfg.User) + "@'%'"
	}
	c.add(sev, "grants", fmt.Sprintf("%s lacks %s: %s", account, privilege, why), fmt.Sprintf("GRANT %s ON *.* TO %s;", privilege, account))
}
