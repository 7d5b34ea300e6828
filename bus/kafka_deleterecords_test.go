package bus

import (
	"context"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// kafka-go has no DeleteRecords, which is how a test removes a partition's front
// at once instead of waiting for retention; its protocol package takes it.

type deleteRecordsRequest struct {
	Topics    []deleteRecordsTopic `kafka:"min=v0,max=v1"`
	TimeoutMs int32                `kafka:"min=v0,max=v1"`
}

type deleteRecordsTopic struct {
	Name       string                   `kafka:"min=v0,max=v1"`
	Partitions []deleteRecordsPartition `kafka:"min=v0,max=v1"`
}

type deleteRecordsPartition struct {
	Index  int32 `kafka:"min=v0,max=v1"`
	Offset int64 `kafka:"min=v0,max=v1"`
}

type deleteRecordsResponse struct {
	ThrottleTimeMs int32                 `kafka:"min=v0,max=v1"`
	Topics         []deleteRecordsResult `kafka:"min=v0,max=v1"`
}

type deleteRecordsResult struct {
	Name       string                         `kafka:"min=v0,max=v1"`
	Partitions []deleteRecordsPartitionResult `kafka:"min=v0,max=v1"`
}

type deleteRecordsPartitionResult struct {
	Index        int32 `kafka:"min=v0,max=v1"`
	LowWatermark int64 `kafka:"min=v0,max=v1"`
	ErrorCode    int16 `kafka:"min=v0,max=v1"`
}

func (*deleteRecordsRequest) ApiKey() protocol.ApiKey  { return protocol.DeleteRecords }
func (*deleteRecordsResponse) ApiKey() protocol.ApiKey { return protocol.DeleteRecords }

// Broker sends the request to the partition's leader.
func (r *deleteRecordsRequest) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	t := r.Topics[0]
	return cluster.Brokers[cluster.Topics[t.Name].Partitions[t.Partitions[0].Index].Leader], nil
}

func init() { protocol.Register(&deleteRecordsRequest{}, &deleteRecordsResponse{}) }

// deleteRecords removes the records below an offset, as retention does.
func deleteRecords(t *testing.T, k *Kafka, partition int, below int64) {
	t.Helper()
	deleteRecordsOf(t, k, k.config.Topic, partition, below)
}

func deleteRecordsOf(t *testing.T, k *Kafka, topic string, partition int, below int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	res, err := k.transport.RoundTrip(ctx, k.reading.Addr, &deleteRecordsRequest{
		Topics:    []deleteRecordsTopic{{topic, []deleteRecordsPartition{{int32(partition), below}}}},
		TimeoutMs: 5000,
	})
	if err != nil {
		t.Fatal(err)
	}
	if p := res.(*deleteRecordsResponse).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.LowWatermark != below {
		t.Fatalf("delete records: %v, low watermark %d", kafka.Error(p.ErrorCode), p.LowWatermark)
	}
}
