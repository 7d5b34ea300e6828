package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// minimal is the smallest file that loads.
const minimal = `source: {name: shop, addr: "127.0.0.1:3306", user: cdc, password: "${MYSQL_PASSWORD}", start: current}
log: {embedded: {dir: ./data}}
redis: {addrs: ["127.0.0.1:6379"]}
keys: keys.yaml
`

// write puts a configuration and what it needs into a new folder.
func write(t testing.TB, yaml string) (path string) {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"doubletap.yaml": yaml, "keys.yaml": "version: 1\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "doubletap.yaml")
}

func mustLoad(t testing.TB, yaml string) *Config {
	t.Helper()
	c, err := Load(write(t, yaml))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestIssueExample(t *testing.T) {
	t.Setenv("MYSQL_PASSWORD", "p")
	path := write(t, `
source:  {name: shop, addr: "127.0.0.1:3306", user: cdc, password: "${MYSQL_PASSWORD}", start: current}
log:     {kafka: {brokers: ["127.0.0.1:9092"], topic: doubletap.shop, partitions: 8}}     # or: log: {embedded: {dir: ./data}}
redis:   {addrs: ["127.0.0.1:6379"]}                    # also mode, master, db, username, password, tls, protect
keys:    keys.yaml
second_delete: {fill: 1s}
admin:   {listen: "127.0.0.1:9400"}
`)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	k := c.Log.Kafka
	switch {
	case c.Source.Password.Reveal() != "p", !c.Source.Gate, c.Source.OnGap != OnGapInvalidate,
		c.Log.Embedded != nil, k.Topic != "doubletap.shop", k.Group != "doubletap.shop.invalidator",
		k.Retention != 7*24*time.Hour, c.Redis.Mode != "auto", c.SecondDelete.Fill != time.Second,
		c.Keys != filepath.Join(filepath.Dir(path), "keys.yaml"), c.Mode != ModeActive, len(c.Warnings) > 0:
		t.Errorf("loaded %s, warnings %q", c.Redacted(), c.Warnings)
	}
}

func TestExampleFile(t *testing.T) {
	example, err := os.ReadFile("../config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"MYSQL_PASSWORD", "KAFKA_PASSWORD", "REDIS_PASSWORD"} {
		t.Setenv(name, "p")
	}
	mustLoad(t, string(example))
}

// TestAllSettings loads a file with every setting, so that none is forgotten in
// the decoder, and loads again what Redacted prints.
func TestAllSettings(t *testing.T) {
	yaml := `
source: {name: a, addr: "h:1", user: u, password: s3cret, start: "0-1-7,1-1-9", driver: canal, server_id: 7, gate: off, on_gap: stop,
  tls: {server_name: n, insecure: on}}
log:
  kafka: {brokers: ["h:1", "[::1]:2"], topic: t, partitions: 3, replication: 2, group: g, retention: 2d, tls: {},
    sasl: {mechanism: plain, user: u, password: s3cret}}
redis: {addrs: ["h:1"], mode: sentinel, master: m, db: 3, username: u, password: s3cret, sentinel_username: su, sentinel_password: s3cret,
  tls: {}, protect: ["sess:*"], scan_rate: 5}
keys: keys.yaml
second_delete: {fill: 90s, readers: ["h:1", {addr: "h2:3306", server_uuid: 3E11FA47-71CA-11E1-9E33-C80AA9429562}], user: r, password: s3cret,
  tls: {insecure: on}, fallback: 2m, max_wait: 1h, stall: 50ms}
trust: {max_lag: 3s}
admin: {listen: ":0"}
mode: observe
log_level: debug
log_format: json
`
	path := write(t, yaml)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	out := c.Redacted()
	if strings.Contains(out, "s3cret") || strings.Count(out, redacted) != 5 {
		t.Errorf("Redacted printed:\n%s", out)
	}
	again, err := Load(write(t, out))
	if err != nil {
		t.Fatalf("%v\nin what Redacted printed:\n%s", err, out)
	}
	if got := again.Redacted(); got != out {
		t.Errorf("Redacted, loaded and printed again, gave\n%s\nnot\n%s", got, out)
	}
	for _, want := range []string{"gate: false", "server_id: 7", "retention: 48h0m0s", "fill: 1m30s", "addr: h2:3306", "server_uuid: 3e11fa47-71ca-11e1-9e33-c80aa9429562", "max_wait: 1h0m0s", "max_lag: 3s", "- '[::1]:2'", "mode: observe"} {
		if !strings.Contains(strings.ReplaceAll(out, `"`, `'`), want) {
			t.Errorf("Redacted lacks %s:\n%s", want, out)
		}
	}
}

func TestVariables(t *testing.T) {
	hostile := "a\"b'c\nd: e #f ${HOME} $$ \\ {x} &y *z"
	t.Setenv("HOSTILE", hostile)
	t.Setenv("EMPTY", "")
	os.Unsetenv("UNSET_FOR_TEST") //nolint:errcheck // it was never set
	for _, c := range []struct{ in, want, err string }{
		{`"${HOSTILE}"`, hostile, ""},
		{`${HOSTILE}`, hostile, ""},
		{`"<${HOSTILE}>"`, "<" + hostile + ">", ""},
		{`"${UNSET_FOR_TEST:-d:-e$x}"`, "d:-e$x", ""},
		{`"${EMPTY:-d}"`, "d", ""},
		{`"${UNSET_FOR_TEST:-}"`, "", ""},
		{`"${EMPTY}"`, "", ""},
		{`"${UNSET_FOR_TEST}"`, "", "the environment variable UNSET_FOR_TEST is not set"},
		{`"pa$word$"`, "pa$word$", ""},
		{`"$$${EMPTY:-x}$${EMPTY}"`, "$x${EMPTY}", ""},
		{`"${s3cret"`, "", "a ${ has no }"},
		{`"${s3:cret}"`, "", "a ${…} is neither"},
		{`0123`, "0123", ""},
		{`1.50`, "1.50", ""},
		{`true`, "true", ""},
		{`'it''s'`, "it's", ""},
		{"|-\n    two\n    lines", "two\nlines", ""},
	} {
		yaml := strings.Replace(minimal, `{name: shop, addr: "127.0.0.1:3306", user: cdc, password: "${MYSQL_PASSWORD}", start: current}`,
			"\n  name: shop\n  addr: 127.0.0.1:3306\n  user: cdc\n  password: "+c.in, 1)
		got, err := Load(write(t, yaml))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), "doubletap.yaml:5: source.password: "+c.err) || strings.Contains(err.Error(), "cret") {
				t.Errorf("%s: error %v, want %q", c.in, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
		} else if got.Source.Password.Reveal() != c.want {
			t.Errorf("%s: %q, want %q", c.in, got.Source.Password.Reveal(), c.want)
		}
	}
}

