package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// kafkaVersion and log4jVersion are what the pom below asks for: Kafka 4.1 logs through slf4j, and brings no binding for it.
const kafkaVersion, log4jVersion = "4.1.0", "2.24.3"

const kafkaPom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
 <modelVersion>4.0.0</modelVersion>
 <groupId>doubletap.testenv</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
 <dependencies>
  <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
  <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>` + log4jVersion + `</version></dependency>
 </dependencies>
</project>
`

// kafkaJava returns the command line up to the main class: a JVM with Kafka's jars.
func (n *native) kafkaJava(ctx context.Context) ([]string, stamp, error) {
	java, err := n.cache.java(ctx)
	if err != nil {
		return nil, stamp{}, err
	}
	root, st, err := n.cache.folder(ctx, "kafka", kafkaPom, func(ctx context.Context, dir string) (stamp, error) {
		return stamp{Version: kafkaVersion}, n.cache.kafkaJars(ctx, dir)
	})
	if err != nil {
		return nil, st, err
	}
	return append(java, "-cp", filepath.Join(root, "lib", "*")), st, nil
}

// kafkaJars lets Maven resolve Kafka's dependencies, with its user's own settings (mirrors, proxies).
func (c *cache) kafkaJars(ctx context.Context, dir string) error {
	mvn, err := c.maven(ctx)
	if err != nil {
		return err
	}
	pom := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(pom, []byte(kafkaPom), 0o644); err != nil {
		return err
	}
	c.log("kafka: resolving " + kafkaVersion + " with Maven, about 43 MB")
	stop := c.reportGrowth(dir, "kafka")
	defer stop()
	args := append(mvn[1:], "-B", "-f", pom, "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "lib"))
	out, err := exec.CommandContext(ctx, mvn[0], args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("resolve Kafka's jars: %w; Maven says:\n%s", err, lastBytes(out, 2000))
	}
	if jars, _ := filepath.Glob(filepath.Join(dir, "lib/kafka_*.jar")); len(jars) == 0 {
		return errors.New("resolve Kafka's jars: Maven copied none")
	}
	return nil
}

// reportGrowth prints now and then how much has arrived in dir, until stop is called.
func (c *cache) reportGrowth(dir, title string) (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(3 * time.Second):
			}
			var size int64
			files, _ := filepath.Glob(filepath.Join(dir, "lib", "*"))
			for _, f := range files {
				if info, err := os.Stat(f); err == nil {
					size += info.Size()
				}
			}
			c.log(fmt.Sprintf("%s: %.0f MB copied", title, float64(size)/1e6))
		}
	}()
	return func() { close(done) }
}

func lastBytes(text []byte, n int) []byte { return text[max(0, len(text)-n):] }

var javaVersion = regexp.MustCompile(`version "(\d+)`)

// java returns the machine's Java where it is 17 or newer, else one from Debian packages.
func (c *cache) java(ctx context.Context) ([]string, error) {
	candidates := []string{"java"}
	if home := os.Getenv("JAVA_HOME"); home != "" {
		candidates = []string{filepath.Join(home, "bin/java"), "java"}
	}
	for _, java := range candidates {
		out, err := exec.CommandContext(ctx, java, "-version").CombinedOutput()
		if m := javaVersion.FindSubmatch(out); err == nil && m != nil {
			if major, _ := strconv.Atoi(string(m[1])); major >= 17 {
				return []string{java}, nil
			}
		}
	}
	root, _, err := c.packaged(ctx, "jre")
	if err != nil {
		return nil, fmt.Errorf("no Java 17 or newer here, which Kafka needs: %w", err)
	}
	return packagedJava(root)
}

// packagedJava finds the launcher in a JRE's folder. Called through the loader it still finds its own libraries: it looks
// beside libjli.so, not only beside the program.
func packagedJava(root string) ([]string, error) {
	homes, _ := filepath.Glob(filepath.Join(root, "usr/lib/jvm/java-*/bin/java"))
	if len(homes) == 0 {
		return nil, fmt.Errorf("no java in %s: remove that folder, it will be unpacked again", root)
	}
	rel, err := filepath.Rel(root, homes[0])
	if err != nil {
		return nil, err
	}
	return program(root, "java", rel)
}

// maven returns the machine's mvn, or its classes from Debian packages run by java.
func (c *cache) maven(ctx context.Context) ([]string, error) {
	if mvn, err := exec.LookPath("mvn"); err == nil {
		return []string{mvn}, nil
	}
	return nil, errors.New("no mvn here: install the package maven")
}
