package pipelinetest

import (
	"context"
	"errors"
	"sync"

	"github.com/doubletap-cdc/doubletap/gtid"
	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Server is a pipeline.Reader in memory. It is safe for concurrent use.
type Server struct {
	name string

	mu     sync.Mutex
	server string
	shown  gtid.Set
	less   *gtid.Set // what it says it shows; nil: what it shows
	down   bool
	asks   int
}

var _ pipeline.Reader = (*Server)(nil)

// NewServer returns a server that shows a GTID set. Its identity is its name.
func NewServer(name, shown string) *Server {
	return &Server{name: name, server: name, shown: mustParse(shown)}
}

func mustParse(text string) gtid.Set {
	s, err := gtid.Parse(text)
	if err != nil {
		panic(err)
	}
	return s
}

// Show replaces what the server shows.
func (s *Server) Show(shown string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown, s.less = mustParse(shown), nil
}

// Admit makes the server say that it shows only some of what it does, as a
// server may that cannot say it exactly. The next Show ends it.
func (s *Server) Admit(shown string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	less := mustParse(shown)
	s.less = &less
}

// Become makes another server answer.
func (s *Server) Become(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = server
}

// Down makes it answer no more, or again.
func (s *Server) Down(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// Asks returns how often it was asked.
func (s *Server) Asks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asks
}

// Name implements pipeline.Reader.
func (s *Server) Name() string { return s.name }

// Ask implements pipeline.Reader.
func (s *Server) Ask(ctx context.Context) (pipeline.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asks++
	if s.down {
		return pipeline.View{}, errors.New("connection refused")
	}
	v := pipeline.View{Server: s.server, Shown: s.shown, Written: s.shown}
	if s.less != nil {
		v.Shown = *s.less
	}
	return v, ctx.Err()
}
