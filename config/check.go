package config

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/doubletap-cdc/doubletap/internal/nearest"
)

var (
	sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	topicName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`) // room for the names derived from it, Kafka allows 249

	// MySQL: uuid[:tag]:interval[:interval…], …; MariaDB: domain-server-sequence, …
	mysqlGTIDs   = regexp.MustCompile(`^(?i:\s*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\s*:\s*([a-z_][a-z0-9_]{0,31}|\d+(-\d+)?))+\s*(,|$))+$`)
	mariadbGTIDs = regexp.MustCompile(`^(\s*\d+-\d+-\d+\s*(,|$))+$`)
)

// check looks at every value that the decoder accepted.
func (l *loader) check(c *Config) {
	l.checkSource(&c.Source)
	l.checkLog(&c.Log)
	l.checkRedis(&c.Redis)
	if l.required("keys", c.Keys) {
		if st, err := os.Stat(c.Keys); err != nil {
			l.problem("keys", "the key schema cannot be read: %v", err)
		} else if st.IsDir() {
			l.problem("keys", "%s is a folder; the key schema is one file", c.Keys)
		}
	}
	l.checkSecondDelete(c)
	l.address("admin.listen", c.Admin.Listen, "9400", true)
	l.oneOf("mode", c.Mode, ModeActive, ModeObserve)
	l.oneOf("log_level", c.LogLevel, "debug", "info", "warn", "error")
	l.oneOf("log_format", c.LogFormat, "text", "json")
}

func (l *loader) checkSource(s *Source) {
	if l.required("source.name", s.Name) && !sourceName.MatchString(s.Name) {
		l.problem("source.name", "%q may hold letters, digits, '.', '_' and '-' only, 64 at most", s.Name)
	}
	if l.required("source.addr", s.Addr) {
		l.address("source.addr", s.Addr, "3306", false)
	}
	l.required("source.user", s.User)
	if !slices.Contains([]string{"current", "earliest"}, s.Start) &&
		!mysqlGTIDs.MatchString(s.Start) && !mariadbGTIDs.MatchString(s.Start) {
		l.problem("source.start", "%q is none of: current, earliest, a GTID set such as 3E11FA47-71CA-11E1-9E33-C80AA9429562:1-77 (MySQL) or 0-1-100 (MariaDB)", s.Start)
	}
	l.oneOf("source.driver", s.Driver, "auto", "replication", "canal")
	l.oneOf("source.on_gap", s.OnGap, OnGapInvalidate, OnGapStop)
	l.checkTLS("source.tls", s.TLS)
	if !s.Gate {
		l.warn("source.gate", "off: changes are published before they are visible, so that a cache fill can bring the old value back")
	}
}

func (l *loader) checkLog(g *Log) {
	if e := g.Embedded; e != nil {
		l.required("log.embedded.dir", e.Dir)
		if e.Retain <= 0 {
			l.problem("log.embedded.retain", "must be more than 0")
		}
	}
	if k := g.Kafka; k != nil {
		l.checkKafka(k)
	}
	switch { // last: a problem of a section silences those in it
	case g.Kafka == nil && g.Embedded == nil:
		l.problem("log", "one of log.kafka and log.embedded is needed")
	case g.Kafka != nil && g.Embedded != nil:
		l.problem("log", "log.kafka and log.embedded are both set; keep one")
	}
}

func (l *loader) checkKafka(k *Kafka) {
	l.addresses("log.kafka.brokers", k.Brokers, "9092")
	if l.required("log.kafka.topic", k.Topic) && (!topicName.MatchString(k.Topic) || strings.Trim(k.Topic, ".") == "") {
		l.problem("log.kafka.topic", "%q may hold letters, digits, '.', '_' and '-' only, 200 at most", k.Topic)
	}
	if k.Partitions < 1 || k.Partitions > 10_000 {
		l.problem("log.kafka.partitions", "%d is not from 1 to 10000", k.Partitions)
	}
	if k.Replication < 0 || k.Replication > 100 {
		l.problem("log.kafka.replication", "%d is not from 0 (choose by the number of brokers) to 100", k.Replication)
	}
	if k.Retention <= 0 {
		l.problem("log.kafka.retention", "must be more than 0")
	}
	if k.PreparedRetention <= 0 {
		l.problem("log.kafka.prepared_retention", "must be more than 0")
	}
	l.checkTLS("log.kafka.tls", k.TLS)
	if s := k.SASL; s != nil {
		if l.required("log.kafka.sasl.mechanism", s.Mechanism) {
			l.oneOf("log.kafka.sasl.mechanism", s.Mechanism, "plain", "scram-sha-256", "scram-sha-512")
		}
		l.required("log.kafka.sasl.user", s.User)
		if s.Password.Empty() {
			l.problem("log.kafka.sasl.password", "is needed: password or password_file")
		}
		if s.Mechanism == "plain" && k.TLS == nil {
			l.warn("log.kafka.sasl.mechanism", "plain without log.kafka.tls sends the password unencrypted")
		}
	}
}

func (l *loader) checkRedis(r *Redis) {
	l.oneOf("redis.mode", r.Mode, "auto", "standalone", "sentinel", "cluster")
	port := "6379"
	if r.Mode == "sentinel" {
		port = "26379"
	}
	l.addresses("redis.addrs", r.Addrs, port)
	switch {
	case r.Mode == "sentinel" && r.Master == "":
		l.problem("redis.master", "is needed with mode: sentinel: the name in \"sentinel monitor NAME …\"")
	case r.Mode != "sentinel" && r.Master != "":
		l.problem("redis.master", "is for Sentinel only; leave it out, or set mode: sentinel")
	case r.Mode == "standalone" && len(r.Addrs) > 1:
		l.problem("redis.addrs", "mode: standalone takes one address, the master's")
	case r.Mode == "cluster" && r.DB != 0:
		l.problem("redis.db", "a cluster has database 0 only")
	case r.DB < 0:
		l.problem("redis.db", "%d is not a database number", r.DB)
	}
	if r.Mode != "sentinel" && (r.SentinelUsername != "" || !r.SentinelPassword.Empty()) {
		l.problem("redis.sentinel_username", "sentinel_username and sentinel_password are for mode: sentinel only")
	}
	if r.Username != "" && r.Password.Empty() {
		l.problem("redis.password", "is needed with redis.username")
	}
	for i, glob := range r.Protect {
		if at := element("redis.protect", i); strings.Trim(glob, "*") == "" {
			l.problem(at, "%q protects every key, so that nothing could be deleted", glob)
		}
	}
	if r.ScanRate < 1 {
		l.problem("redis.scan_rate", "%d is not a positive number of keys per second", r.ScanRate)
	}
	l.checkTLS("redis.tls", r.TLS)
}

func (l *loader) required(field, value string) bool {
	if value == "" {
		l.problem(field, "is needed")
	}
	return value != "" && !l.bad[field]
}

func (l *loader) oneOf(field, value string, allowed ...string) bool {
	if slices.Contains(allowed, value) {
		return true
	}
	text := strings.Join(allowed, ", ")
	if near := nearest.Name(value, allowed); near != "" {
		l.problem(field, "%q is none of: %s; did you mean %s?", value, text, near)
	} else {
		l.problem(field, "%q is none of: %s", value, text)
	}
	return false
}

func (l *loader) addresses(field string, addrs []string, port string) {
	if len(addrs) == 0 {
		l.problem(field, "is needed: one address or more, as [\"host:%s\"]", port)
	}
	for i, a := range addrs {
		l.address(element(field, i), a, port, false)
	}
}

// address checks a host:port. A listening address may leave out the host, and
// have port 0.
func (l *loader) address(field, addr, port string, listen bool) {
	host, p, err := net.SplitHostPort(addr)
	n, perr := strconv.ParseUint(p, 10, 16)
	switch {
	case strings.ContainsAny(addr, "@/"): // perhaps a URL with a password: not repeated here
		l.problem(field, "is not host:port; user, password and TLS have settings of their own")
	case err != nil && !strings.Contains(addr, ":") && addr != "":
		if _, err := strconv.Atoi(addr); err == nil {
			l.problem(field, "%q has no host; write \"127.0.0.1:%s\"", addr, addr)
		} else {
			l.problem(field, "%q has no port; write %q", addr, net.JoinHostPort(addr, port))
		}
	case err != nil:
		l.problem(field, "%q is not host:port (an IPv6 address stands in [ ])", addr)
	case host == "" && !listen:
		l.problem(field, "%q has no host", addr)
	case perr != nil || (n == 0 && !listen):
		l.problem(field, "%q has no port number from 1 to 65535", addr)
	}
}

// readSecrets reads the password files.
func (l *loader) readSecrets(c *Config) {
	l.secretFile("source", "password", c.Source.PasswordFile, &c.Source.Password)
	l.secretFile("second_delete", "password", c.SecondDelete.PasswordFile, &c.SecondDelete.Password)
	l.secretFile("redis", "password", c.Redis.PasswordFile, &c.Redis.Password)
	l.secretFile("redis", "sentinel_password", c.Redis.SentinelPasswordFile, &c.Redis.SentinelPassword)
	if k := c.Log.Kafka; k != nil && k.SASL != nil {
		l.secretFile("log.kafka.sasl", "password", k.SASL.PasswordFile, &k.SASL.Password)
	}
}

func (l *loader) secretFile(section, name, file string, to *Secret) {
	field := section + "." + name + "_file"
	if l.bad[field] {
		l.bad[section+"."+name] = true
	}
	if file == "" {
		return
	}
	if !to.Empty() {
		l.problem(field, "%s is set too; keep one of them", name)
		return
	}
	text, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			l.problem(field, "%s does not exist", file)
		} else {
			l.problem(field, "%v", err)
		}
		l.bad[section+"."+name] = true
		return
	}
	if st, err := os.Stat(file); err == nil && st.Mode().Perm()&worldReadable != 0 {
		l.warn(field, "every user of this machine can read %s; chmod 600 it", file)
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if secret == "" {
		l.problem(field, "%s is empty", file)
		l.bad[section+"."+name] = true
	}
	*to = Secret{secret}
}
