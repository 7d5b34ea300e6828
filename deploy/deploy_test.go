// Package deploy_test guards compose.yaml, the Dockerfiles and the example
// configuration without an engine: what docs/compose.md promises of them.
package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/doubletap-cdc/doubletap/config"
	"github.com/doubletap-cdc/doubletap/keys"
)

const root = ".."

type service struct {
	Image       string
	Build       *struct{ Context, Dockerfile string }
	Command     []string
	Entrypoint  []string
	Environment map[string]string
	Volumes     []string
	Ports       []string
	Restart     string
	Profiles    []string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	Healthcheck struct {
		Test    []string
		Disable bool
	}
	DependsOn map[string]struct{ Condition string } `yaml:"depends_on"`
}

// ours are the services that run our commands, all but the last one as long as the others.
var ours = []string{"invalidator-1", "invalidator-2", "tailer", "replay"}

func services(t *testing.T) map[string]service {
	t.Helper()
	var file struct{ Services map[string]service }
	if err := yaml.UnmarshalWithOptions(read(t, "compose.yaml"), &file, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestServices(t *testing.T) {
	all := services(t)
	for _, name := range append([]string{"mysql", "replica", "kafka", "redis"}, ours...) {
		if _, ok := all[name]; !ok {
			t.Errorf("no service %s", name)
		}
	}
	for name, s := range all {
		once := ends(all, name)
		switch test := s.Healthcheck.Test; {
		case once && (s.Restart != "no" || len(test) > 0 && !s.Healthcheck.Disable):
			t.Errorf("%s ends by itself, so it is not restarted and has no health check", name)
		case !once && (len(test) < 2 || test[0] != "CMD"):
			t.Errorf("%s: health check %q: not every image has a shell, so CMD and a program", name, test)
		}
		for _, p := range s.Ports {
			if !strings.HasPrefix(p, "127.0.0.1:") {
				t.Errorf("%s opens port %s to the network", name, p)
			}
		}
		for _, v := range s.Volumes {
			if source, _, _ := strings.Cut(v, ":"); strings.HasPrefix(source, "./") {
				if _, err := os.Stat(filepath.Join(root, source)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		for on, d := range s.DependsOn {
			if _, ok := all[on]; !ok || d.Condition != "service_healthy" && d.Condition != "service_completed_successfully" {
				t.Errorf("%s depends on %s by %q", name, on, d.Condition)
			}
		}
	}
}

// ends says whether a service ends by itself: another one starts once it has, or somebody starts it by hand.
func ends(all map[string]service, name string) bool {
	if len(all[name].Profiles) > 0 {
		return true
	}
	for _, s := range all {
		if s.DependsOn[name].Condition == "service_completed_successfully" {
			return true
		}
	}
	return false
}

func TestOurServices(t *testing.T) {
	all := services(t)
	var builds int
	image := all["tailer"].Image
	for _, name := range ours {
		s := all[name]
		if s.Build != nil {
			builds++
			if s.Build.Context != "." || !strings.HasSuffix(s.Build.Dockerfile, ":-Dockerfile}") {
				t.Errorf("%s is built from %+v", name, *s.Build)
			}
		}
		if image == "" || s.Image != image {
			t.Errorf("%s runs image %q, the tailer %q", name, s.Image, image)
		}
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
			t.Errorf("%s: read_only %v, cap_drop %v", name, s.ReadOnly, s.CapDrop)
		}
		if !slices.Contains(s.Volumes, "./deploy/compose:/etc/doubletap:ro") {
			t.Errorf("%s does not see deploy/compose: %v", name, s.Volumes)
		}
		if name == "replay" {
			if !slices.Contains(s.Volumes, "replay:/data") || !slices.Equal(s.Entrypoint, []string{"/replay"}) || len(s.Profiles) == 0 {
				t.Errorf("replay: %v, %v, %v", s.Volumes, s.Entrypoint, s.Profiles)
			}
			continue
		}
		if !slices.Contains(s.Command, "/etc/doubletap/doubletap.yaml") {
			t.Errorf("%s does not read deploy/compose/doubletap.yaml: %v", name, s.Command)
		}
		if len(s.Healthcheck.Test) != 4 || !slices.Contains(programs, s.Healthcheck.Test[1]) || s.Healthcheck.Test[2] != "-healthy" {
			t.Errorf("%s: health check %q", name, s.Healthcheck.Test)
		}
	}
	if builds != 1 {
		t.Errorf("%d services build the image %s, want one", builds, image)
	}
	if e := all["tailer"].Entrypoint; !slices.Equal(e, []string{"/binlog-tailer"}) {
		t.Errorf("the tailer's entry point is %q", e)
	}
}

// programs are what the image holds.
var programs = []string{"/binlog-tailer", "/invalidator", "/replay"}

func TestDockerfiles(t *testing.T) {
	for name, from := range map[string]string{"Dockerfile": "/out", "deploy/prebuilt.Dockerfile": "bin"} {
		t.Run(name, func(t *testing.T) {
			text := string(read(t, name))
			last := text[strings.LastIndex(text, "\nFROM ")+1:]
			if !strings.HasPrefix(last, "FROM scratch\n") {
				t.Errorf("the last stage is not empty at first:\n%s", last)
			}
			user := regexp.MustCompile(`(?m)^USER ([1-9][0-9]*):[1-9][0-9]*$`)
			if !user.MatchString(last) {
				t.Errorf("no USER with numbers other than 0, and scratch knows no names:\n%s", last)
			}
			if regexp.MustCompile(`(?m)^(RUN|SHELL)|^(CMD|ENTRYPOINT) [^\[]`).MatchString(last) {
				t.Errorf("scratch has no shell:\n%s", last)
			}
			for _, p := range programs {
				if !regexp.MustCompile(`(?m)^COPY .*` + from + p + " .*/$").MatchString(last) {
					t.Errorf("%s is not copied:\n%s", p, last)
				}
				if _, err := os.Stat(filepath.Join(root, "cmd", p)); err != nil {
					t.Error(err)
				}
			}
			if !strings.Contains(text, "\nWORKDIR /folders/data\n") || !strings.Contains(last, "\nCOPY --from=folders --chown=65532:65532 /folders/ /\nWORKDIR /data\n") {
				t.Errorf("no folder /data that the user may write to, for volumes:\n%s", text)
			}
			if strings.Contains(text, "go build") && !strings.Contains(text, "CGO_ENABLED=0 ") {
				t.Error("scratch has no C library: build with CGO_ENABLED=0")
			}
		})
	}
}

// TestDockerignore guards that the build sees what it compiles or copies.
func TestDockerignore(t *testing.T) {
	needed := []string{"bin", "go.mod", "go.sum"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if sources, _ := filepath.Glob(filepath.Join(root, e.Name(), "*.go")); len(sources) > 0 && e.Name() != "deploy" {
			needed = append(needed, e.Name())
		}
	}
	if !slices.Contains(needed, "pipeline") {
		t.Fatalf("no folder pipeline in %v", needed)
	}
	for line := range strings.Lines(string(read(t, ".dockerignore"))) {
		pattern := strings.TrimSpace(line)
		for _, n := range append(needed, "cmd") {
			if ok, err := filepath.Match(pattern, n); ok || err != nil {
				t.Errorf("%q leaves out %s (%v)", pattern, n, err)
			}
		}
	}
}

func TestConfiguration(t *testing.T) {
	all := services(t)
	for k, v := range all["tailer"].Environment {
		t.Setenv(k, v)
	}
	c, err := config.Load("compose/doubletap.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) > 0 {
		t.Error(c.Warnings)
	}
	schema, err := keys.Load(c.Keys)
	if err != nil {
		t.Fatal(err)
	}
	setup := string(read(t, "deploy/compose/setup.sql"))
	for _, r := range schema.Rules() {
		if db, table := r.TableGlob(); !strings.Contains(setup, "CREATE TABLE IF NOT EXISTS "+db+"."+table+" (") {
			t.Errorf("setup.sql makes no table for rule %s", r.Name())
		}
	}
	if user := "CREATE USER IF NOT EXISTS " + c.Source.User + "@'%' IDENTIFIED BY '" + c.Source.Password.Reveal() + "';"; !strings.Contains(setup, user) {
		t.Error("setup.sql makes another user than doubletap.yaml and compose.yaml name")
	}
	login := regexp.MustCompile(`SOURCE_HOST='mysql', SOURCE_USER='(\w+)', SOURCE_PASSWORD='([^']+)'`).FindStringSubmatch(string(read(t, "deploy/compose/replica.sql")))
	if login == nil || !strings.Contains(setup, "CREATE USER IF NOT EXISTS "+login[1]+"@'%' IDENTIFIED BY '"+login[2]+"';") {
		t.Errorf("replica.sql logs in as %q, whom setup.sql does not make", login)
	}
	addrs := slices.Concat([]string{c.Source.Addr}, c.Log.Kafka.Brokers, c.Redis.Addrs)
	for _, r := range c.SecondDelete.Readers {
		addrs = append(addrs, r.Addr)
	}
	if len(addrs) != 5 {
		t.Fatal(addrs)
	}
	for i, want := range []string{"mysql:3306", "kafka:9092", "redis:6379", "mysql:3306", "replica:3306"} {
		if name, _, _ := strings.Cut(want, ":"); addrs[i] != want || all[name].Image == "" {
			t.Errorf("address %s, want %s", addrs[i], want)
		}
	}
}

// TestProxy: the example asks each invalidator that it knows, about each replica,
// and falls back to a server that it asks nobody about.
func TestProxy(t *testing.T) {
	text := string(read(t, "deploy/haproxy.cfg"))
	asked := regexp.MustCompile(`(?m)^    http-check connect addr 127\.0\.0\.1 port (\d+)\n    http-check send meth GET uri-lf /readers\?name=%\[srv_name\]\n    http-check expect status 200$`).FindAllStringSubmatch(text, -1)
	bound := regexp.MustCompile(`(?m)^listen (invalidator\d)\n    mode http\n    bind 127\.0\.0\.1:(\d+)$`).FindAllStringSubmatch(text, -1)
	if len(asked) != 2 || len(bound) != 2 || asked[0][1] != bound[0][2] || asked[1][1] != bound[1][2] {
		t.Errorf("asked on %q, listening on %q", asked, bound)
	}
	for i, b := range bound {
		if other := bound[1-i][1]; !strings.Contains(text, "http-request return status 200 if { nbsrv eq 0 } { nbsrv("+other+") gt 0 }\n    server "+b[1]+" ") {
			t.Errorf("%s has a vote when it is gone, or %s has none", b[1], other)
		}
	}
	if !regexp.MustCompile(`(?m)^    server \S+ \S+ backup no-check$`).MatchString(text) {
		t.Error("nothing to read from when no replica may serve")
	}
}
