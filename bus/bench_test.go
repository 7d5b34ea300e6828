package bus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// benchRecord is of the size and kind of a small event.
func benchRecord(i int) []byte {
	return fmt.Appendf(nil, `{"v":1,"kind":"changes","source":"shop","gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:%d","seq":0,"ts":1795270000%06d,"tables":[{"db":"shop","table":"item","columns":["id","category"],"rows":[{"b":[%d,"tools"],"a":[%d,"books"]}]}]}`, i, i%1000000, i, i)
}

// publishing measures throughput with as many records in flight as are taken,
// and the latency of single records in an idle log.
func publishing(b *testing.B, p pipeline.Publisher) {
	b.Run("throughput", func(b *testing.B) {
		records := make([]pipeline.Record, 1000)
		for i := range records {
			records[i] = pipeline.Record{Partition: i % p.Partitions(), Data: benchRecord(i)}
		}
		b.SetBytes(int64(len(records[0].Data)))
		var wg sync.WaitGroup
		defer reportCPU(b)()
		b.ResetTimer()
		for i := 0; i < b.N; i += 20 {
			wg.Add(1)
			from := i % 1000
			err := p.Publish(context.Background(), records[from:from+20], func(err error) {
				if err != nil {
					b.Error(err)
				}
				wg.Done()
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	b.Run("latency", func(b *testing.B) {
		latency(b, func(i int) error {
			done := make(chan error, 1)
			if err := p.Publish(context.Background(), []pipeline.Record{{Partition: i % p.Partitions(), Data: benchRecord(i)}}, func(err error) { done <- err }); err != nil {
				return err
			}
			return <-done
		})
	})
}

// reportCPU reports this process's processor time until the returned function
// is called.
func reportCPU(b *testing.B) func() {
	spent := func() float64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	}
	before := spent()
	return func() { b.ReportMetric((spent()-before)/float64(b.N)*1e6, "cpu-s/M") }
}

func latency(b *testing.B, publish func(i int) error) {
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		start := time.Now()
		if err := publish(i); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}

func benchKafka(b *testing.B, partitions int) *Kafka {
	server := envtest.Kafka(b)
	k, err := NewKafka(KafkaConfig{Brokers: server.Addrs(), Topic: newTopic(), Partitions: partitions})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := k.EnsureTopics(b.Context(), true); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := k.Close(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return k
}

func BenchmarkKafkaPublisher(b *testing.B) {
	for _, compression := range []kafka.Compression{kafka.Snappy, 0, kafka.Lz4, kafka.Zstd} {
		name := "none"
		if compression != 0 {
			name = compression.String()
		}
		b.Run(name, func(b *testing.B) {
			k := benchKafka(b, 8)
			k.compression = compression
			publishing(b, k.Publisher())
		})
	}
}

// BenchmarkKafkaWriter is kafka-go's own writer, with the settings that come
// nearest, for comparison.
func BenchmarkKafkaWriter(b *testing.B) {
	k := benchKafka(b, 8)
	b.Run("throughput", func(b *testing.B) {
		w := &kafka.Writer{
			Addr: k.reading.Addr, Topic: k.config.Topic, Balancer: &kafka.RoundRobin{}, RequiredAcks: kafka.RequireAll,
			BatchSize: 5000, BatchBytes: batchBytes, BatchTimeout: time.Millisecond, Async: true, Transport: k.transport, Compression: kafka.Snappy,
		}
		messages := make([]kafka.Message, 1000)
		for i := range messages {
			messages[i].Value = benchRecord(i)
		}
		b.SetBytes(int64(len(messages[0].Value)))
		defer reportCPU(b)()
		b.ResetTimer()
		for i := 0; i < b.N; i += 20 {
			from := i % 1000
			if err := w.WriteMessages(context.Background(), messages[from:from+20]...); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	for name, w := range map[string]*kafka.Writer{
		"latency, batches of 1":     {BatchSize: 1},
		"latency, batches for 1 ms": {BatchTimeout: time.Millisecond},
	} {
		b.Run(name, func(b *testing.B) {
			w.Addr, w.Topic, w.Balancer, w.RequiredAcks, w.Transport = k.reading.Addr, k.config.Topic, &kafka.RoundRobin{}, kafka.RequireAll, k.transport
			latency(b, func(i int) error {
				return w.WriteMessages(context.Background(), kafka.Message{Value: benchRecord(i)})
			})
			if err := w.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkEmbeddedPublisher(b *testing.B) {
	e, err := OpenEmbedded(EmbeddedConfig{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	publishing(b, e.Publisher())
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkRead reads a log from its start, as a second pass does that has
// fallen behind.
func BenchmarkRead(b *testing.B) {
	const n = 100_000
	for name, open := range map[string]func(*testing.B) (pipeline.Publisher, pipeline.Consumer){
		"embedded": func(b *testing.B) (pipeline.Publisher, pipeline.Consumer) {
			e, err := OpenEmbedded(EmbeddedConfig{Dir: b.TempDir(), MemoryTail: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = e.Close() })
			return e.Publisher(), e.Consumer("c")
		},
		"kafka": func(b *testing.B) (pipeline.Publisher, pipeline.Consumer) {
			k := benchKafka(b, 1)
			return k.Publisher(), k.Consumer(k.config.Topic)
		},
	} {
		b.Run(name, func(b *testing.B) {
			publisher, consumer := open(b)
			read := 0
			var wg sync.WaitGroup
			for i := range n {
				wg.Add(1)
				if err := publisher.Publish(b.Context(), []pipeline.Record{{Data: benchRecord(i)}}, func(error) { wg.Done() }); err != nil {
					b.Fatal(err)
				}
			}
			wg.Wait()
			ctx, cancel := context.WithCancel(b.Context())
			err := consumer.Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
				defer cancel()
				var next int64
				for b.Loop() {
					f, err := p.Read(ctx, next%n)
					if err != nil {
						return err
					}
					if next = f.Next; next >= n {
						next = 0
					}
					read += len(f.Messages)
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(read)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
