package deleter

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

func word(rnd *rand.Rand, alphabet string, n int) string {
	b := make([]byte, rnd.IntN(n)+1)
	for i := range b {
		b[i] = alphabet[rnd.IntN(len(alphabet))]
	}
	return string(b)
}

// TestGlobIsThatOfRedis compares with the server's own matching.
func TestGlobIsThatOfRedis(t *testing.T) {
	s := envtest.Redis(t, memory)
	c := plain(t, s)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 0))
	keys := make([]string, 400)
	for i := range keys {
		keys[i] = word(rnd, "abc-^]", 6)
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	if err := set(t.Context(), c, keys...); err != nil {
		t.Fatal(err)
	}
	for range 3_000 {
		pattern := word(rnd, `aabbc**?[]^-\`, 8)
		want, err := c.Keys(t.Context(), pattern).Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(want)
		var got []string
		g := compile(pattern)
		for _, k := range keys {
			if g.match(k) {
				got = append(got, k)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %q matches %q, Redis says %q", seed, pattern, got, want)
		}
	}
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?[c-d]\\*", "aXbYc*")
	f.Add("*a*a*a*b", "aaaaaaaa")
	f.Add("[", "[")
	f.Fuzz(func(t *testing.T, pattern, key string) {
		if strings.Count(pattern, "*") > 4 || len(key) > 40 {
			return // the oracle takes exponential time
		}
		if got, want := compile(pattern).match(key), pipelinetest.Match(pattern, key); got != want {
			t.Errorf("%q and %q: %v, want %v", pattern, key, got, want)
		}
	})
}
