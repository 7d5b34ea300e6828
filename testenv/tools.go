package testenv

import (
	"context"
	"fmt"
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

// toolOf returns the component that a tool belongs to, and its path there; Kafka's tools are classes and have none.
func toolOf(name string) (component, path string, err error) {
	if _, ok := kafkaTools[name]; ok {
		return "kafka", "", nil
	}
	t, ok := packagedTools[name]
	if !ok {
		return "", "", fmt.Errorf("testenv knows no tool %q", name)
	}
	return t[0], t[1], nil
}

func (n *native) tool(ctx context.Context, name string) ([]string, error) {
	component, path, err := toolOf(name)
	if err != nil {
		return nil, err
	}
	if path == "" {
		java, _, err := n.kafkaJava(ctx)
		return append(java, kafkaTools[name]), err
	}
	root, _, err := n.cache.packaged(ctx, component)
	if err != nil {
		return nil, err
	}
	return program(root, name, path)
}
