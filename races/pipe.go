package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/testenv/commands"
	"github.com/doubletap-cdc/doubletap/watermark"
)

const keysYAML = `version: 1
keys:
  - name: plain
    table: races.item
    key: "plain:{id}"
  - name: lease
    table: races.item
    key: "lease:{id}"
    lease: true
`

// pipe is doubletap itself: its commands, as a user runs them.
type pipe struct {
	w      *world
	config string

	mu  sync.Mutex
	all []*commands.Process

	marks   marks
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (p *pipe) start(ctx context.Context) error {
	log := "embedded: {dir: ./log}"
	names := []string{commands.Invalidator}
	if p.w.broker != nil {
		log = fmt.Sprintf("kafka: {brokers: [%q], topic: doubletap.races, partitions: 4}", p.w.broker.Addr)
		names = []string{commands.Tailer, commands.Invalidator, commands.Invalidator}
	}
	if _, err := p.w.file("keys.yaml", keysYAML); err != nil {
		return err
	}
	var err error
	p.config, err = p.w.file("doubletap.yaml", fmt.Sprintf(`source: {name: races, addr: %q, user: root, start: current}
log: {%s}
redis: {addrs: [%q]}
keys: keys.yaml
second_delete: {fill: %s, readers: [%q, %q]}
`, p.w.source.Addr, log, p.w.server.Addr, p.w.fill, p.w.source.Addr, p.w.replica.Addr))
	if err != nil {
		return err
	}
	for _, name := range names {
		pr, err := p.command(name)
		if err != nil {
			return err
		}
		p.all = append(p.all, pr)
	}
	for _, pr := range p.all {
		if err := pr.Ready(ctx); err != nil {
			return err
		}
	}
	watching, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.marks.changed = make(chan struct{})
	p.running.Go(func() { p.watch(watching) })
	// The first start sweeps everything twice; it is done when the second pass is
	// past all that there was.
	executed, err := p.w.executed(ctx)
	if err != nil {
		return err
	}
	ctx, cancel = context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return wrap("wait for the pipeline's first watermark", p.quiet(ctx, done{executed: executed}))
}

func (p *pipe) command(name string) (*commands.Process, error) {
	return commands.Serve(commands.Spec{Path: filepath.Join(p.w.dir, name), Args: []string{"-config", p.config}})
}

// marks is how far the passes were when they were last asked.
type marks struct {
	mu      sync.Mutex
	state   watermark.State
	changed chan struct{} // closed at the next change
}

// watch reads the watermarks that the pipeline publishes to Redis, every 20 ms.
func (p *pipe) watch(ctx context.Context) {
	for pause(ctx, 20*time.Millisecond) == nil {
		s, err := watermark.Read(ctx, p.w.redis, "races")
		if err != nil {
			continue
		}
		p.marks.mu.Lock()
		p.marks.state = s
		close(p.marks.changed)
		p.marks.changed = make(chan struct{})
		p.marks.mu.Unlock()
	}
}

// quiet waits until the second pass of every partition is past d.
func (p *pipe) quiet(ctx context.Context, d done) error {
	want, err := gtid.Parse(d.executed)
	if err != nil {
		return err
	}
	for {
		p.marks.mu.Lock()
		state, changed := p.marks.state, p.marks.changed
		p.marks.mu.Unlock()
		if state.Covers(want, watermark.Second) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// killOne kills one of the commands as kill -9 does, and starts it again.
func (p *pipe) killOne(rng *rand.Rand) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := rng.IntN(len(p.all))
	p.all[i].Kill()
	p.w.kills.Add(1)
	pr, err := p.command(p.all[i].Name())
	if err != nil {
		return err
	}
	p.all[i] = pr
	return nil
}

func (p *pipe) stop() error {
	if p.cancel != nil {
		p.cancel()
		p.running.Wait()
	}
	var errs []error
	for _, pr := range p.all {
		pr.Terminate()
	}
	for _, pr := range p.all {
		errs = append(errs, pr.Stop())
	}
	return errors.Join(errs...)
}
