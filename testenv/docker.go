package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tclog "github.com/testcontainers/testcontainers-go/log"
)

// images are the images of each component: the one to pull, which a variable (DOUBLETAP_IMAGE_MYSQL and so on) replaces,
// and the one that the command mkimages makes.
var images = map[string]string{
	"mysql":   "mysql:8.4",
	"mariadb": "mariadb:11.8",
	"kafka":   "apache/kafka:" + kafkaVersion,
	"redis":   "redis:8",
	"valkey":  "valkey/valkey:9",
}

func imageVariable(component string) string { return "DOUBLETAP_IMAGE_" + strings.ToUpper(component) }

func localImage(component string) string { return "doubletap-testenv/" + component + ":local" }

// docker runs servers as containers on the engine's host network. Kafka, Redis Cluster, Sentinel and replication hand out
// their own addresses, which so are the same inside and outside, and stay the same over restarts.
type docker struct {
	client client.APIClient
	log    func(string)
	root   string // labels this environment's containers
	noPull bool
}

// ownerLabel holds the data folder of the environment that a container belongs to.
const ownerLabel = "doubletap.testenv.root"

// ryukImage is testcontainers' own cleaner, at the version that testcontainers-go v0.44.0 would pull.
const ryukImage = "testcontainers/ryuk:0.14.0"

// openDocker connects to the engine.
func openDocker(ctx context.Context, o Options, root string) (*docker, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// testcontainers reads its settings once, so this comes before its first use: without its image, the cleaner would be
	// pulled. What it would clean, our next Open sweeps.
	if os.Getenv("TESTCONTAINERS_RYUK_DISABLED") == "" && !hasRyuk(ctx) {
		if err := os.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true"); err != nil {
			return nil, err
		}
	}
	tclog.SetDefault(quiet{})
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return nil, fmt.Errorf("no Docker engine found: start one and set DOCKER_HOST if it is not at the usual place, or use TESTENV=native (%w)", err)
	}
	d := &docker{client: provider.Client(), log: o.Log, root: root, noPull: o.NoDownload}
	if _, err := d.client.Ping(ctx, client.PingOptions{}); err != nil {
		return nil, fmt.Errorf("the Docker engine does not answer: %w: start it, or use TESTENV=native", err)
	}
	return d, nil
}

func hasRyuk(ctx context.Context) bool {
	c, err := client.New(client.FromEnv)
	if err != nil {
		return false
	}
	defer c.Close()
	_, err = c.ImageInspect(ctx, ryukImage)
	return err == nil
}

// quiet drops testcontainers' own lines: ours say what is started.
type quiet struct{}

func (quiet) Printf(string, ...any) {}

// reaches tells whether the engine's host network is this process's: the engine is on this machine, and neither in a
// virtual machine, nor outside the container that this process is in, nor rootless.
func (d *docker) reaches(ctx context.Context) error {
	if u, err := url.Parse(d.client.DaemonHost()); err == nil && u.Scheme == "tcp" {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return errors.New("the Docker engine is on another machine")
		}
	}
	info, err := d.client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return err
	}
	for _, option := range info.Info.SecurityOptions {
		if strings.Contains(option, "name=rootless") {
			return errors.New("the Docker engine is rootless: its host network is not this machine's")
		}
	}
	if name, err := os.Hostname(); err == nil && info.Info.Name != name {
		return fmt.Errorf("the Docker engine's host is %s, not this machine", info.Info.Name)
	}
	return nil
}

func (d *docker) name() string { return "docker" }
func (d *docker) close() error { return d.client.Close() }

// image chooses the image of a component. Present says that no pull is needed.
func (d *docker) image(ctx context.Context, component string) (name string, present bool, err error) {
	candidates := []string{os.Getenv(imageVariable(component))}
	if candidates[0] == "" {
		candidates = []string{images[component], localImage(component)}
	}
	for _, name := range candidates {
		_, err := d.client.ImageInspect(ctx, name)
		if err == nil {
			return name, true, nil
		}
		if !errdefs.IsNotFound(err) {
			return "", false, fmt.Errorf("look for image %s: %w", name, err)
		}
	}
	return candidates[0], false, nil
}

// launch creates a container; a missing image is pulled.
func (d *docker) launch(ctx context.Context, sp *spec, _ string) (instance, string, error) {
	image, present, err := d.image(ctx, sp.component)
	if err != nil {
		return nil, "", err
	}
	if !present {
		if d.noPull {
			return nil, "", fmt.Errorf("no image %s: %w", image, errNotCached)
		}
		d.log("pulling image " + image)
	}
	var files []testcontainers.ContainerFile
	for name, text := range sp.files {
		files = append(files, testcontainers.ContainerFile{Reader: strings.NewReader(text), ContainerFilePath: "/data/" + name, FileMode: 0o666})
	}
	c, err := testcontainers.GenericContainer(ctx, testcontainers.GenericContainerRequest{
		ProviderType: testcontainers.ProviderDocker,
		Logger:       quiet{},
		ContainerRequest: testcontainers.ContainerRequest{
			Image: image, Env: sp.container.env, Files: files,
			Cmd:                append(append([]string{}, sp.container.cmd...), sp.args...),
			Labels:             map[string]string{ownerLabel: d.root},
			HostConfigModifier: func(h *container.HostConfig) { h.NetworkMode = "host" },
		},
	})
	if err != nil {
		if !present {
			err = fmt.Errorf("%w: pull it, set %s, or build one with: go run ./testenv/mkimages %s", err, imageVariable(sp.component), sp.component)
		}
		return nil, "", fmt.Errorf("create a container of %s: %w", image, err)
	}
	return &ctr{client: d.client, id: c.GetContainerID(), image: image}, d.name(), nil
}

// tool runs in a container of the component's image, by the docker command.
func (d *docker) tool(ctx context.Context, name string) ([]string, error) {
	cli, err := exec.LookPath("docker")
	if err != nil {
		return nil, fmt.Errorf("no docker command here, which runs %s: install docker-cli, or use TESTENV=native", name)
	}
	component, path, err := toolOf(name)
	if err != nil {
		return nil, err
	}
	program := name
	if path == "" {
		program = "/opt/kafka/bin/" + name + ".sh"
	}
	image, _, err := d.image(ctx, component)
	return []string{cli, "run", "--rm", "--interactive", "--network", "host", "--entrypoint", program, image}, err
}

// sweepContainers removes containers whose owner died.
func (d *docker) sweepContainers(ctx context.Context) error {
	list, err := d.client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: client.Filters{}.Add("label", ownerLabel)})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list.Items {
		if root := c.Labels[ownerLabel]; root != d.root && !rootInUse(root) {
			_, err := d.client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) { // another process removes it
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
