package testenv

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// ctr is a server in a container.
type ctr struct {
	client client.APIClient
	id     string
	image  string

	mu   sync.Mutex
	gone chan struct{} // closed once the last start's run has ended; nil before the first
}

func (c *ctr) start(ctx context.Context) error {
	if _, err := c.client.ContainerStart(ctx, c.id, client.ContainerStartOptions{}); err != nil {
		return err
	}
	gone := make(chan struct{})
	c.mu.Lock()
	c.gone = gone
	c.mu.Unlock()
	go func() {
		defer close(gone)
		wait := c.client.ContainerWait(context.Background(), c.id, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
		select {
		case <-wait.Result:
		case <-wait.Error:
		}
	}()
	return nil
}

// stop lets the engine send the image's stop signal; past ctx the engine's kill follows.
func (c *ctr) stop(ctx context.Context) error {
	seconds := 25
	if end, ok := ctx.Deadline(); ok {
		seconds = max(0, min(seconds, int(time.Until(end).Seconds())-2))
	}
	_, _ = c.client.ContainerUnpause(ctx, c.id, client.ContainerUnpauseOptions{})
	_, err := c.client.ContainerStop(ctx, c.id, client.ContainerStopOptions{Timeout: &seconds})
	return err
}

func (c *ctr) kill() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, err := c.client.ContainerKill(ctx, c.id, client.ContainerKillOptions{Signal: "KILL"})
	if err != nil {
		if errdefs.IsConflict(err) { // what the engine answers for a container that does not run
			return errNotRunning
		}
		return err
	}
	select {
	case <-c.exited():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("container does not end: %w", ctx.Err())
	}
}

func (c *ctr) pause() error {
	_, err := c.client.ContainerPause(context.Background(), c.id, client.ContainerPauseOptions{})
	return err
}

func (c *ctr) resume() error {
	_, err := c.client.ContainerUnpause(context.Background(), c.id, client.ContainerUnpauseOptions{})
	return err
}

// exited is closed once the container has ended. Only a started server is asked.
func (c *ctr) exited() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gone
}

func (c *ctr) pid() int {
	got, err := c.client.ContainerInspect(context.Background(), c.id, client.ContainerInspectOptions{})
	if err != nil || got.Container.State == nil {
		return 0
	}
	return got.Container.State.Pid
}

func (c *ctr) logs() []byte {
	r, err := c.client.ContainerLogs(context.Background(), c.id, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: "2000"})
	if err != nil {
		return nil
	}
	defer r.Close()
	var text bytes.Buffer
	_, _ = stdcopy.StdCopy(&text, &text, r)
	return text.Bytes()
}

func (c *ctr) remove() error {
	_, err := c.client.ContainerRemove(context.Background(), c.id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// imageTag is the version of a server that does not tell it itself.
func (s *Server) imageTag() string {
	c, ok := s.inst.(*ctr)
	if !ok {
		return ""
	}
	return c.image[strings.LastIndex(c.image, ":")+1:]
}
