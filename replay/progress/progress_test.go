package progress

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/doubletap-cdc/doubletap/replay"
)

func TestText(t *testing.T) {
	reading := replay.Progress{Phase: replay.Reading, Keys: 1234567, Rate: 20123.4, Done: 0.25, Left: 3*time.Minute + 4*time.Second}
	for _, c := range []struct {
		name string
		p    func(*replay.Progress)
		want string
	}{
		{"all is well", func(*replay.Progress) {}, "1,234,567 keys, 20,123 keys/s, 3m04s left"},
		{"seconds", func(p *replay.Progress) { p.Left = 4400 * time.Millisecond }, "1,234,567 keys, 20,123 keys/s, 4s left"},
		{"hours", func(p *replay.Progress) { p.Left = 26*time.Hour + 5*time.Minute }, "1,234,567 keys, 20,123 keys/s, 26h05m left"},
		{"nobody knows when", func(p *replay.Progress) { p.Left = -1 }, "1,234,567 keys, 20,123 keys/s"},
		{"slowed down", func(p *replay.Progress) { p.Pace.Reason = "Redis answers in 9ms" }, "1,234,567 keys, 20,123 keys/s, 3m04s left; slower: Redis answers in 9ms"},
		{"stopped", func(p *replay.Progress) {
			p.Left, p.Pace = -1, replay.PaceView{Stopped: true, Reason: "live deletes are 2s late"}
		}, "1,234,567 keys, 20,123 keys/s; waiting: live deletes are 2s late"},
		{"draining", func(p *replay.Progress) { p.Phase, p.Backlog = replay.Draining, replay.Backlog{First: 5, Second: 1000} },
			"all is published; records left: first pass 5, second pass 1,000"},
		{"held back", func(p *replay.Progress) {
			p.Phase, p.Backlog, p.Still = replay.Draining, replay.Backlog{First: 5, Second: 1000}, 70*time.Second
		}, "all is published; records left: first pass 5, second pass 1,000; the first pass has stood still for 1m10s: live changes go first, or nobody handles the log of replays"},
		{"for a moment", func(p *replay.Progress) { p.Still = 4 * time.Second }, "1,234,567 keys, 20,123 keys/s, 3m04s left"},
		{"planning", func(p *replay.Progress) {
			p.Phase, p.Pace = replay.Planning, replay.PaceView{Stopped: true, Reason: "live deletes are 2s late"}
		}, "looking at what is to be replayed, 3m04s left; waiting: live deletes are 2s late"},
		{"done", func(p *replay.Progress) { p.Phase, p.Rows = replay.Done, 999 }, "done: 1,234,567 keys of 999 rows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := reading
			c.p(&p)
			if got := Text(p); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestNarrow: on a terminal of 80 columns the figures that matter, and the reason
// for waiting, are on the line.
func TestNarrow(t *testing.T) {
	late := replay.PaceView{Stopped: true, Reason: "live deletes are 3s late"}
	for _, c := range []struct {
		p    replay.Progress
		want string
	}{
		{replay.Progress{Phase: replay.Reading, Keys: 72602, Rate: 65316, Left: 5 * time.Second}, "72,602 keys, 65,316 keys/s, 5s left"},
		{replay.Progress{Phase: replay.Reading, Keys: 72602, Rate: 65316, Left: 5 * time.Second, Pace: late}, "72,602 keys, 5s left; waiting: live deletes are 3s late"},
		{replay.Progress{Phase: replay.Reading, Keys: 1234567, Left: time.Hour, Pace: late}, "1,234,567 keys; waiting: live deletes are 3s late"},
		{replay.Progress{Phase: replay.Reading, Keys: 1234567, Left: -1, Pace: late, Still: time.Minute}, "1,234,567 keys; no delete for 1m00s"},
		{replay.Progress{Phase: replay.Draining, Done: 1, Backlog: replay.Backlog{First: 12345, Second: 123456}}, "records left: first pass 12,345, second pass 123,456"},
		{replay.Progress{Phase: replay.Draining, Done: 1, Backlog: replay.Backlog{First: 1, Second: 2}, Still: time.Minute}, " left: first pass 1, second pass 2; no delete for 1m00s"},
	} {
		var out bytes.Buffer
		d := &Display{w: &out, width: 80}
		d.Show(c.p)
		if !strings.Contains(out.String(), c.want) {
			t.Errorf("%q lacks %q", out.String(), c.want)
		}
		for _, line := range strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\r' || r == '\x1b' }) {
			if n := len([]rune(line)); n >= 80 {
				t.Errorf("%d characters: %q", n, line)
			}
		}
	}
}

// TestLogLines: a line that is logged meanwhile has a line of its own.
func TestLogLines(t *testing.T) {
	var out bytes.Buffer
	d := &Display{w: &out, width: 80}
	p := replay.Progress{Phase: replay.Reading, Done: 0.5, Left: -1}
	d.Show(p)
	drawn := out.Len()
	if _, err := d.Write([]byte("level=WARN\n")); err != nil || out.String()[drawn:] != "\r\x1b[Klevel=WARN\n" {
		t.Errorf("%v: %q", err, out.String()[drawn:])
	}
	d.End()
	ended := out.Len()
	if _, err := d.Write([]byte("done\n")); err != nil || out.String()[ended:] != "done\n" {
		t.Errorf("%v: %q", err, out.String()[ended:])
	}
}

// TestLines: where there is no terminal a line comes every few seconds, and at
// once when the phase changes; nothing moves the cursor.
func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := New(&out)
		p := replay.Progress{Phase: replay.Reading, Done: 0.5, Left: -1}
		for range 20 { // 10 s
			p.Keys += 1000
			d.Show(p)
			time.Sleep(500 * time.Millisecond)
		}
		p.Phase = replay.Draining
		d.Show(p)
		d.End()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "50%: 1,000 keys") || !strings.HasPrefix(lines[1], "50%: 11,000 keys") || !strings.HasPrefix(lines[2], "all is published") {
			t.Errorf("lines:\n%s", out.String())
		}
		if strings.ContainsAny(out.String(), "\r\x1b") {
			t.Errorf("control characters in %q", out.String())
		}
	})
}

