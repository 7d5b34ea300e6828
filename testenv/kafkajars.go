package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
  <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>` + kafkaVersion + `</version></dependency>
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
	root, st, err := n.kafkaFolder(ctx)
	if err != nil {
		return nil, st, err
	}
	return append(java, "-cp", filepath.Join(root, "lib", "*")), st, nil
}

// kafkaFolder returns the folder whose lib holds Kafka's jars.
func (n *native) kafkaFolder(ctx context.Context) (string, stamp, error) {
	return n.cache.folder(ctx, "kafka", kafkaPom, func(ctx context.Context, dir string) (stamp, error) {
		return stamp{Version: kafkaVersion}, n.cache.kafkaJars(ctx, dir)
	})
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
	c.log("kafka: resolving " + kafkaVersion + " with Maven, about 55 MB")
	args := append(mvn[1:], "-B", "-f", pom, "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "lib"))
	cmd := exec.CommandContext(ctx, mvn[0], args...)
	out := &mavenOutput{log: c.log, next: time.Now().Add(2 * time.Second)}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("resolve Kafka's jars: %w; Maven says:\n%s", err, lastBytes(out.text, 2000))
	}
	if jars, _ := filepath.Glob(filepath.Join(dir, "lib/kafka_*.jar")); len(jars) == 0 {
		return errors.New("resolve Kafka's jars: Maven copied none")
	}
	return nil
}

// mavenOutput keeps what Maven prints and reports now and then how many files it has fetched.
type mavenOutput struct {
	log  func(string)
	text []byte
	next time.Time
}

func (m *mavenOutput) Write(p []byte) (int, error) {
	m.text = append(m.text, p...)
	if time.Now().After(m.next) {
		m.next = time.Now().Add(2 * time.Second)
		m.log(fmt.Sprintf("kafka: Maven has fetched %d files", bytes.Count(m.text, []byte("Downloaded from "))))
	}
	return len(p), nil
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
	component := "jre"
	if _, err := exec.LookPath("mvn"); err != nil {
		component = "maven" // which brings a JRE, so that one download serves both
	}
	root, _, err := c.packaged(ctx, component)
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

// maven returns the command line of the machine's Maven, or of one from Debian packages.
func (c *cache) maven(ctx context.Context) ([]string, error) {
	if mvn, err := exec.LookPath("mvn"); err == nil {
		return []string{mvn}, nil
	}
	root, _, err := c.packaged(ctx, "maven")
	if err != nil {
		return nil, fmt.Errorf("no mvn here, which fetches Kafka: %w", err)
	}
	java, err := c.java(ctx)
	if err != nil {
		return nil, err
	}
	return packagedMaven(java, root)
}

// packagedMaven runs Maven's classes as its script would. A JVM from packages has no certificates, which only an installed
// system makes: it gets the machine's.
func packagedMaven(java []string, root string) ([]string, error) {
	home := filepath.Join(root, "usr/share/maven")
	boot, _ := filepath.Glob(filepath.Join(home, "boot/plexus-classworlds*.jar"))
	if len(boot) == 0 {
		return nil, fmt.Errorf("no Maven in %s: remove that folder, it will be unpacked again", root)
	}
	args := slices.Concat(java, []string{
		"-classpath", boot[0], "-Dclassworlds.conf=" + filepath.Join(home, "bin/m2.conf"), "-Dmaven.home=" + home,
		"-Dlibrary.jansi.mode=off", "-Dmaven.multiModuleProjectDirectory=" + root,
	})
	store, err := trustStore(root)
	if err != nil {
		return nil, err
	}
	args = append(args, "-Djavax.net.ssl.trustStore="+store, "-Djavax.net.ssl.trustStorePassword="+trustStorePassword)
	return append(args, "org.codehaus.plexus.classworlds.launcher.Launcher"), nil
}