func TestVariablesInNumbersAndLists(t *testing.T) {
	t.Setenv("N", "12")
	t.Setenv("BROKER", "b:9092")
	c := mustLoad(t, strings.Replace(strings.Replace(minimal, `"${MYSQL_PASSWORD}"`, "p", 1),
		"{embedded: {dir: ./data}}", `{kafka: {brokers: ["${BROKER}"], topic: t, partitions: "${N}", retention: "${R:-36h}"}}`, 1))
	if k := c.Log.Kafka; k.Partitions != 12 || k.Brokers[0] != "b:9092" || k.Retention != 36*time.Hour {
		t.Errorf("%+v", k)
	}
}

func TestPasswordFile(t *testing.T) {
	for _, c := range []struct {
		file string
		mode os.FileMode
		want string
		warn bool
		err  string
	}{
		{"s3cret\n", 0o600, "s3cret", false, ""},
		{"s3cret\r\n", 0o600, "s3cret", false, ""},
		{" s3cret \n\n", 0o640, " s3cret \n", false, ""},
		{"s3cret", 0o644, "s3cret", true, ""},
		{"${s3cret}", 0o600, "${s3cret}", false, ""},
		{"\n", 0o600, "", false, "pw is empty"},
		{"-", 0, "", false, "pw does not exist"},
	} {
		path := write(t, strings.Replace(minimal, `password: "${MYSQL_PASSWORD}"`, "password_file: pw", 1))
		pw := filepath.Join(filepath.Dir(path), "pw")
		if c.mode != 0 {
			if err := errors.Join(os.WriteFile(pw, []byte(c.file), 0o600), os.Chmod(pw, c.mode)); err != nil {
				t.Fatal(err)
			}
		}
		got, err := Load(path)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.file, err, c.err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.file, err)
		case got.Source.Password.Reveal() != c.want:
			t.Errorf("%q: read %q", c.file, got.Source.Password.Reveal())
		case c.warn != (len(got.Warnings) == 1 && strings.Contains(got.Warnings[0], "chmod 600")):
			t.Errorf("%q, mode %o: warnings %q", c.file, c.mode, got.Warnings)
		}
	}
}

func TestWarnings(t *testing.T) {
	path := write(t, strings.Replace(minimal, `"${MYSQL_PASSWORD}", start: current`, "s3cret, gate: off, tls: {insecure: on}", 1))
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(c.Warnings, "\n")
	for _, want := range []string{"every user of this machine can read", "source.gate: off", "certificate is not verified"} {
		if !strings.Contains(all, want) {
			t.Errorf("no warning that %s in\n%s", want, all)
		}
	}
	if strings.Contains(all, "s3cret") {
		t.Errorf("a warning prints the password:\n%s", all)
	}
}
