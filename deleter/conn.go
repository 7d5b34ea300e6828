package deleter

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Conn returns the connection, connecting first where there is none yet, for what
// others keep in the same Redis. It ends with r: the caller does not close it.
// Its commands are not retried.
func (r *Redis) Conn(ctx context.Context) (redis.UniversalClient, error) { return r.client(ctx) }
