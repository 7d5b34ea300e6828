package binlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
)

// Leased server ids come from this range, far from those that people choose.
const (
	firstLeasedID = 3_000_000_000
	lastLeasedID  = 4_294_967_294
)

// LeaseServerID returns the id with which to register as a replica: cfg's own,
// or where that is 0 a free one. Each reader of a binlog needs an id of its
// own: MariaDB throws out the older of two with the same one (error 4052), and
// MySQL 9.7.4 serves both without a word, so that nobody notices.
//
// The id is held by a user lock on a connection of its own until release is
// called; where that connection breaks it is taken again. An id that another
// reader has is an error that says who has it; the reader may be this
// process's predecessor, which the server has not missed yet, so it is worth
// trying again.
func LeaseServerID(ctx context.Context, cfg Config) (id uint32, release func(), err error) {
	sess, err := openSession(ctx, cfg, gateRead)
	if err != nil {
		return 0, nil, fmt.Errorf("find a server id: %w", err)
	}
	id, err = takeServerID(ctx, cfg, sess)
	if err != nil {
		sess.close()
		return 0, nil, err
	}
	hold, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { keepServerID(hold, cfg, sess, id) })
	return id, func() { cancel(); wg.Wait() }, nil
}

func serverIDLock(id uint32) string { return fmt.Sprintf("doubletap.server_id.%d", id) }

func takeServerID(ctx context.Context, cfg Config, s *session) (uint32, error) {
	used, err := usedServerIDs(ctx, s)
	if err != nil {
		return 0, fmt.Errorf("find out which server ids are in use at %s: %w", cfg.Addr, err)
	}
	if cfg.ServerID != 0 {
		return cfg.ServerID, claimServerID(ctx, s, cfg.ServerID, used)
	}
	for range 100 {
		id := uint32(firstLeasedID + rand.N[int64](lastLeasedID-firstLeasedID+1))
		if err := claimServerID(ctx, s, id, used); err == nil || ctx.Err() != nil || serverCode(err) != 0 {
			return id, err
		}
	}
	return 0, fmt.Errorf("no server id is free at %s; set one in the configuration", cfg.Addr)
}

// claimServerID takes the id's lock unless somebody uses the id.
func claimServerID(ctx context.Context, s *session, id uint32, used map[uint32]string) error {
	if by, ok := used[id]; ok {
		return fmt.Errorf("server id %d is in use by %s; choose another server_id, or leave it out to have one chosen", id, by)
	}
	got, err := s.lock(ctx, serverIDLock(id), 0)
	if err != nil {
		return fmt.Errorf("lock server id %d: %w", id, err)
	}
	if !got {
		return fmt.Errorf("server id %d is in use by another doubletap process, which holds its lock; choose another server_id, or leave it out to have one chosen", id)
	}
	return nil
}

// usedServerIDs returns the ids of the server and of all that read its binlog,
// each with who has it.
func usedServerIDs(ctx context.Context, s *session) (map[uint32]string, error) {
	vars, err := s.variables(ctx, "server_id")
	if err != nil {
		return nil, err
	}
	used := make(map[uint32]string)
	if id, err := strconv.ParseUint(vars["server_id"], 10, 32); err == nil {
		used[uint32(id)] = "the source itself"
	}
	rows, err := s.query(ctx, "SHOW REPLICAS")
	if serverCode(err) == codeSyntax { // a syntax error: MariaDB, and MySQL before 8.0.22
		rows, err = s.query(ctx, "SHOW SLAVE HOSTS")
	}
	if serverCode(err) == codeNotGranted {
		// MariaDB 11.8 asks for REPLICATION MASTER ADMIN, far more than a reader
		// needs. The lock keeps doubletap's own processes apart, and a random id is
		// hardly ever somebody else's.
		return used, nil
	}
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		id, err := strconv.ParseUint(r[0], 10, 32)
		if err != nil || len(r) < 3 {
			continue
		}
		host := strings.TrimSpace(r[1])
		if host == "" {
			host = "a host that does not name itself"
		}
		used[uint32(id)] = fmt.Sprintf("a replica or tailer on %s (see SHOW REPLICAS)", host)
	}
	return used, nil
}

// keepServerID keeps the lock until ctx ends.
func keepServerID(ctx context.Context, cfg Config, s *session, id uint32) {
	log := cfg.logger().With("server_id", id)
	attempt := 1
	for s == nil || pause(ctx, lockRefresh) {
		var ok bool
		var err error
		if s == nil {
			if s, err = openSession(ctx, cfg, gateRead); err == nil {
				if ok, err = s.lock(ctx, serverIDLock(id), 0); err == nil && !ok {
					log.Warn("another doubletap process uses this server id now; give one of them another server_id")
				}
			}
		} else if ok, err = s.holds(ctx, serverIDLock(id)); err == nil && !ok {
			_, err = s.lock(ctx, serverIDLock(id), 0)
		}
		if ctx.Err() != nil {
			break
		}
		if err == nil {
			attempt = 1
			continue
		}
		if s != nil {
			s.close()
			s = nil
		}
		in := reconnectIn(attempt)
		attempt++
		log.Warn("the connection that holds the server id is lost", "err", err, "in", in)
		if !pause(ctx, in) {
			break
		}
	}
	if s != nil {
		s.close()
	}
}
