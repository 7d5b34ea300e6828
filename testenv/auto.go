package testenv

import (
	"context"
	"fmt"
	"sync"
)

// chooseBackend picks containers, processes, or for Auto one of them per component.
func chooseBackend(ctx context.Context, o Options, e *Env) (backend, error) {
	processes := &native{cache: e.cache}
	switch o.Mode {
	case Native:
		return processes, nil
	case Docker:
		d, err := openDocker(ctx, o, e.root)
		if err != nil {
			return nil, err
		}
		return d, d.sweepContainers(ctx)
	case Auto, "":
		d, err := openDocker(ctx, o, e.root)
		if err != nil {
			return processes, nil // no engine: the usual case, not worth a line
		}
		if err := d.reaches(ctx); err != nil {
			o.Log(err.Error() + ": servers run as processes")
			return processes, d.close()
		}
		return &auto{docker: d, native: processes, log: o.Log, chosen: map[string]backend{}}, d.sweepContainers(ctx)
	}
	return nil, fmt.Errorf("testenv mode %q is unknown: use auto, docker or native", o.Mode)
}

// auto runs a component as containers where the engine has its image, else as processes, and only where this system can do
// neither, pulls. Both kinds can be mixed, because both listen on this machine's loopback address.
type auto struct {
	docker *docker
	native *native
	log    func(string)

	mu     sync.Mutex
	chosen map[string]backend
}

func (a *auto) name() string { return "auto" }
func (a *auto) close() error { return a.docker.close() }

func (a *auto) choose(ctx context.Context, component string) (backend, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b := a.chosen[component]; b != nil {
		return b, nil
	}
	image, present, err := a.docker.image(ctx, component)
	if err != nil {
		return nil, err
	}
	var b backend = a.docker
	if !present {
		if _, err := readMachine(ctx); err == nil {
			a.log("the Docker engine has no image " + image + ": " + component + " runs as a process")
			b = a.native
		}
	}
	a.chosen[component] = b
	return b, nil
}

func (a *auto) launch(ctx context.Context, sp *spec, dir string) (instance, string, error) {
	b, err := a.choose(ctx, sp.component)
	if err != nil {
		return nil, "", err
	}
	return b.launch(ctx, sp, dir)
}

func (a *auto) tool(ctx context.Context, name string) ([]string, error) {
	component, _, err := toolOf(name)
	if err != nil {
		return nil, err
	}
	b, err := a.choose(ctx, component)
	if err != nil {
		return nil, err
	}
	return b.tool(ctx, name)
}
