package deleter

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// BenchmarkUnlinkSize is what keysPerCommand was chosen by.
func BenchmarkUnlinkSize(b *testing.B) {
	s := envtest.Redis(b, memory)
	c := open(b, Config{Addrs: []string{s.Addr}})
	conn, err := c.client(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	keys := make([]string, keysPerTrip)
	for i := range keys {
		keys[i] = fmt.Sprintf("category:%012d:items:x", i)
	}
	for _, per := range []int{1, 8, 32, 128, 512, 2048, 10240} {
		b.Run(fmt.Sprint(per), func(b *testing.B) {
			for b.Loop() {
				pipe := conn.Pipeline()
				for i := 0; i < len(keys); i += per {
					pipe.Unlink(b.Context(), keys[i:min(i+per, len(keys))]...)
				}
				if _, err := pipe.Exec(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(keys))/b.Elapsed().Seconds(), "keys/s")
		})
	}
}

// BenchmarkDelete deletes keys that exist.
func BenchmarkDelete(b *testing.B) {
	s := envtest.Redis(b, memory)
	other := plain(b, s)
	d := open(b, Config{Addrs: []string{s.Addr}, Protect: []string{"sess:*", "cart:*"}})
	for _, n := range []int{1, 10, 100, 1_000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf("category:%012d:items:x", i)
			}
			for b.Loop() {
				b.StopTimer()
				if err := set(b.Context(), redis.UniversalClient(other), keys...); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				if err := d.Delete(b.Context(), keys); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(keys))/b.Elapsed().Seconds(), "keys/s")
		})
	}
}
