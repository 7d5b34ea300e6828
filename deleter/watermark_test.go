package deleter

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// posted reads what is there as any client would.
func posted(t *testing.T, c redis.UniversalClient) map[string]string {
	t.Helper()
	all := map[string]string{}
	sets, err := c.HGetAll(t.Context(), "doubletap:{shop-1}:watermarks").Result()
	if err != nil {
		t.Fatal(err)
	}
	for field, v := range sets {
		all[field] = v
	}
	for _, p := range []string{"0", "7"} {
		v, err := c.Get(t.Context(), "doubletap:{shop-1}:trusted:"+p).Result()
		if err == nil {
			all["trusted "+p] = v
		} else if !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
	}
	return all
}

func TestPost(t *testing.T) {
	s, cluster, sentinel := envtest.Valkey(t, memory), envtest.RedisCluster(t), envtest.RedisSentinel(t)
	for _, c := range []struct {
		name string
		cfg  Config
		read redis.UniversalClient
	}{
		{"standalone", Config{Addrs: []string{s.Addr}, DB: 3}, redis.NewClient(&redis.Options{Addr: s.Addr, DB: 3})},
		{"cluster", Config{Addrs: cluster.Addrs()}, clusterClient(t, cluster)},
		{"sentinel", Config{Addrs: sentinel.Addrs(), Master: sentinel.Name}, plain(t, sentinel.Master)},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer c.read.Close() //nolint:errcheck // a test's client
			r := open(t, c.cfg)
			post := func(w pipeline.Watermark, ttl time.Duration) {
				t.Helper()
				w.Source, w.Partitions = "shop-1", 8
				if err := postOnce(t.Context(), r, w, ttl); err != nil {
					t.Fatal(err)
				}
			}
			want := func(want map[string]string) {
				t.Helper()
				got := posted(t, c.read)
				for k, v := range want {
					if got[k] != v {
						t.Errorf("%s: %q, want %q", k, got[k], v)
					}
				}
				if len(got) != len(want) {
					t.Errorf("posted %q", got)
				}
			}
			post(pipeline.Watermark{Partition: 0}, time.Hour)
			want(map[string]string{"0": `{"partitions":8,"first":"","second":""}`, "trusted 0": `{"untrusted":[]}`})

			const a, b = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7:9", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
			post(pipeline.Watermark{Partition: 7, First: a, Second: b, Untrusted: []string{"*"}, Schema: "00112233aabbccdd"}, time.Hour)
			post(pipeline.Watermark{Partition: 0, First: b, Untrusted: []string{"item", `"q"`}}, 90*time.Second)
			want(map[string]string{
				"0": `{"partitions":8,"first":"` + b + `","second":""}`, "trusted 0": `{"untrusted":["item","\"q\""]}`,
				"7": `{"partitions":8,"first":"` + a + `","second":"` + b + `"}`, "trusted 7": `{"untrusted":["*"],"schema":"00112233aabbccdd"}`,
			})
			if ttl, err := c.read.PTTL(t.Context(), "doubletap:{shop-1}:trusted:0").Result(); err != nil || ttl > 90*time.Second || ttl < 60*time.Second {
				t.Errorf("trusted for %v, %v", ttl, err)
			}
			if ttl, err := c.read.TTL(t.Context(), "doubletap:{shop-1}:watermarks").Result(); err != nil || ttl > 0 {
				t.Errorf("the sets expire in %v, %v", ttl, err)
			}
			post(pipeline.Watermark{Partition: 0}, 300*time.Millisecond)
			post(pipeline.Watermark{Partition: 7, First: a}, 300*time.Millisecond)
			eventually(t, "the end of trust", func() error {
				if got := posted(t, c.read); got["trusted 0"]+got["trusted 7"] != "" || got["7"] == "" {
					return errors.New(strings.Join([]string{got["trusted 0"], got["trusted 7"], got["7"]}, " "))
				}
				return nil
			})
			// A time that no TTL can say is the shortest, not for ever.
			turn, err := r.Turn(t.Context(), "shop-1", 0, 0)
			if err != nil {
				t.Fatal(err)
			}
			eventually(t, "the end of the turn", func() error {
				if n := c.read.Exists(t.Context(), "doubletap:{shop-1}:turn:0").Val(); n != 0 {
					return errors.New("it goes on")
				}
				return nil
			})
			if err := r.Post(t.Context(), turn, pipeline.Watermark{Source: "shop-1"}); !errors.Is(err, pipeline.ErrTurnOver) {
				t.Error(err)
			}
			pipelinetest.RunWatermarks(t, func(t *testing.T) pipelinetest.WatermarksUnderTest {
				for _, key := range []string{"watermarks", "trusted:0", "trusted:1", "trusted:7", "turn:0", "turn:1", "turn:7"} {
					if err := c.read.Del(t.Context(), "doubletap:{shop}:"+key).Err(); err != nil {
						t.Fatal(err)
					}
				}
				return pipelinetest.WatermarksUnderTest{Watermarks: r, Read: func(ctx context.Context, source string, partition int) (pipeline.Watermark, time.Duration, error) {
					return readPost(ctx, c.read, source, partition)
				}}
			})
		})
	}
}

// readPost reads the sets, and for how long there is trust.
func readPost(ctx context.Context, c redis.UniversalClient, source string, partition int) (w pipeline.Watermark, trusted time.Duration, err error) {
	text, err := c.HGet(ctx, watermark.SetsKey(source), strconv.Itoa(partition)).Result()
	if errors.Is(err, redis.Nil) {
		return w, 0, nil
	}
	sets, err2 := watermark.ParseSets(text)
	left, err3 := c.PTTL(ctx, watermark.TrustKey(source, partition)).Result()
	w = pipeline.Watermark{Source: source, Partition: partition, Partitions: sets.Partitions, First: sets.First, Second: sets.Second}
	return w, max(0, left), errors.Join(err, err2, err3)
}

func TestPostThatFails(t *testing.T) {
	r := open(t, Config{Addrs: []string{"127.0.0.1:" + freePort(t)}, Mode: Standalone})
	for _, err := range []error{
		postOnce(t.Context(), r, pipeline.Watermark{Source: "shop", Partition: 3}, time.Second),
		r.Post(t.Context(), "a turn", pipeline.Watermark{Source: "shop", Partition: 3}),
	} {
		if err == nil || !strings.Contains(err.Error(), "post the watermark of shop, partition 3: ") {
			t.Error(err)
		}
	}
	s := envtest.Redis(t, memory)
	if err := plain(t, s).Set(t.Context(), "doubletap:{shop}:watermarks", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	err := postOnce(t.Context(), open(t, Config{Addrs: []string{s.Addr}}), pipeline.Watermark{Source: "shop"}, time.Second)
	if err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("of a key of another type: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Post(ctx, "", pipeline.Watermark{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
