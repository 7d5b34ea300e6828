package cache

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// A node that did not answer this often in a row is left alone for a while, and
// then asked by one caller: so an outage does not cost each call a time-out.
const (
	tripAfter = 5
	openFor   = 500 * time.Millisecond
)

// breakers has a breaker for each node of a Cluster by address, and for each other
// thing that an outage can make slow. Its zero value is ready.
type breakers struct {
	mu    sync.Mutex
	nodes map[string]*gobreaker.CircuitBreaker[struct{}]
}

// errLeft says that a command failed because its caller had gone: it says nothing
// about the node.
var errLeft = errors.New("the caller has gone")

func (b *breakers) of(addr string) *gobreaker.CircuitBreaker[struct{}] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes == nil {
		b.nodes = map[string]*gobreaker.CircuitBreaker[struct{}]{}
	}
	if b.nodes[addr] == nil {
		b.nodes[addr] = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Timeout:      openFor,
			ReadyToTrip:  func(n gobreaker.Counts) bool { return n.ConsecutiveFailures >= tripAfter },
			IsExcluded:   func(err error) bool { return errors.Is(err, errLeft) },
			IsSuccessful: answered,
		})
	}
	return b.nodes[addr]
}

// answered reports whether the server said something, be it an error.
func answered(err error) bool {
	_, reply := errors.AsType[redis.Error](err)
	return err == nil || reply
}

// guard calls f unless the node is being left alone. caller is the context that f's
// own was made from.
func (b *breakers) guard(addr string, caller context.Context, f func() error) error { //nolint:revive // the second context is only asked whether it ended
	_, err := b.of(addr).Execute(func() (struct{}, error) {
		err := f()
		if !answered(err) && caller.Err() != nil {
			err = errors.Join(errLeft, err)
		}
		return struct{}{}, err
	})
	return err
}

// rejected reports whether guard has not called f.
func rejected(err error) bool {
	return errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests)
}
