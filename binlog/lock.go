package binlog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// lockRefresh is how often a held lock is checked; every wait_timeout that
	// lets an application live is far above it.
	lockRefresh = 5 * time.Second
	// lockAsk is how long the server may hold one request for a lock.
	lockAsk = 2 * time.Second
	// standbyEvery is the time between two log lines of a standby.
	standbyEvery = time.Minute
)

// SourceLock is a lock held on the source by its own connection: at most one
// process has it, and the server gives it up when that connection ends.
type SourceLock struct {
	name   string // as the server knows it
	sess   *session
	cancel context.CancelFunc
	wg     sync.WaitGroup
	lost   chan struct{}
}

// Lock waits until this process is the only one that holds name on the source,
// so that a source and a log have one active tailer; the others stand by, with
// a log line each minute. It returns an error when ctx ends, or when the first
// connection cannot be made. Later trouble with the source is retried without
// end. The lock is one server's: it is lost in a failover, and says so.
//
// It is a convenience, not a fence: a process that was frozen notices the loss
// only when it runs again. Deletes are idempotent, so two tailers do no harm
// but work.
func Lock(ctx context.Context, cfg Config, name string) (*SourceLock, error) {
	sum := sha256.Sum256([]byte(name))
	key := "doubletap.tailer." + hex.EncodeToString(sum[:16]) // at most 64 characters are allowed
	log := cfg.logger().With("lock", name)
	sess, err := openSession(ctx, cfg, gateRead)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", name, err)
	}
	var told time.Time
	for attempt := 1; ; {
		got, err := false, error(nil)
		if sess == nil {
			sess, err = openSession(ctx, cfg, gateRead)
		}
		if err == nil {
			got, err = sess.lock(ctx, key, lockAsk)
		}
		switch {
		case got:
			return holdLock(cfg, key, name, sess), nil
		case ctx.Err() != nil:
			if sess != nil {
				sess.close()
			}
			return nil, fmt.Errorf("lock %q: %w", name, context.Cause(ctx))
		case err != nil:
			if sess != nil {
				sess.close()
				sess = nil
			}
			in := reconnectIn(attempt)
			attempt++
			log.Warn("asking for the source's lock again", "err", err, "in", in)
			pause(ctx, in)
		case time.Since(told) >= standbyEvery:
			attempt, told = 1, time.Now()
			log.Info("standing by: another tailer holds the lock of this source and log")
		}
	}
}

// lock asks for a user lock and says whether the session has it now.
func (s *session) lock(ctx context.Context, key string, wait time.Duration) (bool, error) {
	v, err := s.value(ctx, fmt.Sprintf("SELECT GET_LOCK(%s, %d)", quote(key), int(wait.Seconds())))
	if err == nil && v == "" {
		err = errors.New("GET_LOCK: the server gave no answer")
	}
	return v == "1", err
}

// holds says whether the session still has the lock.
func (s *session) holds(ctx context.Context, key string) (bool, error) {
	v, err := s.value(ctx, fmt.Sprintf("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", quote(key)))
	return v == "1", err
}

func holdLock(cfg Config, key, name string, sess *session) *SourceLock {
	ctx, cancel := context.WithCancel(context.Background())
	l := &SourceLock{name: key, sess: sess, cancel: cancel, lost: make(chan struct{})}
	l.wg.Go(func() {
		for pause(ctx, lockRefresh) {
			ok, err := sess.holds(ctx, key)
			if ok || ctx.Err() != nil {
				continue
			}
			cfg.logger().Warn("the lock on the source is lost", "lock", name, "err", err)
			close(l.lost)
			return
		}
	})
	return l
}

// Lost is closed once the lock is known to be lost, within about 10 seconds.
// After Release it stays open.
func (l *SourceLock) Lost() <-chan struct{} { return l.lost }

// Release gives the lock back. It may be called more than once.
func (l *SourceLock) Release() {
	l.cancel()
	l.wg.Wait()
	l.sess.close()
}
