package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func TestMain(m *testing.M) { envtest.Main(m) }

// The demonstration must end green, and red where a part was taken away: one
// that cannot fail shows nothing.
func TestDemo(t *testing.T) {
	for name, c := range map[string]struct {
		show show
		ok   bool
		says string
	}{
		"whole":          {show{}, true, "GREEN"},
		"without gate":   {show{sabotage: "gate"}, false, "RED, as it must be"},
		"without delete": {show{sabotage: "delete"}, false, "RED, as it must be"},
		"over Kafka":     {show{kafka: true}, true, "GREEN"},
	} {
		t.Run(name, func(t *testing.T) {
			envtest.Shared(t) // skips or fails where no server can be had
			c.show.off, c.show.on = 7*time.Second, 9*time.Second
			var text bytes.Buffer
			ok, err := c.show.run(t.Context(), newScreen(&text))
			if err != nil || ok != c.ok || !strings.Contains(text.String(), c.says) {
				t.Errorf("ok %t, err %v; want ok %t and %q in:\n%s", ok, err, c.ok, c.says, text.String())
			}
		})
	}
}
