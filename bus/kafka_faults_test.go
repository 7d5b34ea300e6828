package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// load publishes numbered records, one after the other, to every partition, at a
// rate that leaves some of the machine to the brokers.
type load struct {
	k      *Kafka
	stop   chan struct{}
	ended  sync.WaitGroup
	mu     sync.Mutex
	calls  []int // how often done was called, per record
	acked  int
	failed error
	moved  notifier
}

func startLoad(t *testing.T, k *Kafka) *load {
	l := &load{k: k, stop: make(chan struct{})}
	p := k.Publisher()
	l.ended.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if i%20 == 0 {
				<-tick.C
			}
			select {
			case <-l.stop:
				return
			default:
			}
			l.mu.Lock()
			l.calls = append(l.calls, 0)
			for i-l.acked > 2000 && l.failed == nil { // some seconds' worth, not all memory
				moved := l.moved.wait()
				l.mu.Unlock()
				<-moved
				l.mu.Lock()
			}
			l.mu.Unlock()
			err := p.Publish(t.Context(), []pipeline.Record{{Partition: i % p.Partitions(), Data: fmt.Append(nil, i)}}, func(err error) { l.done(i, err) })
			if err != nil {
				l.done(i, err)
				return
			}
		}
	})
	return l
}

func (l *load) done(i int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[i]++
	l.acked++
	if err != nil {
		l.failed = err
	}
	l.moved.tell()
}

// wait returns when so many more records were acknowledged.
func (l *load) wait(t *testing.T, more int) {
	t.Helper()
	deadline := time.After(90 * time.Second)
	l.mu.Lock()
	defer l.mu.Unlock()
	for target := l.acked + more; l.acked < target && l.failed == nil; {
		moved := l.moved.wait()
		l.mu.Unlock()
		select {
		case <-moved:
		case <-deadline:
			t.Fatal("publishing does not go on")
		}
		l.mu.Lock()
	}
}

// check stops the load and reads the log: every record is there, and in each
// partition in order, but for repetitions.
func (l *load) check(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.ended.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	if err := l.k.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if l.failed != nil {
		t.Fatal(l.failed)
	}
	seen := make([]bool, len(l.calls))
	repeated := 0
	for part := range l.k.config.Partitions {
		newest := -1
		readLog(t, l.k, part, func(data []byte) {
			var i int
			if _, err := fmt.Sscan(string(data), &i); err != nil || i%l.k.config.Partitions != part {
				t.Fatalf("partition %d holds %q", part, data)
			}
			switch {
			case seen[i]:
				repeated++
			case i < newest:
				t.Fatalf("partition %d: record %d came first behind %d", part, i, newest)
			}
			seen[i] = true
			newest = max(newest, i)
		})
	}
	for i, n := range l.calls {
		if n != 1 || !seen[i] {
			t.Fatalf("record %d: done was called %d times, in the log: %v", i, n, seen[i])
		}
	}
	t.Logf("%d records, %d of them repeated", len(seen), repeated)
}

func readLog(t *testing.T, k *Kafka, partition int, fn func([]byte)) {
	t.Helper()
	from, end, err := k.bounds(t.Context(), k.config.Topic, partition)
	if err != nil {
		t.Fatal(err)
	}
	for from < end {
		f, err := k.fetch(t.Context(), k.config.Topic, partition, from)
		if err != nil || f.jump > 0 {
			t.Fatalf("fetch at %d: jump to %d, %v", from, f.jump, err)
		}
		for _, r := range f.records {
			fn(r.value)
		}
		from = f.next
	}
}

func TestKafkaSurvivesItsBroker(t *testing.T) {
	server := envtest.Kafka(t, testenv.KafkaOptions{})
	var mu sync.Mutex
	reports := map[string]int{}
	k := openKafka(t, server, 3, pipeline.Hooks{Retry: func(op string, _ int, err error, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		reports[strings.Fields(op)[0]]++
		if err == nil {
			t.Errorf("retry of %s without an error", op)
		}
	}})
	var s stores
	storing(t, k, s.store)
	l := startLoad(t, k)
	l.wait(t, 3000)
	for _, fault := range []struct {
		name string
		run  func() error
	}{
		{"kill", func() error { return errors.Join(server.Kill(), server.Start(t.Context())) }},
		{"freeze for longer than a request may take", func() error {
			err := server.Pause()
			pause(t.Context(), produceTimeout+time.Second)
			return errors.Join(err, server.Resume())
		}},
		{"stop and start", func() error { return errors.Join(server.Stop(t.Context()), server.Start(t.Context())) }},
	} {
		t.Log(fault.name)
		if err := fault.run(); err != nil {
			t.Fatal(err)
		}
		l.wait(t, 3000)
	}
	l.check(t)
	s.reached(t, k)
	if _, lost := k.reached.now(); lost != "" {
		t.Errorf("records were taken for lost: %s", lost)
	}
	mu.Lock()
	defer mu.Unlock()
	if reports["publish"] == 0 || reports["join"] == 0 {
		t.Errorf("the trouble was not reported: %v", reports)
	}
}

func TestKafkaSurvivesItsLeaders(t *testing.T) {
	server := envtest.Kafka(t, testenv.KafkaOptions{Brokers: 3, Heap: "256m"})
	k := openKafka(t, server, 3, pipeline.Hooks{})
	k.settle = settle
	if err := k.Positions("shop").Save(t.Context(), pipeline.Checkpoint{Position: "p1"}); err != nil {
		t.Fatal(err)
	}
	var s stores
	storing(t, k, s.store)
	l := startLoad(t, k)
	l.wait(t, 3000)
	for i, node := range server.Nodes {
		t.Logf("kill broker %d", i)
		if err := node.Kill(); err != nil {
			t.Fatal(err)
		}
		l.wait(t, 3000) // the other two go on
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.wait(t, 1000)
		awaitReplicas(t, k)
	}
	t.Log("freeze a broker, and so the partitions that it leads until the others notice")
	if err := server.Nodes[0].Pause(); err != nil {
		t.Fatal(err)
	}
	l.wait(t, 3000)
	if err := server.Nodes[0].Resume(); err != nil {
		t.Fatal(err)
	}
	awaitReplicas(t, k)
	l.check(t)
	s.reached(t, k)
	// A change of leaders is not taken for a loss.
	if c, err := k.Positions("shop").Load(t.Context()); err != nil || c != (pipeline.Checkpoint{Position: "p1"}) {
		t.Errorf("position %+v, %v", c, err)
	}
}

// awaitReplicas waits until all replicas are in sync again: two brokers of three
// are needed to publish, so the next may only go then.
func awaitReplicas(t *testing.T, k *Kafka) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		missing, err := outOfSync(ctx, k)
		if err == nil && missing == 0 {
			return
		}
		pause(ctx, 200*time.Millisecond) // the brokers tell nobody
	}
	t.Fatal("the replicas do not get in sync")
}
