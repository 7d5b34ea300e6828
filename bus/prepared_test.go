package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/pipeline/pipelinetest"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// reopenable is an embedded log that can be closed and opened again.
func reopenable(t *testing.T, segment int64) (u pipelinetest.PreparedUnderTest, log func() *Embedded) {
	dir := t.TempDir()
	var e *Embedded
	open := func() pipeline.Prepared {
		if e != nil {
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		}
		e = openTest(t, EmbeddedConfig{Dir: dir})
		if segment > 0 {
			e.prepared.disk.bytes = segment
			e.prepared.tail.limit = 1
		}
		return e.prepared
	}
	return pipelinetest.PreparedUnderTest{Prepared: open(), Reopen: open}, func() *Embedded { return e }
}

func TestEmbeddedPreparedPassesTheSuite(t *testing.T) {
	pipelinetest.RunPrepared(t, func(t *testing.T) pipelinetest.PreparedUnderTest {
		u, _ := reopenable(t, 0)
		return u
	})
}

// TestEmbeddedPreparedFromDisk has small files and no memory to speak of.
func TestEmbeddedPreparedFromDisk(t *testing.T) {
	pipelinetest.RunPrepared(t, func(t *testing.T) pipelinetest.PreparedUnderTest {
		u, log := reopenable(t, 200)
		u.Drop = func(below int64) { log().prepared.Release(below) }
		return u
	})
}

func TestKafkaPreparedPassesTheSuite(t *testing.T) {
	server := envtest.Kafka(t)
	pipelinetest.RunPrepared(t, func(t *testing.T) pipelinetest.PreparedUnderTest {
		k := openKafka(t, server, 1, pipeline.Hooks{})
		again := func() pipeline.Prepared { return newKafka(t, server, k.config.Topic, 1, pipeline.Hooks{}).Prepared() }
		return pipelinetest.PreparedUnderTest{Prepared: k.Prepared(), Reopen: again, Drop: func(below int64) {
			deleteRecordsOf(t, k, k.preparedTopic(), 0, below)
		}}
	})
}

// noise does not compress.
func noise(t *testing.T, size int) []byte {
	data := make([]byte, size)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// Files whose transactions have ended are removed, and the others stay.
func TestEmbeddedPreparedGivesDiskBack(t *testing.T) {
	e := openTest(t, EmbeddedConfig{})
	e.prepared.disk.bytes = 10 << 10
	var last int64
	for i := range 20 {
		done := make(chan error, 1)
		err := e.Prepared().Append(t.Context(), [][]byte{noise(t, 6<<10)}, func(_, next int64, err error) {
			last = next
			done <- err
		})
		if err := errors.Join(err, <-done); err != nil {
			t.Fatalf("append %d: %v", i, err)
		}
	}
	files := func() int {
		found, err := filepath.Glob(filepath.Join(e.config.Dir, preparedDir, "*"+segmentSuffix))
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	before := files()
	e.Prepared().Release(last - 5)
	if n := files(); before < 8 || n > 4 || n < 2 {
		t.Errorf("%d files before, %d after", before, n)
	}
	got := 0
	err := e.Prepared().Read(t.Context(), last-5, last, func(pipeline.Message) error { got++; return nil })
	if got != 5 || err != nil {
		t.Errorf("%d records are left, %v", got, err)
	}
}

// A file that was damaged counts as lost, and the log goes on without it.
func TestEmbeddedPreparedDamaged(t *testing.T) {
	u, log := reopenable(t, 0)
	var next int64
	done := make(chan error, 1)
	err := u.Append(t.Context(), [][]byte{[]byte("a"), []byte("b")}, func(_, n int64, err error) {
		next = n
		done <- err
	})
	if err := errors.Join(err, <-done, log().Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(segmentPath(filepath.Join(log().config.Dir, preparedDir), 0), 1000); err != nil {
		t.Fatal(err)
	}
	again := u.Reopen()
	err = again.Read(t.Context(), 0, next, func(m pipeline.Message) error { return fmt.Errorf("read %q", m.Data) })
	if _, ok := errors.AsType[*pipeline.LogGapError](err); !ok {
		t.Errorf("reading what was lost: %v", err)
	}
	err = again.Append(t.Context(), [][]byte{[]byte("c")}, func(_, _ int64, err error) { done <- err })
	if err := errors.Join(err, <-done); err != nil {
		t.Errorf("append after a loss: %v", err)
	}
}

// Rows that cannot be stored yet are stored when Kafka is back.
func TestKafkaPreparedWaitsForTheBroker(t *testing.T) {
	server := envtest.Kafka(t, testenv.KafkaOptions{})
	k := openKafka(t, server, 1, pipeline.Hooks{})
	p := k.Prepared()
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		from, next int64
		err        error
	}
	got := make(chan answer, 1)
	if err := p.Append(t.Context(), [][]byte{[]byte("a")}, func(from, next int64, err error) { got <- answer{from, next, err} }); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-got:
		t.Errorf("%+v while the broker is frozen", a)
	case <-time.After(produceTimeout + time.Second): // once in vain
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	a := <-got
	if a.err != nil {
		t.Fatal(a.err)
	}
	n := 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := p.Read(ctx, a.from, a.next, func(m pipeline.Message) error {
		n++
		return nil
	})
	if err != nil || n == 0 {
		t.Errorf("%d records, %v", n, err)
	}
}
