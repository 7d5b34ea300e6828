package pipeline

import (
	"testing"
	"time"
)

// Until when a SET may run that was to run within 10 s of second 100.
func TestStallsOver(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(int64(1000+second), 0) }
	stall := func(from, to int) Stall { return Stall{From: at(from), To: at(to)} }
	for name, c := range map[string]struct {
		seen Stalls
		want int
	}{
		"none":                               {nil, 110},
		"before it":                          {Stalls{{stall(80, 100)}}, 110},
		"begun before it":                    {Stalls{{stall(80, 101)}}, 111},
		"within":                             {Stalls{{stall(103, 108)}}, 118},
		"at its end":                         {Stalls{{stall(110, 140)}}, 150},
		"behind it":                          {Stalls{{stall(111, 140)}}, 110},
		"nothing is known of before":         {Stalls{{{To: at(105)}}}, 115},
		"the same, long ago":                 {Stalls{{{To: at(5)}}}, 110},
		"one after the other":                {Stalls{{stall(105, 106), stall(112, 113)}}, 123},
		"behind the second one's time":       {Stalls{{stall(105, 106), stall(117, 119)}}, 116},
		"a longer one that began earlier":    {Stalls{{stall(104, 105), stall(103, 120)}}, 130},
		"of two nodes":                       {Stalls{{stall(105, 106)}, {stall(112, 113)}}, 116},
		"of two nodes, the second is longer": {Stalls{{stall(105, 106)}, {stall(109, 113)}}, 123},
		"short ones count together":          {Stalls{{stall(101, 102), stall(102, 103), stall(103, 104), stall(104, 105), stall(115, 116)}}, 126},
		"three in a row, and no more":        {Stalls{{stall(108, 109), stall(117, 118), stall(126, 127), stall(135, 136), stall(144, 145)}}, 137},
	} {
		if got := c.seen.over(at(100), 10*time.Second); !got.Equal(at(c.want)) {
			t.Errorf("%s: over %v after it, not %d s", name, got.Sub(at(100)), c.want-100)
		}
	}
}
