package wire

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/doubletap-cdc/doubletap/testenv/envtest"
)

// TestStandby: of two invalidators and one partition one has nothing to do. Both
// are ready once the group has said so, and not before; both know how far the
// deletes are, whoever makes them.
func TestStandby(t *testing.T) {
	source, kafka, redis := envtest.MySQL(t), envtest.Kafka(t), envtest.Redis(t)
	db, schema := envtest.DB(t, source), envtest.Database(t, source)
	envtest.Exec(t, db, "CREATE TABLE "+schema+".item (id INT PRIMARY KEY)")
	config := write(t, map[string]string{
		"keys.yaml": fmt.Sprintf("version: 1\nkeys:\n  - {name: item, table: %s.item, key: 'standby:{id}'}\n", schema),
		"doubletap.yaml": fmt.Sprintf(`
source: {name: %s, addr: "%s", user: root}
log: {kafka: {brokers: ["%s"], topic: %s, partitions: 1}}
redis: {addrs: ["%s"]}
keys: keys.yaml
second_delete: {fill: 200ms}
`, schema, source.Addr, kafka.Addr, envtest.Topic(t), redis.Addr),
	})
	tailer := run(t, Tailer, config)
	tailer.await("/readyz", 200, `"ready": true`)
	tailer.await("/wait?gtid=0-1-1", 404, "ask an invalidator")
	both := []*command{run(t, Invalidator, config), run(t, Invalidator, config)}
	for _, c := range both {
		c.await("/readyz", 200, `"partitions"`)
	}
	if all := both[0].log.String() + both[1].log.String(); strings.Count(all, `msg="partition taken"`) == 0 || strings.Count(all, "partitions=0") == 0 {
		t.Errorf("not one has the partition and one nothing:\n%s", all)
	}
	envtest.Exec(t, db, "INSERT INTO "+schema+".item VALUES (1)")
	written := url.QueryEscape(one(t, db, "SELECT @@global.gtid_executed"))
	for _, c := range both {
		c.await("/wait?timeout=30s&pass=second&gtid="+written, 200, `"done": true`)
		c.await("/readers", 404, "watches no readers")
	}
}
