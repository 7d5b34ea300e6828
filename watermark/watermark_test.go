package watermark_test

import (
	"slices"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/deleter"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
	"github.com/doubletap-cdc/doubletap/watermark"
)

func TestMain(m *testing.M) { envtest.Main(m) }

const (
	a = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
	b = "3e11fa47-71ca-11e1-9e33-c80aa9429563"
)

// post posts in a turn of its own.
func post(t *testing.T, d *deleter.Redis, w pipeline.Watermark, ttl time.Duration) {
	t.Helper()
	turn, err := d.Turn(t.Context(), w.Source, w.Partition, ttl)
	if err == nil {
		err = d.Post(t.Context(), turn, w)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPosted: what invalidators post is read as they mean it, while the log's
// partitions come and grow.
func TestPosted(t *testing.T) {
	s := envtest.Redis(t)
	c := testenv.OpenRedis(s)
	defer c.Close()
	d, err := deleter.New(deleter.Config{Addrs: []string{s.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	set, err := gtid.Parse(a + ":1-5")
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		post          pipeline.Watermark
		first, second bool
	}{
		{pipeline.Watermark{Partition: 1, Partitions: 2, First: a + ":1-9", Second: a + ":1-9"}, false, false},
		{pipeline.Watermark{Partition: 0, Partitions: 2, First: a + ":1-9", Second: a + ":1-4"}, true, false},
		{pipeline.Watermark{Partition: 0, Partitions: 2, First: a + ":1-9", Second: a + ":1-5," + b + ":1"}, true, true},
		{pipeline.Watermark{Partition: 1, Partitions: 2, First: a + ":1-4:6-9", Second: a + ":1-9"}, false, true},
		{pipeline.Watermark{Partition: 0, Partitions: 3, First: a + ":1-9", Second: a + ":1-9"}, false, false},
		{pipeline.Watermark{Partition: 2, Partitions: 3, First: a + ":1-9", Second: a + ":1-9"}, false, false},
		{pipeline.Watermark{Partition: 1, Partitions: 3, First: a + ":1-9", Second: a + ":1-9"}, true, true},
		{pipeline.Watermark{Partition: 0, Partitions: 1, First: a + ":1-6", Second: ""}, true, false},
	} {
		step.post.Source = "shop"
		post(t, d, step.post, time.Minute)
		state, err := watermark.Read(t.Context(), c, "shop")
		if err != nil {
			t.Fatal(err)
		}
		for pass, want := range map[watermark.Pass]bool{watermark.First: step.first, watermark.Second: step.second} {
			missing := state.Missing(set, pass)
			if got := state.Covers(set, pass); got != want || got != (len(missing) == 0) {
				t.Errorf("step %d: covered by the %s pass: %v; missing %q", i, pass, got, missing)
			}
		}
	}
	other, err := watermark.Read(t.Context(), c, "another")
	if err != nil || other.Covers(set, watermark.First) || other.Covers(gtid.Set{}, watermark.First) || len(other.Missing(set, watermark.First)) != 1 {
		t.Errorf("of a source that nobody has: %v, %v", other, err)
	}
	if none := (watermark.State{}); none.Covers(gtid.Set{}, watermark.First) || len(none.Missing(set, watermark.First)) == 0 {
		t.Error("a state that was never read covers something")
	}
}

func TestReadTrust(t *testing.T) {
	s := envtest.Redis(t)
	c := testenv.OpenRedis(s)
	defer c.Close()
	d, err := deleter.New(deleter.Config{Addrs: []string{s.Addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	trust := func(want ...string) {
		t.Helper()
		got, err := watermark.ReadTrust(t.Context(), c, "trust")
		if err != nil || !slices.Equal(got.Untrusted, want) {
			t.Errorf("untrusted: %q, %v; want %q", got.Untrusted, err, want)
		}
	}
	vouch := func(partition int, ttl time.Duration, untrusted ...string) {
		t.Helper()
		post(t, d, pipeline.Watermark{Source: "trust", Partition: partition, Partitions: 2, Untrusted: untrusted}, ttl)
	}
	trust("*")
	vouch(0, time.Minute)
	trust("*") // nobody speaks for partition 1
	vouch(1, time.Minute)
	trust()
	out := pipeline.Watermark{Source: "trust", Partition: 1, Partitions: 2, Out: []string{"a server"}}
	post(t, d, out, time.Minute)
	if got, err := watermark.ReadTrust(t.Context(), c, "trust"); err != nil || got.Expired || !slices.Equal(got.Out, out.Out) {
		t.Errorf("out: %+v, %v", got, err)
	}
	vouch(1, time.Minute, "item")
	trust("item")
	vouch(1, 100*time.Millisecond)
	for c.Exists(t.Context(), watermark.TrustKey("trust", 1)).Val() > 0 && t.Context().Err() == nil { //nolint:revive // until it has expired
	}
	trust("*")
}

// TestReadSchemas: each partition that somebody vouches for has its schema, or none
// where an older release speaks, also while others have expired.
func TestReadSchemas(t *testing.T) {
	c := testenv.OpenRedis(envtest.Redis(t))
	defer c.Close()
	c.HSet(t.Context(), watermark.SetsKey("schemas"), "0", `{"partitions":3,"first":"","second":""}`)
	for i, step := range []struct {
		partition int
		value     string
		want      []string
	}{
		{1, `{"untrusted":[],"schema":"bb"}`, []string{"bb"}},
		{0, `{"untrusted":[]}`, []string{"", "bb"}},
		{2, `{"untrusted":["*"],"schema":"aa"}`, []string{"", "bb", "aa"}},
		{3, `{"untrusted":[],"schema":"of an earlier, larger log"}`, []string{"", "bb", "aa"}},
	} {
		c.Set(t.Context(), watermark.TrustKey("schemas", step.partition), step.value, time.Minute)
		got, err := watermark.ReadTrust(t.Context(), c, "schemas")
		if err != nil || !slices.Equal(got.Schemas, step.want) || got.Expired != (i < 2) || got.Expired && !slices.Equal(got.Untrusted, []string{"*"}) {
			t.Errorf("step %d: %+v, %v", i, got, err)
		}
	}
}

func TestReadRefusesWhatIsNot(t *testing.T) {
	c := testenv.OpenRedis(envtest.Redis(t))
	defer c.Close()
	for source, field := range map[string]string{"no-json": "7", "no-set": `{"partitions":1,"first":"x","second":""}`, "no-count": `{"partitions":1000000000000000000,"first":"","second":""}`} {
		c.HSet(t.Context(), watermark.SetsKey(source), "0", field)
		if s, err := watermark.Read(t.Context(), c, source); err == nil {
			t.Errorf("%s is read as %v", source, s)
		}
		if _, err := watermark.ReadTrust(t.Context(), c, source); err == nil && source != "no-set" {
			t.Errorf("%s: no error of trust", source)
		}
	}
	c.Set(t.Context(), watermark.SetsKey("no-hash"), "x", 0)
	if _, err := watermark.Read(t.Context(), c, "no-hash"); err == nil {
		t.Error("no hash, no error")
	}
	if _, err := watermark.ReadTrust(t.Context(), c, "no-hash"); err == nil {
		t.Error("no hash, no error")
	}
}
