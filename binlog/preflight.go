package binlog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Preflight looks at everything on the source that a start depends on and
// returns all findings, each with what to do about it: docs/preflight.md lists
// them. A fix is made of statements to paste, each ending in a semicolon, where
// statements do it. Where the source cannot be reached, that is the only
// finding and Server is empty. cfg.Schema may be nil; then no table is looked at.
// It reads only, and takes about as long as the server needs to list its tables.
func Preflight(ctx context.Context, cfg Config) ([]pipeline.Finding, Server) {
	p := &preflight{cfg: cfg}
	s, err := openSession(ctx, cfg, readTimeout)
	if err != nil {
		p.connection(err)
		return p.findings, Server{}
	}
	defer s.close()
	p.s = s
	if p.vars, err = s.variables(ctx, preflightVariables...); err == nil {
		p.srv, err = serverOf(p.vars)
	}
	if err != nil {
		p.refuse("server", "it does not say what it is: "+err.Error(), "point source.addr at a MySQL or MariaDB server")
		return p.findings, Server{}
	}
	for _, check := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"driver", p.driver},
		{"grants", p.grants},
		{"settings", p.settings},
		{"replica", p.replica},
		{"binlog filters", p.filters},
		{"tables", p.tables},
	} {
		if err := check.run(ctx); err != nil {
			p.refuse(check.name, "it could not be checked: "+err.Error(), "see the other findings, then check again")
		}
	}
	return p.findings, p.srv
}

// preflight collects the findings of one run.
type preflight struct {
	cfg      Config
	s        *session
	srv      Server
	vars     map[string]string // global variables; missing: the server has no such
	canal    bool              // the driver in use
	findings []pipeline.Finding
}

func (p *preflight) add(sev pipeline.Severity, check, problem, fix string) {
	p.findings = append(p.findings, pipeline.Finding{Severity: sev, Check: check, Problem: problem, Fix: fix})
}

func (p *preflight) refuse(check, problem, fix string) { p.add(pipeline.Refusal, check, problem, fix) }
func (p *preflight) warn(check, problem, fix string)   { p.add(pipeline.Warning, check, problem, fix) }
func (p *preflight) note(check, problem, fix string)   { p.add(pipeline.Note, check, problem, fix) }

// is says whether a variable exists and has one of the values.
func (p *preflight) is(name string, values ...string) bool {
	have, ok := p.vars[name]
	for _, v := range values {
		if ok && strings.EqualFold(have, v) {
			return true
		}
	}
	return false
}

// set returns the statements that set a global variable and keep it over a
// restart, where the server can do both.
func (p *preflight) set(name, value string) string {
	if _, ok := p.vars["persisted_globals_load"]; ok { // MySQL 8.0 and newer
		return fmt.Sprintf("SET PERSIST %s = %s;", name, value)
	}
	return fmt.Sprintf("SET GLOBAL %s = %s; -- and for the next restart, in my.cnf under [mysqld]: %s = %s", name, value, name, value)
}

// config returns the fix for a setting that only a restart changes.
func config(name, value string) string {
	return fmt.Sprintf("in my.cnf under [mysqld]: %s = %s, then restart the server", name, value)
}

// Server error numbers.
const (
	codeDBAccessDenied     = 1044
	codeAccessDenied       = 1045
	codeNoColumn           = 1054
	codeSyntax             = 1064
	codeHostBlocked        = 1129
	codeHostNotAllowed     = 1130
	codeNotGranted         = 1227
	codeInsecure           = 3159
	codeTooManyConnections = 1040
)

// connection explains why there is no connection to the source.
func (p *preflight) connection(err error) {
	p.refuse("connection", err.Error(), ConnectFix(err, p.cfg.User))
}

// ConnectFix says what to do about an error of connecting to the source as user.
func ConnectFix(err error, user string) string {
	return connectFix(err, user, "source", "REPLICATION SLAVE, REPLICATION CLIENT, SELECT")
}

// connectFix says what to do about an error of dial. settings is the section of
// the configuration that has the address, grants what the user needs.
func connectFix(err error, user, settings, grants string) string {
	fix := "start the server or correct source.addr; look at its bind_address and at firewalls in between"
	switch code := serverCode(err); {
	case code == codeAccessDenied:
		fix = fmt.Sprintf("correct source.user and source.password; where the user is missing, as an administrator: CREATE USER '%s'@'%%' IDENTIFIED BY '(its password)'; GRANT %s ON *.* TO '%s'@'%%';", user, grants, user)
	case code == codeHostNotAllowed:
		fix = fmt.Sprintf("no account of the server lets this host in: CREATE USER '%s'@'%%' IDENTIFIED BY '(its password)';", user)
	case code == codeHostBlocked:
		fix = "the server has blocked this host after too many broken connections: FLUSH HOSTS; or TRUNCATE TABLE performance_schema.host_cache;"
	case code == codeTooManyConnections:
		fix = "the server has no connection left: raise max_connections, or close some"
	case code == codeInsecure:
		fix = "the server wants TLS: set source.tls"
	case code != 0:
		fix = "see the server's message"
	case isTLSError(err):
		fix = "give source.tls the CA that signed the server's certificate and the name in it; or leave source.tls out, where the network is trusted"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		fix = "try again"
	case !isNetError(err):
		fix = "see the message; is source.addr a MySQL or MariaDB server?"
	}
	return strings.ReplaceAll(fix, "source.", settings+".")
}

func isTLSError(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.AlertError](err)
	return ok || strings.Contains(err.Error(), "does not support TLS") // go-mysql has no type for it
}

func isNetError(err error) bool {
	_, ok := errors.AsType[net.Error](err)
	return ok || strings.Contains(err.Error(), "connection was bad")
}

// driver says which driver will be used and what it cannot promise.
func (p *preflight) driver(context.Context) error {
	name, err := chooseDriver(p.cfg, p.srv)
	if err != nil {
		p.refuse("driver", err.Error(), "correct source.driver")
		return nil
	}
	p.canal = name == DriverCanal
	switch {
	case p.canal:
		why, fix := "the server cannot name columns in its binlog (that takes MySQL 8.0.1 or MariaDB 10.5)", "upgrade the server, or accept these limits"
		if p.srv.FullMetadata {
			why, fix = "source.driver asks for it", "leave source.driver out"
		}
		p.warn("driver", "the canal driver is used, because "+why+"; its limits: "+strings.Join(canalLimits(), "; "), fix)
	case !p.srv.FullMetadata:
		p.refuse("driver", fmt.Sprintf("the replication driver needs binlog_row_metadata, which %s does not have", p.srv.Version), "leave source.driver out, or upgrade the server to MySQL 8.0.1 or MariaDB 10.5")
	}
	return nil
}
