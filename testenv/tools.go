package testenv

import (
	"context"
	"fmt"
	"path/filepath"
)

// kafkaTools are the main classes behind the scripts of Kafka's own distribution.
var kafkaTools = map[string]string{
	"kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
	"kafka-topics":           "org.apache.kafka.tools.TopicCommand",
	"kafka-consumer-groups":  "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-delete-records":   "org.apache.kafka.tools.DeleteRecordsCommand",
}

// packagedTools names the component and the path of the other tools.
var packagedTools = map[string][2]string{
	"mysql":          {"mysql", "usr/bin/mysql"},
	"mysqlbinlog":    {"mysql", "usr/bin/mysqlbinlog"},
	"mysqldump":      {"mysql", "usr/bin/mysqldump"},
	"mariadb":        {"mariadb", "usr/bin/mariadb"},
	"mariadb-binlog": {"mariadb", "usr/bin/mariadb-binlog"},
	"mariadb-dump":   {"mariadb", "usr/bin/mariadb-dump"},
	"redis-cli":      {"redis", "usr/bin/redis-cli"},
	"valkey-cli":     {"valkey", "usr/bin/valkey-cli"},
}

func (n *native) tool(ctx context.Context, name string) ([]string, error) {
	if class, ok := kafkaTools[name]; ok {
		java, _, err := n.kafkaJava(ctx)
		return append(java, class), err
	}
	t, ok := packagedTools[name]
	if !ok {
		return nil, fmt.Errorf("testenv knows no tool %q", name)
	}
	root, _, err := n.cache.packaged(ctx, t[0])
	if err != nil {
		return nil, err
	}
	return program(root, filepath.Base(t[1]), t[1])
}