// TestBar: on a terminal there is one line, which is written again and never
// wider than the terminal.
func TestBar(t *testing.T) {
	for _, done := range []float64{0.5, -1} {
		var out bytes.Buffer
		d := &Display{w: &out, width: 100}
		p := replay.Progress{Phase: replay.Reading, Keys: 5000, Rate: 100, Done: done, Left: -1}
		p.Pace.Reason = strings.Repeat("slow ", 50)
		d.Show(p)
		p.Keys = 6000
		d.Show(p)
		if strings.Contains(out.String(), "\n") {
			t.Errorf("done %v: more than one line: %q", done, out.String())
		}
		for _, line := range strings.FieldsFunc(out.String(), func(r rune) bool { return r == '\r' || r == '\x1b' }) {
			if n := len([]rune(line)); n > 100 {
				t.Errorf("done %v: %d characters: %q", done, n, line)
			}
		}
		if !strings.Contains(out.String(), "6,000 keys") || done > 0 && !strings.Contains(out.String(), "50%") {
			t.Errorf("done %v: %q", done, out.String())
		}
		// All is published, and the passes are at work: the bar is not at its end.
		p.Phase, p.Done = replay.Draining, 1
		d.Show(p)
		if strings.Contains(out.String(), "\n") || done > 0 && strings.Contains(out.String(), "100%") {
			t.Errorf("done %v: the bar ended while draining: %q", done, out.String())
		}
		d.End()
		if !strings.HasSuffix(out.String(), "\n") {
			t.Errorf("done %v: no end of line: %q", done, out.String())
		}
	}
}
