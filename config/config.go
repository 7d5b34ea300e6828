// Package config reads the one YAML file that all commands share.
//
// It is strict: an unknown field, a value of the wrong kind, an unset variable
// or a file that cannot be read is a problem, and all problems are reported at
// once, each with its line. ${NAME} and ${NAME:-default} are replaced in values
// after the YAML is parsed, so that no character in a variable can change the
// file's meaning. Secrets are of type [Secret] and do not print.
//
// The package connects to nothing: whether a server is there is the preflight's
// business.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Config is the whole file. docs/configuration.md describes every field.
// Relative paths in the file are already made relative to the file's folder.
type Config struct {
	Source       Source       `yaml:"source"`
	Log          Log          `yaml:"log"`
	Redis        Redis        `yaml:"redis"`
	Keys         string       `yaml:"keys" kind:"path"` // the key schema's file
	SecondDelete SecondDelete `yaml:"second_delete"`
	Trust        Trust        `yaml:"trust"`
	Admin        Admin        `yaml:"admin"`
	Mode         string       `yaml:"mode"`       // ModeActive or ModeObserve
	LogLevel     string       `yaml:"log_level"`  // debug, info, warn, error
	LogFormat    string       `yaml:"log_format"` // text, json

	// Warnings are findings that do not stop a start, as "file:line: text".
	Warnings []string `yaml:"-"`
}

// Values of Config.Mode.
const (
	ModeActive  = "active"
	ModeObserve = "observe" // everything but the deletes
)

// Source is the MySQL or MariaDB server whose binlog is followed.
type Source struct {
	Name         string `yaml:"name"` // goes into every event
	Addr         string `yaml:"addr"` // host:port
	User         string `yaml:"user"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file" kind:"path"`
	Start        string `yaml:"start"`     // current, earliest, or a GTID set
	Driver       string `yaml:"driver"`    // auto, replication, canal
	ServerID     uint32 `yaml:"server_id"` // 0: one is chosen
	Gate         bool   `yaml:"gate"`      // the visibility gate
	OnGap        string `yaml:"on_gap"`    // OnGapInvalidate or OnGapStop
	TLS          *TLS   `yaml:"tls,omitempty"`
}

// Values of Source.OnGap.
const (
	OnGapInvalidate = "invalidate"
	OnGapStop       = "stop"
)

// Log is where events are kept: exactly one of the two is set.
type Log struct {
	Kafka    *Kafka    `yaml:"kafka,omitempty"`
	Embedded *Embedded `yaml:"embedded,omitempty"`
}

// Kafka is a log in a Kafka topic.
type Kafka struct {
	Brokers     []string      `yaml:"brokers"`
	Topic       string        `yaml:"topic"`
	Partitions  int           `yaml:"partitions"`
	Replication int           `yaml:"replication"` // 0: min(3, brokers)
	Group       string        `yaml:"group"`
	Retention   time.Duration `yaml:"retention"`
	// PreparedRetention is how long rows of prepared XA transactions are kept.
	PreparedRetention time.Duration `yaml:"prepared_retention"`
	TLS               *TLS          `yaml:"tls,omitempty"`
	SASL              *SASL         `yaml:"sasl,omitempty"`
}

// SASL is how to log in to Kafka.
type SASL struct {
	Mechanism    string `yaml:"mechanism"` // plain, scram-sha-256, scram-sha-512
	User         string `yaml:"user"`
	Password     Secret `yaml:"password"`
	PasswordFile string `yaml:"password_file" kind:"path"`
}

// Embedded is a log in a folder of the local disk.
type Embedded struct {
	Dir    string        `yaml:"dir" kind:"path"`
	Retain time.Duration `yaml:"retain"`
}

// Redis is the Redis or Valkey whose keys are deleted.
type Redis struct {
	Addrs                []string `yaml:"addrs"`
	Mode                 string   `yaml:"mode"`   // auto, standalone, sentinel, cluster
	Master               string   `yaml:"master"` // the master's name in Sentinel
	DB                   int      `yaml:"db"`
	Username             string   `yaml:"username"`
	Password             Secret   `yaml:"password"`
	PasswordFile         string   `yaml:"password_file" kind:"path"`
	SentinelUsername     string   `yaml:"sentinel_username"`
	SentinelPassword     Secret   `yaml:"sentinel_password"`
	SentinelPasswordFile string   `yaml:"sentinel_password_file" kind:"path"`
	TLS                  *TLS     `yaml:"tls,omitempty"`
	Protect              []string `yaml:"protect"`   // globs of keys that are never deleted
	ScanRate             int      `yaml:"scan_rate"` // keys looked at per second and node in a sweep
}

// Admin is the HTTP server for health, readiness and metrics.
type Admin struct {
	Listen string `yaml:"listen"` // host:port
}

// Load reads, expands and checks the file at path. The error is an *Error with
// all the problems, unless the file cannot be read. It reads the password files
// and certificates that the file names, and the environment.
//
// Besides an *Error it returns what was read, so that the files which it names
// can be looked at too; a setting with a problem may be missing there. Nothing
// may be started from it.
func Load(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", path, err)
	}
	l := &loader{file: path, dir: dir, env: os.LookupEnv, lines: map[string]int{}, bad: map[string]bool{}}
	if st, err := os.Stat(path); err == nil {
		l.exposed = st.Mode().Perm()&worldReadable != 0
	}
	c := l.load(src)
	c.Warnings = l.warnings
	if len(l.problems) > 0 {
		l.forget(c)
		return c, l.error()
	}
	return c, nil
}

// worldReadable is the permission that every user of the machine may read.
const worldReadable = 0o004

// loader is the state of one Load.
type loader struct {
	file     string // as given, for messages
	dir      string // absolute: what relative paths are relative to
	exposed  bool   // the file is readable by every user of the machine
	env      func(string) (string, bool)
	lines    map[string]int  // line of each field that the file has
	bad      map[string]bool // fields with a problem: checked no further
	problems []Problem
	warnings []string
}

func (l *loader) load(src []byte) *Config {
	c := Default()
	if l.decode(src, &c) {
		l.readSecrets(&c)
		l.derive(&c)
		l.check(&c)
	}
	return &c
}

// forget empties what must not be looked at further because of a problem.
func (l *loader) forget(c *Config) {
	if l.isBad("keys") {
		c.Keys = ""
	}
	for i := range c.Redis.Protect {
		if l.isBad(element("redis.protect", i)) {
			c.Redis.Protect = nil
			return
		}
	}
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	Line  int    // 0 where it has no line
	Field string // "log.kafka.topic"; "" where it is about the whole file
	Text  string
}

// Error lists everything that is wrong with a file, in the order of the lines.
type Error struct {
	File     string
	Problems []Problem
}

func (e *Error) Error() string {
	errs := make([]error, len(e.Problems))
	for i, p := range e.Problems {
		at := e.File
		if p.Line > 0 {
			at = fmt.Sprintf("%s:%d", e.File, p.Line)
		}
		if p.Field != "" {
			at += ": " + p.Field
		}
		errs[i] = fmt.Errorf("%s: %s", at, p.Text)
	}
	return errors.Join(errs...).Error()
}
