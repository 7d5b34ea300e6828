package testenv

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
)

// KafkaOptions are the settings of a Kafka server; the zero value is one node, as broker and controller, that creates no
// topic by itself and lets consumer groups start without a delay.
type KafkaOptions struct {
	Brokers    int      // number of nodes, each broker and controller; default 1
	Properties []string // further server properties, "name=value"; a later one wins over ours
	Port       int      // fixed port of the first node; 0 chooses one
	Heap       string   // default "512m"
	JVM        []string // further flags of the Java machine; "-XX:TieredStopAtLevel=4" gives benchmarks the slower, better compiler
}

// Kafka starts Kafka in KRaft mode and waits until every broker has joined. With several brokers the result's methods act
// on all of them, and Nodes holds each.
func (e *Env) Kafka(ctx context.Context, o KafkaOptions) (*Server, error) {
	o.Brokers = max(o.Brokers, 1)
	if o.Heap == "" {
		o.Heap = "512m"
	}
	if o.Brokers == 1 {
		return e.run(ctx, 2, o.Port, func(ports []port) *spec { return kafkaNode(o, newKafkaID(), 1, ports[:1], ports[1:]) })
	}
	return e.kafkaCluster(ctx, o)
}

// kafkaCluster starts several nodes together: none becomes ready before a majority runs.
func (e *Env) kafkaCluster(ctx context.Context, o KafkaOptions) (*Server, error) {
	taken, err := takePorts(2*o.Brokers, o.Port)
	if err != nil {
		return nil, err
	}
	id, clients, controllers := newKafkaID(), taken[:o.Brokers], taken[o.Brokers:]
	all := &Server{Kind: "kafka", Addr: clients[0].addr()}
	for i := range o.Brokers {
		sp := kafkaNode(o, id, i+1, clients, controllers)
		sp.ports = []port{clients[i], controllers[i]}
		dir, err := e.newDir("kafka")
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		inst, by, err := e.backend.launch(ctx, sp, dir)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start kafka: %w", err), all.Close())
		}
		all.Nodes = append(all.Nodes, &Server{Kind: "kafka", Addr: clients[i].addr(), inst: inst, by: by, spec: sp, ports: sp.ports})
	}
	all.inst, all.by, all.spec = all.Nodes[0].inst, all.Nodes[0].by, all.Nodes[0].spec
	if err := all.Start(ctx); err != nil {
		return nil, errors.Join(err, all.Close())
	}
	all.version = all.Nodes[0].Version()
	return all, e.add(all)
}

// kafkaNode describes one node. Ports of all nodes are given, this one's at index number-1.
func kafkaNode(o KafkaOptions, clusterID string, number int, clients, controllers []port) *spec {
	var voters []string
	for i, c := range controllers {
		voters = append(voters, fmt.Sprintf("%d@%s", i+1, c.addr()))
	}
	copies := min(3, o.Brokers)
	listen, vote := clients[number-1].addr(), controllers[number-1].addr()
	props := []string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", number),
		"controller.quorum.voters=" + strings.Join(voters, ","),
		"controller.listener.names=CONTROLLER",
		fmt.Sprintf("listeners=CLIENT://%s,CONTROLLER://%s", listen, vote),
		"advertised.listeners=CLIENT://" + listen,
		"listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"inter.broker.listener.name=CLIENT",
		"auto.create.topics.enable=false",
		"group.initial.rebalance.delay.ms=0",
		fmt.Sprintf("offsets.topic.replication.factor=%d", copies),
		"offsets.topic.num.partitions=5",
		fmt.Sprintf("transaction.state.log.replication.factor=%d", copies),
		fmt.Sprintf("transaction.state.log.min.isr=%d", min(2, copies)),
		"transaction.state.log.num.partitions=2",
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", copies),
		"share.coordinator.state.topic.min.isr=1",
		"log.cleaner.dedupe.buffer.size=16777216",
		"group.min.session.timeout.ms=1000",
		// A killed broker may register again only when its old session is over: 9 seconds by default (11.9 s to start, measured).
		"broker.session.timeout.ms=3000",
		"broker.heartbeat.interval.ms=500",
	}
	props = append(props, o.Properties...)
	node := &kafkaSetup{clusterID: clusterID, number: number, brokers: o.Brokers, heap: o.Heap, jvm: o.JVM, properties: props}
	return &spec{kind: "kafka", component: "kafka", native: node.native, container: node.container(), ready: node.ready}
}

type kafkaSetup struct {
	clusterID     string
	number        int
	brokers       int
	heap          string
	jvm           []string
	properties    []string
	nativeVersion string
}

