// Entry is the first program of the MySQL and Kafka images that mkimages builds. Those have no shell, so this does what the
// scripts of the vendors' images do, as far as tests need it. For Kafka: turn the variables KAFKA_… into properties, format
// the data folder, become the server; called by the name of one of Kafka's tools, become that. For MySQL: the image holds
// an initialised data folder, but arguments that decide its format need another one.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

var tools = map[string]string{
	"kafka-console-consumer.sh": "org.apache.kafka.tools.consumer.ConsoleConsumer",
	"kafka-console-producer.sh": "org.apache.kafka.tools.ConsoleProducer",
	"kafka-topics.sh":           "org.apache.kafka.tools.TopicCommand",
	"kafka-consumer-groups.sh":  "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
	"kafka-delete-records.sh":   "org.apache.kafka.tools.DeleteRecordsCommand",
}

func main() {
	if err := run(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, "entry:", err)
		os.Exit(1)
	}
}

// run returns only where it could not become the server or tool.
func run(args []string) error {
	if len(args) > 1 && args[1] == "mysqld" {
		return mysqld(args[1:])
	}
	return kafka(args)
}

func mysqld(args []string) error {
	const own = "/tmp/own-data"
	var once []string
	for _, a := range args[1:] {
		for _, name := range []string{"lower-case-table-names=", "innodb-page-size=", "innodb-data-file-path="} {
			if strings.HasPrefix(strings.ReplaceAll(a, "_", "-"), "--"+name) {
				once = append(once, a)
			}
		}
	}
	if len(once) > 0 {
		args = append(args, "--datadir="+own)
		if _, err := os.Stat(own); err != nil {
			once = append(once, "--initialize-insecure", "--datadir="+own, "--disable-log-bin", "--mysqlx=OFF", "--secure-file-priv=NULL")
			if out, err := exec.Command("/usr/sbin/mysqld", once...).CombinedOutput(); err != nil { //nolint:noctx // the container's life bounds it
				return fmt.Errorf("initialise the data folder: %w\n%s", err, out)
			}
		}
	}
	return syscall.Exec("/usr/sbin/mysqld", args, os.Environ())
}

func kafka(args []string) error {
	found, _ := filepath.Glob("/usr/lib/jvm/java-*/bin/java")
	if len(found) == 0 {
		return fmt.Errorf("no Java in this image")
	}
	java := []string{found[0], "-cp", "/opt/kafka/libs/*"}
	if class := tools[filepath.Base(args[0])]; class != "" {
		return syscall.Exec(java[0], slices.Concat(java, []string{class}, args[1:]), os.Environ())
	}
	const config = "/tmp/server.properties"
	text, dataDir := properties(os.Environ())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dataDir, "meta.properties")); err != nil {
		format := exec.Command(java[0], append(java[1:], "kafka.tools.StorageTool", "format", "-t", os.Getenv("CLUSTER_ID"), "-c", config)...) //nolint:noctx // the container's life bounds it
		format.Stdout, format.Stderr = os.Stdout, os.Stderr
		if err := format.Run(); err != nil {
			return fmt.Errorf("format the data folder: %w", err)
		}
	}
	flags := append(strings.Fields(os.Getenv("KAFKA_HEAP_OPTS")), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO")
	flags = append(flags, strings.Fields(os.Getenv("KAFKA_OPTS"))...)
	return syscall.Exec(java[0], slices.Concat(java, flags, []string{"kafka.Kafka", config}), os.Environ())
}

// properties turns KAFKA_LOG_DIRS=x into log.dirs=x: one underscore is a dot, two are an underscore, three a hyphen.
func properties(env []string) (text, dataDir string) {
	names := strings.NewReplacer("___", "-", "__", "_", "_", ".")
	lines := []string{}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		name, ok := strings.CutPrefix(name, "KAFKA_")
		if !ok || slices.Contains([]string{"HEAP_OPTS", "OPTS"}, name) {
			continue
		}
		name = names.Replace(strings.ToLower(name))
		if name == "log.dirs" {
			dataDir = value
		}
		lines = append(lines, name+"="+value)
	}
	if dataDir == "" {
		dataDir = "/tmp/kraft-combined-logs"
		lines = append(lines, "log.dirs="+dataDir)
	}
	return strings.Join(lines, "\n") + "\n", dataDir
}
