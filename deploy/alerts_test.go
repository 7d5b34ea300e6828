package deploy_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

type alert struct {
	Alert, Expr, For    string
	Labels, Annotations map[string]string
}

func alerts(t *testing.T) (all []alert) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	if err := yaml.UnmarshalWithOptions(read(t, "deploy/alerts.yaml"), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 20 {
		t.Fatalf("only %d alerts", len(all))
	}
	return all
}

// metrics returns the labels of each metric from the table in docs/metrics.md,
// which a test of admin compares with what the commands register.
func metrics(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"process_start_time_seconds": nil}
	for _, m := range regexp.MustCompile("(?m)^\\| `(doubletap_\\w+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(read(t, "docs/metrics.md")), -1) {
		labels := regexp.MustCompile(`\w+`).FindAllString(m[3], -1)
		if m[2] == "histogram" {
			all[m[1]+"_bucket"] = append(labels, "le")
			continue
		}
		all[m[1]] = labels
	}
	if len(all) < 50 {
		t.Fatalf("only %d metrics in docs/metrics.md", len(all))
	}
	return all
}

var (
	metricName   = regexp.MustCompile(`\b(?:doubletap|process)_\w+`)
	withLabels   = regexp.MustCompile(`\b((?:doubletap|process)_\w+)\{([^}]*)\}`)
	labelMatcher = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouping     = regexp.MustCompile(`\b(?:by|without|on) \(([^)]*)\)`)
	inText       = regexp.MustCompile(`\$labels\.(\w+)`)
)

// TestAlerts: what the rules ask for is exported, with these labels, and each
// alert says to whoever is woken what it means and what to do. That they parse
// and fire is checked with promtool: make alerts.
func TestAlerts(t *testing.T) {
	known := metrics(t)
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		if !strings.HasPrefix(a.Alert, "Doubletap") || seen[a.Alert] {
			t.Errorf("alert %q: another name, or twice", a.Alert)
		}
		seen[a.Alert] = true
		if s := a.Labels["severity"]; s != "page" && s != "warn" {
			t.Errorf("%s has severity %q", a.Alert, s)
		}
		for _, about := range []string{"summary", "description", "action"} {
			if len(a.Annotations[about]) < 20 {
				t.Errorf("%s: %s is %q", a.Alert, about, a.Annotations[about])
			}
		}
		labels := []string{"instance", "job"}
		for _, name := range metricName.FindAllString(a.Expr, -1) {
			of, ok := known[name]
			if !ok {
				t.Errorf("%s asks for %s, which docs/metrics.md does not list", a.Alert, name)
			}
			labels = append(labels, of...)
		}
		for _, m := range withLabels.FindAllStringSubmatch(a.Expr, -1) {
			for _, l := range labelMatcher.FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(known[m[1]], l[1]) {
					t.Errorf("%s asks for a label %s of %s", a.Alert, l[1], m[1])
				}
			}
		}
		for _, g := range grouping.FindAllStringSubmatch(a.Expr, -1) {
			for _, l := range regexp.MustCompile(`\w+`).FindAllString(g[1], -1) {
				if !slices.Contains(labels, l) {
					t.Errorf("%s groups by %s, which none of its metrics has", a.Alert, l)
				}
			}
		}
		for about, text := range a.Annotations {
			for _, l := range inText.FindAllStringSubmatch(text, -1) {
				if !slices.Contains(labels, l[1]) || strings.Contains(a.Expr, " by (") && !strings.Contains(a.Expr, l[1]) {
					t.Errorf("%s: %s shows label %s, which the expression does not keep", a.Alert, about, l[1])
				}
			}
			for _, name := range metricName.FindAllString(text, -1) {
				if _, ok := known[name]; !ok {
					t.Errorf("%s: %s names %s, which docs/metrics.md does not list", a.Alert, about, name)
				}
			}
		}
	}
}

// TestAlertsAreShown: each one has a case in which it fires, and a line in the
// documentation.
func TestAlertsAreShown(t *testing.T) {
	cases, doc := string(read(t, "deploy/alerts.test.yaml")), string(read(t, "docs/operations.md"))
	for _, a := range alerts(t) {
		if !strings.Contains(cases, `alertname="`+a.Alert+`"`) {
			t.Errorf("%s fires in no case of alerts.test.yaml", a.Alert)
		}
		if !strings.Contains(doc, "`"+a.Alert+"`") {
			t.Errorf("docs/operations.md does not list %s", a.Alert)
		}
	}
	for _, name := range regexp.MustCompile(`Doubletap[A-Z]\w+`).FindAllString(cases+doc, -1) {
		if !slices.ContainsFunc(alerts(t), func(a alert) bool { return a.Alert == name }) {
			t.Errorf("there is no alert %s", name)
		}
	}
}
