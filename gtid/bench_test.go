package gtid

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// holes is a set with n holes, as a server prints it.
func holes(n int) string {
	var text strings.Builder
	text.WriteString(a)
	for i := range n {
		fmt.Fprintf(&text, ":%d-%d", 10*i+1, 10*i+8)
	}
	return text.String()
}

// A tailer adds every transaction to its set, however many holes that has.
func TestAddIsCheap(t *testing.T) {
	s, err := Parse(holes(5000))
	if err != nil {
		t.Fatal(err)
	}
	var gtids []string
	for i := range 1000 {
		gtids = append(gtids, a+":"+strconv.Itoa(100_000+i))
	}
	copies, i := make([]Set, 0, len(gtids)), 0
	if n := testing.AllocsPerRun(len(gtids)-2, func() {
		if err := s.Add(gtids[i]); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, s)
		i++
	}); n > 0.01 {
		t.Errorf("%v allocations for each transaction", n)
	}
	for i, c := range copies {
		if !c.Has(gtids[i]) || c.Has(gtids[i+1]) {
			t.Fatalf("copy %d has changed", i)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{1, 5000} {
		b.Run(fmt.Sprintf("behind %d holes", n), func(b *testing.B) {
			s, _ := Parse(holes(n))
			gtids := make([]string, 4096)
			for i := range gtids {
				gtids[i] = a + ":" + strconv.Itoa(100_000+i)
			}
			i, t := 0, s
			b.ReportAllocs()
			for b.Loop() {
				if i == len(gtids) {
					i, t = 0, s
				}
				if err := t.Add(gtids[i]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1, 5000} {
		text := holes(n)
		b.Run(fmt.Sprintf("%d holes", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if _, err := Parse(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHasAll(b *testing.B) {
	big, _ := Parse(holes(5000))
	few, _ := Parse(a + ":40001-40008:40011-40012")
	for name, t := range map[string]Set{"few": few, "itself": big} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !big.HasAll(t) {
					b.Fatal("not all")
				}
			}
		})
	}
}
