package config

import (
	"net"
	"regexp"
	"strings"
	"time"
)

// SecondDelete is when the second delete is due: fill after every reader shows
// the change.
type SecondDelete struct {
	Fill time.Duration `yaml:"fill"`
	// Readers are the servers that cache fills read from; none are asked where it
	// is empty.
	Readers []Reader `yaml:"readers,omitempty"`
	// User and Password are for the readers; the source's where User is empty.
	User         string        `yaml:"user"`
	Password     Secret        `yaml:"password"`
	PasswordFile string        `yaml:"password_file" kind:"path"`
	TLS          *TLS          `yaml:"tls,omitempty"` // the source's where it is nil
	Fallback     time.Duration `yaml:"fallback"`      // the delay where no server can be asked
	MaxWait      time.Duration `yaml:"max_wait"`      // a reader that is later is put out
	Stall        time.Duration `yaml:"stall"`         // a slower answer of Redis is a stall
}

// Reader is a server that cache fills read from. In the file it is a mapping, or
// its address alone.
type Reader struct {
	Addr       string `yaml:"addr"`        // host:port
	ServerUUID string `yaml:"server_uuid"` // that it must have; any where it is empty
}

// Trust is when applications may believe what is cached.
type Trust struct {
	MaxLag time.Duration `yaml:"max_lag"`
}

// maxReaders bounds the readers: what is remembered of each is stored with the
// cursors, in a place of limited size.
const maxReaders = 30

// longFallback and longWait are the defaults of fallback and max_wait.
const (
	longFallback = 30 * time.Second
	longWait     = 10 * time.Minute
)

// shortestStall is the least that the probes of Redis can tell from their own pace.
const shortestStall = 40 * time.Millisecond

// serverUUID is MySQL's server_uuid, or what stands for it on MariaDB.
var serverUUID = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mariadb-\d+-\S+)$`)

// derive fills in what depends on other settings. A fill that is longer than the
// usual fallback makes the fallback longer, unless the file gives one.
func (s *SecondDelete) derive(given func(name string) bool) {
	if !given("fallback") {
		s.Fallback = max(s.Fallback, s.Fill)
	}
	if !given("max_wait") {
		s.MaxWait = max(s.MaxWait, 2*s.Fill)
	}
	for i, r := range s.Readers {
		if uuid := strings.ToLower(r.ServerUUID); serverUUID.MatchString(uuid) && !strings.HasPrefix(uuid, "mariadb") {
			s.Readers[i].ServerUUID = uuid
		}
	}
}

// checkSecondDelete looks at the section; an event must still be in the log when
// its second delete is due.
func (l *loader) checkSecondDelete(c *Config) {
	s := &c.SecondDelete
	l.checkReaders(s)
	if s.Stall < shortestStall {
		l.problem("second_delete.stall", "%v is less than %v: a slower answer of Redis is a stall, and a healthy one may take that long", s.Stall, shortestStall)
	}
	l.positive("trust.max_lag", c.Trust.MaxLag, "applications bypass the cache when the pipeline is later than this")
	if !l.positive("second_delete.fill", s.Fill, "it is the longest time that a cache fill takes, from its SELECT to the SET in Redis") {
		return
	}
	if s.Fallback < s.Fill {
		l.problem("second_delete.fallback", "%v is less than second_delete.fill (%v): it takes the place of fill where no server can be asked", s.Fallback, s.Fill)
	}
	if s.MaxWait <= s.Fill {
		l.problem("second_delete.max_wait", "%v is not more than second_delete.fill (%v): it is how late a reader may be before the second deletes go on without it", s.MaxWait, s.Fill)
	}
	if k := c.Log.Kafka; k != nil {
		l.checkKept(s, "log.kafka.retention", k.Retention)
	}
	if e := c.Log.Embedded; e != nil {
		l.checkKept(s, "log.embedded.retain", e.Retain)
	}
}

// checkKept compares the section with the time for which the log keeps events.
func (l *loader) checkKept(s *SecondDelete, setting string, kept time.Duration) {
	switch {
	case kept <= 0: // a problem of its own
	case s.Fill >= kept:
		l.problem("second_delete.fill", "%v is not less than %s (%v): events would be gone before their second delete", s.Fill, setting, kept)
	case len(s.Readers) > 0 && s.MaxWait+s.Fill >= kept:
		l.problem("second_delete.max_wait", "%v and fill (%v) are together not less than %s (%v): events would be gone before a late reader is put out", s.MaxWait, s.Fill, setting, kept)
	case s.Fallback >= kept:
		l.problem("second_delete.fallback", "%v is not less than %s (%v): events would be gone before their second delete", s.Fallback, setting, kept)
	}
}

func (l *loader) checkReaders(s *SecondDelete) {
	const field = "second_delete.readers"
	if len(s.Readers) > maxReaders {
		l.problem(field, "%d readers are more than the %d that can be watched; name those that cache fills read from", len(s.Readers), maxReaders)
	}
	addrs, uuids := map[string]string{}, map[string]string{}
	for i, r := range s.Readers {
		at := element(field, i)
		addr, uuid := join(at, "addr"), join(at, "server_uuid")
		if l.lines[addr] == 0 && r.Addr != "" { // it was written as the address alone
			addr = at
		}
		if l.bad[at] || !l.required(addr, r.Addr) {
			continue
		}
		l.address(addr, r.Addr, "3306", false)
		if first, twice := addrs[strings.ToLower(r.Addr)]; twice {
			l.problem(addr, "%q is already %s", r.Addr, first)
		}
		addrs[strings.ToLower(r.Addr)] = at
		if r.ServerUUID == "" {
			continue
		}
		if !serverUUID.MatchString(r.ServerUUID) {
			l.problem(uuid, "%q is no server_uuid; ask the server: SELECT @@server_uuid (on MariaDB it is made up: -check prints it)", r.ServerUUID)
		} else if first, twice := uuids[r.ServerUUID]; twice {
			l.problem(uuid, "is the same as that of %s: one server is one reader", first)
		}
		uuids[r.ServerUUID] = at
	}
	l.checkTLS("second_delete.tls", s.TLS)
	if s.User == "" && !s.Password.Empty() {
		l.problem("second_delete.password", "is for second_delete.user: set that too, or leave both out to use the source's")
	}
	for _, unused := range []struct {
		setting string
		set     bool
	}{{"user", s.User != ""}, {"tls", s.TLS != nil}} {
		if unused.set && len(s.Readers) == 0 {
			l.problem("second_delete."+unused.setting, "is for second_delete.readers, and there are none")
		}
	}
}

func (l *loader) positive(field string, d time.Duration, what string) bool {
	if d <= 0 {
		l.problem(field, "must be more than 0: %s", what)
	}
	return d > 0
}

// ReaderTLS is the section for one reader: the source's where second_delete has
// none. A server_name is of one server only, so the source's is kept for the
// source's own host alone.
func (c *Config) ReaderTLS(r Reader) *TLS {
	if c.SecondDelete.TLS != nil || c.Source.TLS == nil {
		return c.SecondDelete.TLS
	}
	own := *c.Source.TLS
	if host(r.Addr) != host(c.Source.Addr) {
		own.ServerName = ""
	}
	return &own
}

// ReaderLogin is the user and the password for the readers.
func (c *Config) ReaderLogin() (user string, password Secret) {
	if c.SecondDelete.User != "" {
		return c.SecondDelete.User, c.SecondDelete.Password
	}
	return c.Source.User, c.Source.Password
}

func host(addr string) string {
	h, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return strings.ToLower(h)
}
