package pipelinetest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/doubletap-cdc/doubletap/pipeline"
)

// Source is a pipeline.Source whose transactions are written by the test. Its
// GTIDs are "src:1", "src:2" and so on, and a position is the GTID of the newest
// transaction in it ("src:0": none). It works in a synctest bubble. All methods
// are safe for concurrent use; Fail is set before first use.
type Source struct {
	// Fail, if not nil, is called before each operation, with the GTID concerned;
	// its error is the operation's. It may block. The operations: start, check,
	// connect, and batch, before each piece of a transaction but the first, so
	// that an error cuts the transaction off in its middle.
	Fail func(op, gtid string) error

	mu     sync.Mutex
	txns   [][]pipeline.Batch
	purged int // transactions that are gone
	reason string
	grown  chan struct{} // closed at the next Commit; nil while nobody waits
}

var _ pipeline.Source = (*Source)(nil)

// Commit adds a transaction in the given pieces and returns its GTID. The pieces
// need no Txn, First or Last; without any it is a transaction without rows.
func (s *Source) Commit(pieces ...pipeline.Batch) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(pieces) == 0 {
		pieces = make([]pipeline.Batch, 1)
	}
	gtid := gtidOf(len(s.txns) + 1)
	for i := range pieces {
		pieces[i].Txn.GTID = gtid
		pieces[i].First, pieces[i].Last = i == 0, i == len(pieces)-1
	}
	s.txns = append(s.txns, pieces)
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	return gtid
}

// Purge removes the transactions up to a GTID, for the given reason: Check
// reports a gap for every position before it.
func (s *Source) Purge(through, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.purged, s.reason = mustNumber(through), reason
}

// Start implements pipeline.Source.
func (s *Source) Start(ctx context.Context, spec string) (pipeline.Position, error) {
	if err := errors.Join(ctx.Err(), s.fail("start", spec)); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch spec {
	case "current":
		return pipeline.Position(gtidOf(len(s.txns))), nil
	case "earliest":
		return pipeline.Position(gtidOf(s.purged)), nil
	}
	n, err := number(spec)
	if err != nil {
		return "", fmt.Errorf("%w: %w", pipeline.ErrFatal, err)
	}
	return pipeline.Position(gtidOf(n)), nil
}

// Check implements pipeline.Source.
func (s *Source) Check(ctx context.Context, p pipeline.Position) error {
	if err := errors.Join(ctx.Err(), s.fail("check", string(p))); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n, err := number(string(p))
	if err != nil {
		return err
	}
	if n < s.purged || n > len(s.txns) {
		return &pipeline.GapError{Reason: s.reason, Next: pipeline.Position(gtidOf(len(s.txns)))}
	}
	return nil
}

// Run implements pipeline.Source.
func (s *Source) Run(ctx context.Context, from pipeline.Position, fn func(context.Context, pipeline.Batch) error) error {
	if err := s.fail("connect", string(from)); err != nil {
		return err
	}
	n, err := number(string(from))
	if err != nil {
		return err
	}
	for {
		pieces, err := s.next(ctx, n)
		if err != nil {
			return err
		}
		n++
		for i, b := range pieces {
			if i > 0 {
				if err := s.fail("batch", b.Txn.GTID); err != nil {
					return err
				}
			}
			if err := fn(ctx, b); err != nil {
				return err
			}
		}
	}
}

// next waits for the transaction after the n-th.
func (s *Source) next(ctx context.Context, n int) ([]pipeline.Batch, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if n < s.purged {
			s.mu.Unlock()
			return nil, fmt.Errorf("%s was purged", gtidOf(n+1))
		}
		if n < len(s.txns) {
			defer s.mu.Unlock()
			return s.txns[n], nil
		}
		if s.grown == nil {
			s.grown = make(chan struct{})
		}
		grown := s.grown
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-grown:
		}
	}
}

// Advance implements pipeline.Source. It refuses to leave a transaction out.
func (s *Source) Advance(p pipeline.Position, gtids []string) (pipeline.Position, error) {
	n, err := number(string(p))
	if err != nil {
		return "", err
	}
	for _, g := range gtids {
		if g != gtidOf(n+1) {
			return "", fmt.Errorf("advance %s by %s: a transaction is left out or comes twice", gtidOf(n), g)
		}
		n++
	}
	return pipeline.Position(gtidOf(n)), nil
}

func (s *Source) fail(op, gtid string) error {
	if s.Fail == nil {
		return nil
	}
	return s.Fail(op, gtid)
}

func gtidOf(n int) string { return fmt.Sprintf("src:%d", n) }

func number(gtid string) (int, error) {
	text, ok := strings.CutPrefix(gtid, "src:")
	n, err := strconv.Atoi(text)
	if !ok || err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no position of this source", gtid)
	}
	return n, nil
}

func mustNumber(gtid string) int {
	n, err := number(gtid)
	if err != nil {
		panic(err)
	}
	return n
}

// Gate is a pipeline.Gate that the test opens and closes. It is open at first.
type Gate struct {
	mu     sync.Mutex
	held   chan struct{} // closed by Release; nil while the gate is open
	passed []string
}

var _ pipeline.Gate = (*Gate)(nil)

// Hold lets no transaction through until Release.
func (g *Gate) Hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held == nil {
		g.held = make(chan struct{})
	}
}

// Release opens the gate.
func (g *Gate) Release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.held != nil {
		close(g.held)
		g.held = nil
	}
}

// Passed returns the GTIDs that were let through, in order.
func (g *Gate) Passed() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.passed...)
}

// Wait implements pipeline.Gate.
func (g *Gate) Wait(ctx context.Context, t pipeline.Txn) error {
	for {
		g.mu.Lock()
		if g.held == nil {
			g.passed = append(g.passed, t.GTID)
			g.mu.Unlock()
			return nil
		}
		held := g.held
		g.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-held:
		}
	}
}
