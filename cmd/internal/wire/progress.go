package wire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/doubletap-cdc/doubletap/admin"
	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
	"github.com/doubletap-cdc/doubletap/watermark"
)

// conn is the connection to the Redis that has the watermarks.
func (a *App) conn(ctx context.Context) (redis.UniversalClient, error) {
	r := a.redis.Load()
	if r == nil {
		return nil, errors.New("this process is starting")
	}
	return r.Conn(ctx)
}

// progress reads how far the passes of all invalidators are.
func (a *App) progress(ctx context.Context) (admin.Progress, error) {
	c, err := a.conn(ctx)
	if err != nil {
		return nil, err
	}
	s, err := watermark.Read(ctx, c, a.Config.Source.Name)
	if err != nil {
		return nil, err
	}
	return passes{s}, nil
}

type passes struct{ watermark.State }

// Missing implements admin.Progress.
func (p passes) Missing(set gtid.Set, pass pipeline.Pass) []string {
	return p.State.Missing(set, watermark.Pass(pass))
}

// reader is one that remembers what it showed last.
type reader struct {
	pipeline.Reader
	mu    sync.Mutex
	shown gtid.Set
	asked time.Time // when the question was sent; zero before the first answer
}

func (r *reader) Ask(ctx context.Context) (pipeline.View, error) {
	asked := time.Now()
	v, err := r.Reader.Ask(ctx)
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.shown, r.asked = v.Shown, asked
	}
	return v, err
}

func (r *reader) last() (shown gtid.Set, asked time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown, r.asked
}

// standing judges which readers show everything that the second pass, of all
// invalidators, has gone past: what a server that does not would put into the
// cache is not deleted again before it is back. A watermark is compared with
// an answer to a later question only, so the judgement comes with the second
// look at the soonest.
type standing struct {
	mu     sync.Mutex
	second gtid.Set  // of all partitions together
	read   time.Time // when second was read; zero before the first time
	tried  time.Time // when it was tried
	behind map[string]bool
}

// readAgain is the least time between two looks at the watermarks.
const readAgain = time.Second

// judge returns the readers that lack something. Where Redis does not answer it
// is as before: nothing is cached then either.
func (s *standing) judge(readers []*reader, read func() (gtid.Set, error)) (behind map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.behind == nil {
		s.behind = map[string]bool{}
	}
	for _, r := range readers {
		if shown, asked := r.last(); !s.read.IsZero() && asked.After(s.read) {
			s.behind[r.Name()] = !shown.HasAll(s.second)
		}
	}
	if time.Since(s.tried) >= readAgain {
		s.tried = time.Now()
		if second, err := read(); err == nil {
			s.second, s.read = second, time.Now()
		}
	}
	return maps.Clone(s.behind)
}

// secondPass reads what the second pass has gone past in any partition.
func (a *App) secondPass(ctx context.Context) (all gtid.Set, err error) {
	c, err := a.conn(ctx)
	if err != nil {
		return all, err
	}
	fields, err := c.HGetAll(ctx, watermark.SetsKey(a.Config.Source.Name)).Result()
	if err != nil {
		return all, fmt.Errorf("read the watermarks: %w", err)
	}
	for i, n := 0, 1; i < n; i++ {
		text, ok := fields[strconv.Itoa(i)]
		if !ok {
			continue // nothing was posted there yet
		}
		p, err := watermark.ParseSets(text)
		if err != nil {
			return all, fmt.Errorf("read the watermark of partition %d: %w", i, err)
		}
		if i == 0 {
			n = p.Partitions
		}
		set, err := gtid.Parse(p.Second)
		if err != nil {
			return all, fmt.Errorf("read the watermark of partition %d: %w", i, err)
		}
		all.Union(set)
	}
	return all, nil
}
