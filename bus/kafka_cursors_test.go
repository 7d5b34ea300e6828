package bus

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/testenv"
	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// owned runs a consumer for as long as fn takes, on partition 0.
func owned(t *testing.T, c pipeline.Consumer, fn func(context.Context, pipeline.Partition)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	called := false
	err := c.Run(ctx, func(ctx context.Context, p pipeline.Partition) error {
		if strings.HasSuffix(p.Name(), "/0") && !called { // the others do not look at it
			called = true
			fn(ctx, p)
			cancel()
		}
		<-ctx.Done()
		return nil
	})
	if err != nil || !called {
		t.Fatalf("consumer: own was called: %v, %v", called, err)
	}
}

func publishAll(t *testing.T, p pipeline.Publisher, data ...string) {
	t.Helper()
	var records []pipeline.Record
	for _, d := range data {
		records = append(records, pipeline.Record{Data: []byte(d)})
	}
	done := make(chan error, 1)
	if err := p.Publish(t.Context(), records, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestKafkaCursorsAgainstTheLog(t *testing.T) {
	server := envtest.Kafka(t)
	k := openKafka(t, server, 1, pipeline.Hooks{})
	publishAll(t, k.Publisher(), "a", "b", "c", "d", "e", "f")
	commit := func(group string, c kafka.OffsetCommit) {
		t.Helper()
		for { // a new server takes a moment until it coordinates groups
			res, err := k.reading.OffsetCommit(t.Context(), &kafka.OffsetCommitRequest{
				GroupID: group, GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{k.config.Topic: {c}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if res.Topics[k.config.Topic][0].Error == nil {
				return
			}
			pause(t.Context(), 100*time.Millisecond)
		}
	}
	for _, c := range []struct {
		name   string
		stored kafka.OffsetCommit
		want   pipeline.Cursors
		gap    string
	}{
		{"both cursors", kafka.OffsetCommit{Offset: 2, Metadata: `{"first":4,"end":6}`}, pipeline.Cursors{First: 4, Second: 2}, ""},
		{"set by an operator", kafka.OffsetCommit{Offset: 3}, pipeline.Cursors{First: 3, Second: 3}, ""},
		{"metadata of something else", kafka.OffsetCommit{Offset: 3, Metadata: "NONE"}, pipeline.Cursors{First: 3, Second: 3}, ""},
		{"a cursor beyond the end", kafka.OffsetCommit{Offset: 5, Metadata: `{"first":9,"end":6}`}, pipeline.Cursors{}, "lost its tail"},
		{"an end that the log no longer has", kafka.OffsetCommit{Offset: 2, Metadata: `{"first":3,"end":7}`}, pipeline.Cursors{}, "lost its tail"},
	} {
		group := newTopic()
		commit(group, c.stored)
		owned(t, k.Consumer(group), func(_ context.Context, p pipeline.Partition) {
			got, gap := p.Cursors()
			if got != c.want || (gap == "") != (c.gap == "") || !strings.Contains(gap, c.gap) {
				t.Errorf("%s: cursors %+v, gap %q", c.name, got, gap)
			}
		})
	}
}

func TestKafkaPositionsOutliveEverything(t *testing.T) {
	server := envtest.Kafka(t, testenv.KafkaOptions{})
	k := openKafka(t, server, 1, pipeline.Hooks{})
	want := pipeline.Checkpoint{Position: "uuid:1-300", Pending: "why"}
	for i := range 300 {
		if err := k.Positions("shop").Save(t.Context(), pipeline.Checkpoint{Position: pipeline.Position(fmt.Sprintf("uuid:1-%d", i))}); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			if err := k.Positions("other").Save(t.Context(), pipeline.Checkpoint{Position: "other"}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := k.Positions("shop").Save(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	if c, err := k.Positions("shop").Load(ctx); err == nil {
		t.Errorf("with no broker the position is %+v", c)
	}
	cancel()
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := newKafka(t, server, k.config.Topic, 1, pipeline.Hooks{})
	if got, err := again.Positions("shop").Load(t.Context()); err != nil || got != want {
		t.Errorf("loaded %+v, %v", got, err)
	}
	if got, err := again.Positions("other").Load(t.Context()); err != nil || got.Position != "other" {
		t.Errorf("loaded %+v, %v", got, err)
	}
	// A request that was given up and carried out late does not count.
	late := []byte(`{"position":"uuid:1-5","number":5}`)
	if err := again.produce(t.Context(), again.positionsTopic(), 0, []kafka.Record{{Key: kafka.NewBytes([]byte("shop")), Value: kafka.NewBytes(late)}}); err != nil {
		t.Fatal(err)
	}
	if got, err := again.Positions("shop").Load(t.Context()); err != nil || got != want {
		t.Errorf("after a late one: %+v, %v", got, err)
	}
}

// TestKafkaPassesOverControlRecords has somebody else's transaction in the topic.
func TestKafkaPassesOverControlRecords(t *testing.T) {
	k := openKafka(t, envtest.Kafka(t), 1, pipeline.Hooks{})
	publisher := k.Publisher()
	publishAll(t, publisher, "a")
	transact(t, k, true, "b")
	transact(t, k, false, "c")
	publishAll(t, publisher, "d")
	owned(t, k.Consumer(newTopic()), func(ctx context.Context, p pipeline.Partition) {
		var got []string
		for next := int64(0); next < 6; {
			f, err := p.Read(ctx, next)
			if err != nil {
				t.Error(err)
				return
			}
			for _, m := range f.Messages {
				got = append(got, fmt.Sprintf("%d%s", m.Offset, m.Data))
			}
			next = f.Next
		}
		// The record of the aborted transaction is delivered: what it names is
		// deleted once too often, which is harmless.
		if s := strings.Join(got, " "); s != "0a 1b 3c 5d" {
			t.Errorf("read %s", s)
		}
	})
}

// transact writes one record in a transaction. kafka-go cannot, but it sends a
// batch that has been given its producer id here.
func transact(t *testing.T, k *Kafka, commit bool, data string) {
	t.Helper()
	ctx, id := t.Context(), newTopic()
	var init *kafka.InitProducerIDResponse
	for { // the coordinator's topic is being made
		var err error
		init, err = k.producing.InitProducerID(ctx, &kafka.InitProducerIDRequest{TransactionalID: id, TransactionTimeoutMs: 10000})
		if err != nil {
			t.Fatal(err)
		}
		if init.Error == nil {
			break
		}
		pause(ctx, 100*time.Millisecond)
	}
	pid, epoch := init.Producer.ProducerID, init.Producer.ProducerEpoch
	added, err := k.producing.AddPartitionsToTxn(ctx, &kafka.AddPartitionsToTxnRequest{
		TransactionalID: id, ProducerID: pid, ProducerEpoch: epoch,
		Topics: map[string][]kafka.AddPartitionToTxn{k.config.Topic: {{Partition: 0}}},
	})
	if err != nil || added.Topics[k.config.Topic][0].Error != nil {
		t.Fatal(err, added)
	}
	var buf bytes.Buffer
	set := protocol.RecordSet{Version: 2, Attributes: protocol.Transactional, Records: kafka.NewRecordReader(kafka.Record{Value: kafka.NewBytes([]byte(data))})}
	if _, err := set.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	batch := buf.Bytes()[4:] // behind its size
	binary.BigEndian.PutUint64(batch[43:], uint64(pid))
	binary.BigEndian.PutUint16(batch[51:], uint16(epoch))
	binary.BigEndian.PutUint32(batch[53:], 0)
	binary.BigEndian.PutUint32(batch[17:], crc32.Checksum(batch[21:], castagnoli))
	res, err := k.producing.RawProduce(ctx, &kafka.RawProduceRequest{
		Topic: k.config.Topic, RequiredAcks: kafka.RequireAll, TransactionalID: id,
		RawRecords: protocol.RawRecordSet{Reader: &buf},
	})
	if err != nil || res.Error != nil {
		t.Fatal(err, res)
	}
	end, err := k.producing.EndTxn(ctx, &kafka.EndTxnRequest{TransactionalID: id, ProducerID: pid, ProducerEpoch: epoch, Committed: commit})
	if err != nil || end.Error != nil {
		t.Fatal(err, end)
	}
	for { // the control record comes a moment later
		_, end, err := k.bounds(ctx, k.config.Topic, 0)
		if err != nil {
			t.Fatal(err)
		}
		if end == res.BaseOffset+2 {
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}