// newKafkaID makes a cluster or folder id as Kafka writes them.
func newKafkaID() string {
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	raw[0] &= 0x7f // an id that begins with "-" would read as an option
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

func (k *kafkaSetup) propertiesText(dataDir string) string {
	return strings.Join(append(k.properties, "log.dirs="+dataDir), "\n") + "\n"
}

// native formats the data folder as kafka.tools.StorageTool does, from a folder that the tool formatted once: the tool
// itself is a JVM that takes over a second of processor time.
func (k *kafkaSetup) native(ctx context.Context, n *native, _ *spec, dir string) (*process, error) {
	java, st, err := n.kafkaJava(ctx)
	if err != nil {
		return nil, err
	}
	k.nativeVersion = st.Version
	template, err := n.cache.template(ctx, "kafka", st.Version, func(ctx context.Context, dir string) error {
		return formatKafka(ctx, java, dir)
	})
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "data")
	if err := copyTree(filepath.Join(template, "data"), data); err != nil {
		return nil, err
	}
	meta := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", k.clusterID, k.number, newKafkaID())
	config := filepath.Join(dir, "server.properties")
	if err := errors.Join(
		os.WriteFile(filepath.Join(data, "meta.properties"), []byte(meta), 0o644),
		os.WriteFile(config, []byte(k.propertiesText(data)), 0o644),
	); err != nil {
		return nil, err
	}
	flags := []string{"-Xms128m", "-Xmx" + k.heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO", "-Dkafka.logs.dir=" + dir}
	argv := slices.Concat(java, flags, k.jvm, []string{"kafka.Kafka", config})
	return &process{argv: argv}, nil
}

// formatKafka runs Kafka's own tool.
func formatKafka(ctx context.Context, java []string, dir string) error {
	// A node's number and addresses do not get into what it writes, apart from meta.properties, which each copy replaces.
	k := kafkaSetup{properties: []string{
		"process.roles=broker,controller", "node.id=1", "controller.quorum.voters=1@127.0.0.1:9093", "controller.listener.names=CONTROLLER",
		"listeners=CLIENT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093", "advertised.listeners=CLIENT://127.0.0.1:9092",
		"listener.security.protocol.map=CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT", "inter.broker.listener.name=CLIENT",
	}}
	config := filepath.Join(dir, "format.properties")
	if err := os.WriteFile(config, []byte(k.propertiesText(filepath.Join(dir, "data"))), 0o644); err != nil {
		return err
	}
	args := append(append([]string{}, java[1:]...), "kafka.tools.StorageTool", "format", "-t", newKafkaID(), "-c", config)
	if out, err := exec.CommandContext(ctx, java[0], args...).CombinedOutput(); err != nil {
		return fmt.Errorf("format kafka's data folder: %w\n%s", err, out)
	}
	return nil
}

// ready waits until this cluster, and no other on the same port, knows all its brokers.
func (k *kafkaSetup) ready(ctx context.Context, s *Server) (version string, err error) {
	c := &kafka.Client{Addr: kafka.TCP(s.Addr), Transport: &kafka.Transport{}}
	defer c.Transport.(*kafka.Transport).CloseIdleConnections()
	m, err := c.Metadata(ctx, &kafka.MetadataRequest{})
	if err != nil {
		return "", err
	}
	if m.ClusterID != k.clusterID {
		return "", fmt.Errorf("%w: cluster %s answers, not %s", errPortTaken, m.ClusterID, k.clusterID)
	}
	if len(m.Brokers) < k.brokers || m.Controller.Port == 0 {
		return "", fmt.Errorf("%d of %d brokers have joined", len(m.Brokers), k.brokers)
	}
	return cmp.Or(k.nativeVersion, s.imageTag()), partitionsReady(ctx, c, m.Topics)
}

// partitionsReady asks for the end of every partition: a restarted broker takes connections a little before it leads all
// its partitions again (its log says so, Kafka 4.1.0).
func partitionsReady(ctx context.Context, c *kafka.Client, topics []kafka.Topic) error {
	ask := map[string][]kafka.OffsetRequest{}
	for _, t := range topics {
		if t.Internal { // kafka-go does not know their leaders (v0.4.51 transport.go makeLayout), and asks any broker
			continue
		}
		for _, p := range t.Partitions {
			ask[t.Name] = append(ask[t.Name], kafka.LastOffsetOf(p.ID))
		}
	}
	if len(ask) == 0 {
		return nil
	}
	answer, err := c.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: ask})
	if err != nil {
		return err
	}
	for topic, partitions := range answer.Topics {
		for _, p := range partitions {
			if p.Error != nil {
				return fmt.Errorf("partition %d of %s: %w", p.Partition, topic, p.Error)
			}
		}
	}
	return nil
}

// container sets the same node up through the variables that Kafka's own image turns into properties.
func (k *kafkaSetup) container() containerSpec {
	env := map[string]string{"CLUSTER_ID": k.clusterID, "KAFKA_HEAP_OPTS": "-Xms128m -Xmx" + k.heap}
	if len(k.jvm) > 0 {
		env["KAFKA_OPTS"] = strings.Join(k.jvm, " ")
	}
	for _, p := range append(k.properties, "log.dirs=/tmp/kafka-data") {
		name, value, _ := strings.Cut(p, "=")
		env["KAFKA_"+strings.ToUpper(strings.ReplaceAll(name, ".", "_"))] = value
	}
	return containerSpec{env: env}
}
