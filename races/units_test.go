package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestResume(t *testing.T) {
	file := filepath.Join(t.TempDir(), "races.json")
	s := settings{Seed: 7, Caches: []string{plain}, Faults: []string{calm}, Lanes: 3, Keys: 4, Batch: 10}
	st, err := resume(file, s)
	if err != nil {
		t.Fatal(err)
	}
	st.Batches = append(st.Batches, outcome{Fault: calm, Seconds: 2, Caches: map[string]tally{plain: {Races: 12, Checked: 5}}})
	if err := st.save(file); err != nil {
		t.Fatal(err)
	}
	again, err := resume(file, s)
	if err != nil || again.races() != 12 || again.totals(calm)[plain].Checked != 5 {
		t.Errorf("resumed %+v, err %v", again, err)
	}
	s.Seed++
	if _, err := resume(file, s); err == nil {
		t.Error("resumed with another seed")
	}
}

// TestLedger: a commit is a race for a fill that holds an older version then,
// and for no other.
func TestLedger(t *testing.T) {
	l := newLedger(2, 2)
	older := l.hold(0, map[int]uint32{0: 0, 1: 0})
	another := l.hold(0, map[int]uint32{0: 0})
	newer := l.hold(0, map[int]uint32{0: 1})
	another()
	l.commit(0, 1)
	older()
	newer()
	l.commit(0, 2)
	l.hold(1, map[int]uint32{0: 1})
	b := l.books[0]
	if b.races.Load() != 1 || b.overlaps.Load() != 1 || b.behind.Load() != 0 {
		t.Errorf("%+v, want one race with one fill", b.tally())
	}
	if n := l.books[1].behind.Load(); n != 1 {
		t.Errorf("%d keys were read behind, want 1", n)
	}
}

func TestVersionOf(t *testing.T) {
	for value, want := range map[string]struct {
		version uint32
		ok, bad bool
	}{
		"12:":                      {12, true, false},
		"7:xxxxxxxxxxxxxxxxxxxxxx": {7, true, false},
		"\x00dt1L0123456789abcdef": {},
		"\x00dt1V\x00" + "3:":      {3, true, false},
		"\x00dt1V\x02mm" + "3:x":   {3, true, false},
		"\x00dt1V\x05mm":           {0, false, true},
		"\x00dt1N\x00":             {0, false, true},
		"":                         {0, false, true},
		"x:":                       {0, false, true},
	} {
		version, ok, err := versionOf(value)
		if version != want.version || ok != want.ok || (err != nil) != want.bad {
			t.Errorf("versionOf(%q) = %d, %t, %v; want %+v", value, version, ok, err, want)
		}
	}
}

// TestWrongArguments: usage errors exit with 2 and say what is wrong.
func TestWrongArguments(t *testing.T) {
	for args, says := range map[string]string{
		"-caches=none,other": "other",
		"-faults=rain":       "rain",
		"-log=paper":         "paper",
		"-lanes=0":           "-lanes",
		"more":               "more",
	} {
		var out, errs bytes.Buffer
		if code := command(context.Background(), []string{args}, &out, &errs); code != 2 || !strings.Contains(errs.String(), says) {
			t.Errorf("%s: code %d, %q", args, code, errs.String())
		}
	}
}

// TestPromised: a freeze gives a reader time only if he still had some.
func TestPromised(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	w := &world{fill: time.Second, freezes: []freezing{{at(1), at(3)}, {at(3.5), at(5)}, {at(7), at(8)}}}
	for opened, want := range map[float64]float64{
		-1:  0,   // over before Redis stood still
		0.5: 6,   // the second freeze began before the time after the first was over
		2:   6,   // opened while it stood still
		3.2: 6,   // only the second
		5.2: 6.2, // between
		6.5: 9,
		8:   9,
	} {
		if got := w.promised(at(opened)); !got.Equal(at(want)) {
			t.Errorf("opened at %v: until %v, want %v", opened, got.Sub(at(0)), want)
		}
	}
}
